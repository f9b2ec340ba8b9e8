"""The code blocks of a Markdown page.

The words after the language of a block say how it is tested. They are not shown to readers:

(none)
    A `python` block is a program that is run to its end. A `sh` block is run by bash. In a `console` block, lines that
    begin with `$` are run, and their output is compared with the other lines. Numbers may differ, and `…` stands for
    anything.
`file=NAME`
    The block is saved under that name, to be used by later blocks.
`background`, `port=N`
    The block runs until the end of the page. The next block starts when this one has printed something or, with a port,
    when the server on that port has devices.
`terminal=TEXT`
    The block runs in a terminal until it has drawn that text, and then until it has quit because of the key `q`.
`restart`
    Everything that runs in the background on this machine is stopped first.
`host=NAME`
    The block runs on the machine of that name, which has its own folder, ports and sockets.
`status=N`
    The block ends with this exit status.
`fragment`
    The block is a piece of a program and is not run. If it is `python`, it must compile.
`interface`
    The block declares classes and functions, which are compared with the source.
`system`
    The block is never run, because it installs or changes something. The syntax of `sh` is checked.

Blocks in HTML comments are run, too. They set up what the page assumes, and are not shown to readers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUN = ("python", "sh", "console")
"""Languages of blocks that are run or marked."""

READ = ("toml", "ini", "json")
"""Languages of blocks that are checked by reading them."""

SHOWN = ("text", "xml", "c")
"""Languages of blocks that are only shown."""

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+)(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=ticks) *$", re.M | re.S
)
_WORDS = ("background", "restart", "fragment", "interface", "system")
_VALUES = ("file", "port", "host", "status", "terminal")


@dataclass(frozen=True)
class Block:
    """A code block."""

    page: str
    line: int
    language: str
    words: dict[str, str]
    text: str

    @property
    def where(self) -> str:
        """The place of the block, for people."""
        return f"{self.page}:{self.line}"

    @property
    def host(self) -> str:
        """The machine on which it runs."""
        return self.words.get("host", "localhost")

    def has(self, word: str) -> bool:
        """Whether the block has a word after its language."""
        return word in self.words


def blocks_of(path: Path, root: Path) -> list[Block]:
    """Return the code blocks of a page; not the directives of the documentation.

    Raises:
        ValueError: A block has no language, or an unknown word.
    """
    page, found = path.read_text(), []
    name = str(path.relative_to(root))
    for match in _FENCE.finditer(page):
        info = match["info"].split()
        line = page.count("\n", 0, match.start()) + 1
        if info and info[0].startswith("{"):
            continue
        where = f"{name}:{line}"
        if not info or info[0] not in RUN + READ + SHOWN:
            raise ValueError(f"{where}: a code block needs a language: {', '.join(RUN + READ + SHOWN)}")
        words = {}
        for word in info[1:]:
            key, equals, value = word.partition("=")
            if key not in (_VALUES if equals else _WORDS):
                raise ValueError(f"{where}: {word!r} is not a word for the tests")
            words[key] = value
        indent = match["indent"]
        text = "".join(each.removeprefix(indent) for each in match["text"].splitlines(keepends=True))
        found.append(Block(name, line, info[0], words, text))
    return found


@dataclass(frozen=True)
class Command:
    """A line after `$` in a `console` block, and what it should print."""

    line: str
    output: str


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a `console` block.

    Raises:
        ValueError: The block does not begin with a command.
    """
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], ""))
        elif not found:
            raise ValueError(f"{block.where}: a console block begins with $")
        elif found[-1].line.endswith("\\") and not found[-1].output:
            found[-1] = Command(f"{found[-1].line}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = Command(found[-1].line, f"{found[-1].output}{line}\n")
    return found


def alike(expected: str, printed: str) -> bool:
    """Return whether a program has printed what a page shows.

    Numbers and the widths of columns may differ, and so may the order of lines, as drivers answer in any order.
    """
    if _matches(_plain(expected), _plain(printed)):
        return True
    patterns, lines = _plain(expected).split("\n"), _plain(printed).split("\n")
    for pattern in patterns:
        line = next((line for line in lines if _matches(pattern, line)), None)
        if line is None:
            return False
        lines.remove(line)
    return not lines


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*?".join(map(re.escape, pattern.split("…"))), text, re.DOTALL) is not None


def _plain(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return re.sub(r"\d+(\.\d+)?", "0", "\n".join(line for line in lines if line)).replace("-0", "0")
