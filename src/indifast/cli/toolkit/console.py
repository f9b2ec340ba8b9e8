"""What a command says on standard error: sentences, and on a terminal a line that shows how far it is."""

from __future__ import annotations

import os
import sys
import unicodedata

from indifast.protocol.escape import for_terminal, one_line

_CLEAR = "\r\x1b[K"
_NARROWEST = 20
_SHORTEST, _LONGEST = 4, 30  # of bars

_line = ""
"""The line that is shown now."""


def say(program: str, sentence: str) -> None:
    """Print a sentence on standard error, as a line that begins with the name of the command."""
    clear()
    print(for_terminal(f"{program}: {sentence}"), file=sys.stderr, flush=True)


def columns() -> int:
    """Return how many columns the line may take, one less than the terminal has; 0 without a terminal."""
    if not sys.stderr.isatty():
        return 0
    try:
        return max(os.get_terminal_size(sys.stderr.fileno()).columns, _NARROWEST) - 1
    except OSError:
        return 79


def bar(share: float, beside: int) -> str:
    """Return a bar that shows a share (0 to 1) and leaves room for the other characters of the line."""
    width = max(_SHORTEST, min(_LONGEST, columns() - beside - 2))
    return f"[{'#' * round(share * width):-<{width}}]"


def show(text: str) -> None:
    """Replace the line by a text, cut to the width of the terminal. Without a terminal, nothing is shown."""
    global _line
    room = columns()
    if not room:
        return
    shown = ""
    for character in one_line(text):
        room -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if room < 0:
            break
        shown += character
    if shown != _line:
        print(f"{_CLEAR}{shown}", end="", file=sys.stderr, flush=True)
        _line = shown


def clear() -> None:
    """Remove the line."""
    global _line
    if _line:
        print(_CLEAR, end="", file=sys.stderr, flush=True)
        _line = ""
