"""Command-line parsing in which a mistake gives one sentence and exit status 2.

All commands but `serve`, which takes the arguments of indiserver, are parsed here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from indifast.protocol.vocabulary import STATES


class Parser(argparse.ArgumentParser):
    """The parser of a command, which answers a mistake in one sentence.

    Its help shows the texts as they are formatted. Only --help asks for it: `-h` is left for the host of a server.

    Args:
        program: The command as users type it, such as "indifast get".
        description: What it does.
        examples: The end of the help: examples, and perhaps exit statuses. Names in examples are quoted, so that no
            shell takes them for patterns of file names.
        usage: The usage, if the arguments do not say it all.
    """

    def __init__(self, program: str, description: str, examples: str, *, usage: str | None = None) -> None:
        super().__init__(
            prog=program, description=description, epilog=examples, usage=usage, add_help=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.add_argument("--help", action="help", help="show this help and exit")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Return a type for `add_argument`: an int or a float from `low` to `high`, both included."""
    what = "a whole number" if kind is int else "a number"

    def shown(limit: float) -> str:
        return str(int(limit)) if limit == int(limit) else str(limit)

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {shown(low)} to {shown(high)}")
        return value

    return convert


def states(text: str) -> frozenset[str]:
    """Convert comma-separated states of a property; a type for `add_argument`."""
    known = {state.casefold(): state for state in STATES}
    found = [known.get(word.strip().casefold()) for word in text.split(",")]
    if None in found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a state: use {', '.join(STATES)}, or several, as in Ok,Idle")
    return frozenset(state for state in found if state)


def image_size(low: int, high: int) -> Callable[[str], tuple[int, int]]:
    """Return a type for `add_argument`: WIDTHxHEIGHT in pixels, each from `low` to `high`."""

    def convert(text: str) -> tuple[int, int]:
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, for example 1920x1080")
        width, height = int(parts[0]), int(parts[1])
        if not (low <= width <= high and low <= height <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not between {low}x{low} and {high}x{high}")
        return width, height

    return convert
