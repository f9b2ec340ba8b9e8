"""`indifast eval`: evaluate an expression of property values, or wait until it is true."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from typing import Any

from indifast.cli.arguments import Parser, number
from indifast.cli.toolkit.expression import Expression, parse_expression, with_quotes
from indifast.cli.toolkit.failures import Status, ToolError
from indifast.cli.toolkit.following import add_no_messages, messages
from indifast.cli.toolkit.patterns import ATTRIBUTES, Pattern, splits
from indifast.cli.toolkit.session import add_server_options, connected, run
from indifast.client import IPyClient, getfloat
from indifast.client.events import defVector, setVector
from indifast.protocol.vocabulary import STATES

DESCRIPTION = """\
Evaluate an expression of values and constants. Arguments and output are those of indi_eval.

Operands are quoted: "device.property.member", or _STATE (0 Idle, 1 Ok, 2 Busy, 3 Alert) or _TS (seconds since 1970) in
place of the member. Switches are 0 or 1, lights 0 to 3, texts the number they hold. Operators: ! + - * / && || > >= ==
!= < <= ( ). Functions: pi sin cos tan asin acos atan atan2(y,x) abs degrad raddeg floor log log10 exp sqrt pow(x,y)."""

EXAMPLES = """\
examples:
  indifast eval -f '"CCD Simulator.CCD_INFO.CCD_MAX_X" / 2'
  indifast eval '"Mount.TELESCOPE_PARK.PARK" == 1' || echo "the mount is not parked"
  indifast eval -t 0 -wo 'abs("CCD Simulator.CCD_TEMPERATURE.CCD_TEMPERATURE_VALUE" + 10) < 0.5'

exit status: 0 true (not 0); 1 false; 2 no server, an unknown operand, or wrong arguments; 3 -w: not true in time"""

_STATES = {state: number for number, state in enumerate(STATES)}


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    return run("indifast eval", parser().parse_args(arguments), _eval)


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast eval", DESCRIPTION, EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="EXPRESSION", help="in quotes")
    parser.add_argument("-i", dest="stdin", action="store_true", help="read the expression from standard input")
    parser.add_argument("-w", dest="wait", action="store_true", help="wait until the expression is true")
    parser.add_argument("-f", dest="final", action="store_true", help="print the last value of the expression")
    parser.add_argument("-e", dest="each", action="store_true", help="print each value of the expression")
    parser.add_argument("-o", dest="show", action="store_true", help="print operands as they change")
    parser.add_argument("-b", dest="beep", action="store_true", help="beep when the expression is true")
    parser.add_argument("-t", dest="patience", type=number(float, 0, 1e9), default=2.0, metavar="S",
                        help="longest time to wait, 0: forever (default: 2)")  # fmt: skip
    parser.add_argument("-v", dest="verbose", action="count", default=0, help=argparse.SUPPRESS)
    add_no_messages(parser)
    add_server_options(parser)
    return parser


async def _eval(options: argparse.Namespace) -> int:
    if options.stdin == bool(options.words):
        raise ToolError("an expression is needed: as the last argument, or from standard input with -i")
    if len(options.words) > 1:
        text = " ".join(options.words)
        raise ToolError(f"the expression must be one word for the shell: '{with_quotes(text) or text}'")
    expression = parse_expression(sys.stdin.read() if options.stdin else options.words[0])
    if not expression.operands:
        return _finish(options, _tell(options, expression, {}))
    devices = {device for name in expression.operands for device, _, _ in splits(name)}
    async with (
        connected(options) as client,
        messages(client, "indifast eval", devices, shown=options.messages and options.wait),
    ):
        return await _follow(client, options, expression)


async def _follow(client: IPyClient, options: argparse.Namespace, expression: Expression) -> int:
    values: dict[str, float] = {}
    events = client.events(types=(defVector, setVector))
    result = 0.0
    try:
        async with asyncio.timeout(options.patience or None):
            while True:
                changed = _take(client, expression, values)
                if options.show:
                    for name in changed:
                        print(f"{name}={values[name]:g}", flush=True)
                if changed and len(values) == len(expression.operands):
                    result = _tell(options, expression, values)
                    if result or not options.wait:
                        return _finish(options, result)
                try:
                    await anext(events)
                except StopAsyncIteration:
                    raise ConnectionError("the client has stopped") from None
    except TimeoutError:
        for name in expression.operands:
            if name not in values and client.enabledlen():
                raise ToolError(str(Pattern(name).unmatched(client))) from None
        if not client.enabledlen():
            raise
        now = ", ".join(f"{name} is {value:g}" for name, value in values.items())
        raise ToolError(f"not true after {options.patience:g} s: {now}", Status.TIMEOUT) from None


def _take(client: IPyClient, expression: Expression, values: dict[str, float]) -> list[str]:
    """Update the values of the operands, and return the names of those that have changed."""
    changed = []
    for name in expression.operands:
        value = _value(client, name)
        if value is not None and not _same(values.get(name), value):
            values[name] = value
            changed.append(name)
    return changed


def _same(before: float | None, now: float) -> bool:
    """Return whether an operand is unchanged; nan counts as equal to nan."""
    return before == now or (before is not None and math.isnan(before) and math.isnan(now))


def _value(client: IPyClient, name: str) -> float | None:
    """Return the value of an operand; None while it is unknown."""
    for device, vector_name, member in splits(name):
        vector: Any = client[device].get(vector_name) if device in client else None
        if vector is None or not vector.enable:
            continue
        if member == "_STATE":
            return float(_STATES.get(vector.state, 3))
        if member == "_TS":
            return float(vector.timestamp.timestamp())
        if member in vector and member not in ATTRIBUTES:
            return _number(vector, member)
    return None


def _number(vector: Any, member: str) -> float:
    match vector.vectortype:
        case "NumberVector":
            return float(vector.getfloatvalue(member))
        case "SwitchVector":
            return float(vector[member] == "On")
        case "LightVector":
            return float(_STATES.get(vector[member], 3))
    try:
        return float(getfloat(vector[member]))
    except (TypeError, ValueError):
        sentence = f"{vector.devicename}.{vector.name}.{member} does not hold a number: {str(vector[member])[:40]!r}"
        raise ToolError(sentence) from None


def _tell(options: argparse.Namespace, expression: Expression, values: dict[str, float]) -> float:
    result = expression.value(values.__getitem__)
    if options.each:
        print(f"{result:g}", flush=True)
    if result and options.beep:
        print("\a", end="", file=sys.stderr, flush=True)
    return result


def _finish(options: argparse.Namespace, result: float) -> int:
    if options.final and not options.each:
        print(f"{result:g}")
    return Status.DONE if result else Status.NOTHING
