"""Command-line parsing in which a mistake gives one sentence and exit status 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from indifast.protocol.vocabulary import STATES


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that does not bury its error message under the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def tool_parser(program: str, description: str, examples: str, *, usage: str | None = None) -> Parser:
    """Return the parser of a tool that talks to a server.

    Its help shows the texts as they are formatted, and `-h` is left for the host.
    """
    return Parser(
        prog=program, description=description, epilog=examples, usage=usage, add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Return a type for `add_argument`: an int or a float from `low` to `high`, both included."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
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
