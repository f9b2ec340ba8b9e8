"""Pixel graphics of this process's terminal, detected once, before Textual takes over the terminal.

textual-image draws the pixels, by sixels or kitty's protocol. When imported, it queries the terminal itself and waits a
tenth of a second for answers. Later answers would pass for keys, and a terminal that does not know kitty's query may
print it. So it is imported only if the terminal has answered, at once, a query that every terminal understands, and is
known to draw pixels. On slow lines, inside tmux and screen, and on all other terminals, pictures are made of
characters.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import struct
import sys
import time
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from textual.strip import Strip

    from indifast.picture import Picture


class Method(Enum):
    """How pictures are drawn on the screen."""

    CHARACTERS = "characters"
    SIXEL = "sixel"
    KITTY = "kitty"


ANSWER = 1.0
"""Seconds to wait for the terminal's answer."""

PROMPT = 0.05
"""Seconds within which a terminal must answer if pixels are to be sent to it."""

TRIES = 3
"""Number of queries before the line counts as slow; a busy machine is late now and then."""

_KITTY = ("xterm-kitty", "xterm-ghostty")
"""Values of TERM (which SSH passes on) for terminals that know kitty's placeholders."""

_method = Method.CHARACTERS


def method() -> Method:
    """Return the method that `detect` found."""
    return _method


def detect(environment: Mapping[str, str] = os.environ) -> Method:
    """Find out what the terminal of this process can do, and return the method.

    Call this before Textual starts.
    """
    global _method
    _method = _found(environment)
    if _method is not Method.CHARACTERS:
        try:
            from textual_image.widget import Image  # noqa: F401 - also queries the size of a cell
        except ImportError:
            _method = Method.CHARACTERS
    return _method


def _found(environment: Mapping[str, str]) -> Method:
    term = environment.get("TERM", "")
    if "TMUX" in environment or "STY" in environment or term.startswith(("screen", "tmux")):
        return Method.CHARACTERS
    if term in ("", "dumb", "linux") or not (_tty(sys.__stdin__) and _tty(sys.__stdout__)):
        return Method.CHARACTERS
    for _ in range(TRIES):
        attributes, seconds = _attributes()
        if seconds <= PROMPT:
            break
        if seconds > ANSWER:
            return Method.CHARACTERS
    else:
        return Method.CHARACTERS
    if term in _KITTY:
        return Method.KITTY
    return Method.SIXEL if "4" in attributes else Method.CHARACTERS


def _tty(file: object) -> bool:
    return bool(getattr(file, "isatty", lambda: False)())


def _attributes() -> tuple[list[str], float]:
    """Return the terminal's "primary device attributes", and the seconds until it answered."""
    import termios
    import tty

    assert sys.__stdin__ is not None and sys.__stdout__ is not None
    fd = sys.__stdin__.fileno()
    began = time.monotonic()
    received = b""
    try:
        before = termios.tcgetattr(fd)
        try:
            tty.setcbreak(fd, termios.TCSANOW)
            sys.__stdout__.write("\x1b[c")
            sys.__stdout__.flush()
            while (left := began + ANSWER - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
                received += os.read(fd, 256)
                if answer := re.search(rb"\x1b\[\?([0-9;]*)c", received):
                    return answer[1].decode().split(";"), time.monotonic() - began
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
    except (OSError, termios.error):
        pass
    return [], float("inf")


def cell_size() -> tuple[int, int]:
    """Return width and height of a cell in pixels; 10 x 20 if the terminal does not report them."""
    import fcntl
    import termios

    try:
        size = struct.unpack("4H", fcntl.ioctl(sys.__stdout__.fileno(), termios.TIOCGWINSZ, bytes(8)))  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return 10, 20
    lines, columns, width, height = size
    return (width // columns, height // lines) if 0 < columns <= width and 0 < lines <= height else (10, 20)


def sixels(picture: Picture, columns: int, rows: int, console: Console) -> str:
    """Return the picture as sixels that fill `columns` by `rows` cells; may be called in any thread."""
    from PIL import Image
    from textual_image.renderable import SixelImage

    # The eye sees a quarter of the shades of a picture, and each costs time and bytes.
    image = Image.fromarray(picture.pixels & 0xFC)
    options = console.options.update(width=columns, max_width=columns, height=rows)
    for segment in console.render(SixelImage(image, columns, rows), options):
        if segment.text.startswith("\x1bP"):
            return segment.text
    return ""


class Placed:
    """A picture in a terminal like kitty: sent when this object is created, kept until it is released."""

    def __init__(self, picture: Picture, columns: int, rows: int, console: Console) -> None:
        from PIL import Image
        from textual.strip import Strip
        from textual_image.renderable import TGPImage

        self._image = TGPImage(Image.fromarray(picture.pixels), columns, rows)
        options = console.options.update(width=columns, max_width=columns, height=rows)
        lines = console.render_lines(self._image, options, pad=False)
        self.strips: list[Strip] = [Strip(line, columns) for line in lines[:rows]]
        """The lines of placeholders for the picture."""

    def let_go(self) -> None:
        """Allow the terminal to forget the picture."""
        with contextlib.suppress(OSError):
            self._image.cleanup()
