"""Arithmetic expressions over INDI values, with the operators and functions of indi_eval."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from indifast.cli.toolkit.failures import ToolError
from indifast.cli.toolkit.patterns import splits

Values: TypeAlias = "Callable[[str], float]"
"""Returns the value of an operand, which is named `device.property.member`."""
Node: TypeAlias = "Callable[[Values], float]"

_TOKEN = re.compile(
    r'\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)|"(?P<operand>[^"]*)"|(?P<word>[A-Za-z]\w*)'
    r"|(?P<sign>&&|\|\||[<>=!]=|[-+*/<>!(),]))"
)
_NAME = re.compile(r"'([^']+)'|\b([A-Za-z]\w*(?: \w+)*(?:\.\w+(?: \w+)*)+\.\w+)")
"""A name without its quotes, or with the wrong ones."""

_LEVELS: list[dict[str, Callable[[float, float], float]]] = [
    {"==": operator.eq, "!=": operator.ne},
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": lambda a, b: _divide(a, b)},
]
"""Binary operators that always evaluate both operands, by level of precedence, loosest first."""
_DEPTH = 100


def _divide(a: float, b: float) -> float:
    """Divide as the processor does: infinity or nan where Python raises."""
    if b:
        return a / b
    return math.nan if not a or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _total(function: Callable[..., float]) -> Callable[..., float]:
    """Return a function that returns infinity or nan where the given one raises."""

    def total(*arguments: float) -> float:
        try:
            result = function(*arguments)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan
        return result if isinstance(result, float | int) else math.nan

    return total


def _logarithm(base: Callable[[float], float]) -> Callable[[float], float]:
    return lambda value: -math.inf if value == 0 else base(value)


FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    "sin": (1, math.sin), "cos": (1, math.cos), "tan": (1, math.tan), "asin": (1, math.asin), "acos": (1, math.acos),
    "atan": (1, math.atan), "atan2": (2, math.atan2), "abs": (1, abs), "degrad": (1, math.radians),
    "raddeg": (1, math.degrees), "floor": (1, math.floor), "log": (1, _logarithm(math.log)),
    "log10": (1, _logarithm(math.log10)), "exp": (1, math.exp), "sqrt": (1, math.sqrt), "pow": (2, math.pow),
}  # fmt: skip
"""Functions by name, each with the number of its arguments."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression and the operands it needs, in order of appearance."""

    text: str
    operands: tuple[str, ...]
    node: Node

    def value(self, values: Values) -> float:
        """Return the value of the expression; comparisons and logic give 1 or 0."""
        return float(self.node(values))


def parse_expression(text: str) -> Expression:
    """Parse an expression.

    Raises:
        ToolError: The text is not an expression; the message says where.
    """
    try:
        return _parse(text)
    except ToolError as error:
        if meant := with_quotes(text):
            raise ToolError(f"operands have quotes of their own, inside those of the shell: '{meant}'") from None
        if '"' in text or not re.search(r"[A-Za-z]\w*\.\w", text):
            raise
        raise ToolError(f"{error}; operands are quoted: '\"device.property.member\"'") from None


def with_quotes(text: str) -> str | None:
    """Return an expression with quotes around what looks like an operand; None if that does not make it valid."""
    quoted = _NAME.sub(lambda match: f'"{match[1] or match[2]}"', text)
    if '"' in text or quoted == text:
        return None
    try:
        _parse(quoted)
    except ToolError:
        return None
    return quoted


def _parse(text: str) -> Expression:
    parser = _Parser(text)
    node = parser.either()
    if parser.token is not None:
        raise parser.error("an operator")
    return Expression(text, tuple(dict.fromkeys(parser.operands)), node)


class _Parser:
    """Recursive descent parser: one method per level of precedence, as in C."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.operands: list[str] = []
        self.position = self.begin = self.depth = 0
        self.kind = ""
        self.token: str | None = None
        self.advance()

    def advance(self) -> None:
        """Go to the next token; at the end, `token` is None."""
        rest = self.text[self.position :]
        self.begin = self.position + len(rest) - len(rest.lstrip())
        if not rest.strip():
            self.token, self.kind = None, "end"
            return
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            raise self.error("an operator, a number, or a quoted operand")
        self.position = match.end()
        assert match.lastgroup is not None
        self.kind, self.token = match.lastgroup, match[match.lastgroup]

    def error(self, expected: str) -> ToolError:
        found = repr(self.text[self.begin : self.begin + 20]) if self.begin < len(self.text) else "its end"
        return ToolError(f"the expression is invalid at {found}: {expected} is expected there")

    def takes(self, *signs: str) -> str | None:
        """Consume and return the next token if it is one of the signs; otherwise return None."""
        if self.kind == "sign" and self.token in signs:
            sign = self.token
            self.advance()
            return sign
        return None

    def either(self) -> Node:
        node = self.both()
        while self.takes("||"):
            node = _either(node, self.both())
        return node

    def both(self) -> Node:
        node = self.binary(0)
        while self.takes("&&"):
            node = _both(node, self.binary(0))
        return node

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.unary()
        node = self.binary(level + 1)
        while sign := self.takes(*_LEVELS[level]):
            node = _apply(_LEVELS[level][sign], node, self.binary(level + 1))
        return node

    def unary(self) -> Node:
        self.depth += 1
        if self.depth > _DEPTH:
            raise ToolError(f"the expression is nested more than {_DEPTH} levels deep")
        try:
            if self.takes("!"):
                return _apply(operator.not_, self.unary())
            if self.takes("-"):
                return _apply(operator.neg, self.unary())
            if self.takes("+"):
                return self.unary()
            return self.primary()
        finally:
            self.depth -= 1

    def primary(self) -> Node:
        kind, token = self.kind, self.token
        if self.takes("("):
            node = self.either()
            if not self.takes(")"):
                raise self.error("a closing bracket")
            return node
        if kind == "number":
            assert token is not None
            self.advance()
            return _constant(float(token))
        if kind == "operand":
            assert token is not None
            if not splits(token) or "*" in token:
                raise ToolError(f'"{token}" is not an operand: write "device.property.member"')
            self.operands.append(token)
            self.advance()
            return lambda values: values(token)
        if token == "pi":
            self.advance()
            return _constant(math.pi)
        if kind == "word":
            return self.call()
        raise self.error("a number, a function, or a quoted operand")

    def call(self) -> Node:
        if self.token not in FUNCTIONS:
            raise ToolError(f"unknown function {self.token!r}; known: pi, {', '.join(FUNCTIONS)}")
        name = self.token
        count, function = FUNCTIONS[name]
        self.advance()
        if not self.takes("("):
            raise self.error("an opening bracket")
        arguments = [self.either()]
        while self.takes(","):
            arguments.append(self.either())
        if not self.takes(")"):
            raise self.error("a closing bracket")
        if len(arguments) != count:
            raise ToolError(f"{name} takes {count} argument{'s' if count > 1 else ''}, not {len(arguments)}")
        return _apply(function, *arguments)


def _constant(value: float) -> Node:
    return lambda _: value


def _apply(function: Callable[..., float], *nodes: Node) -> Node:
    safe = _total(function)
    return lambda values: safe(*[node(values) for node in nodes])


def _either(left: Node, right: Node) -> Node:
    return lambda values: bool(left(values)) or bool(right(values))


def _both(left: Node, right: Node) -> Node:
    return lambda values: bool(left(values)) and bool(right(values))
