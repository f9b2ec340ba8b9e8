"""Whether the terminal of this process draws pixels: asked once, before Textual owns the terminal.

textual-image draws them, by sixels or kitty's protocol. As it is imported it asks the terminal itself, and waits a
tenth of a second for answers: one that comes later would pass for keys, and a terminal that does not know kitty's
question may print it. So it is imported only after the terminal answered, at once, a question that every terminal
understands, and said that it can do it; across slow lines, inside of tmux and screen, and on all other terminals
pictures are made of characters.
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

    from indifast.terminal.picture import Picture


class Method(Enum):
    """How pictures get onto the screen."""

    CHARACTERS = "characters"
    SIXEL = "sixel"
    KITTY = "kitty"


ANSWER = 1.0
"""Seconds that the terminal has for its answer."""

PROMPT = 0.05
"""Seconds within which a terminal answers that pixels can be sent to."""

TRIES = 3
"""How often it is asked before its line counts as slow: a busy machine is late now and then."""

_KITTY = ("xterm-kitty", "xterm-ghostty")
"""Values of TERM, which SSH passes on, of terminals that know kitty's placeholders."""

_method = Method.CHARACTERS


def method() -> Method:
    """What `detect` found."""
    return _method


def detect(environment: Mapping[str, str] = os.environ) -> Method:
    """Find out what the terminal of this process can do; to be called before Textual starts."""
    global _method
    _method = _found(environment)
    if _method is not Method.CHARACTERS:
        try:
            from textual_image.widget import Image  # noqa: F401 - asks for the size of a cell, too
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
    """What the terminal says that it is ("primary device attributes"), and the seconds until it did."""
    import termios
    import tty

    assert sys.__stdin__ is not None and sys.__stdout__ is not None
    fd = sys.__stdin__.fileno()
    began = time.monotonic()
    heard = b""
    try:
        before = termios.tcgetattr(fd)
        try:
            tty.setcbreak(fd, termios.TCSANOW)
            sys.__stdout__.write("\x1b[c")
            sys.__stdout__.flush()
            while (left := began + ANSWER - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
                heard += os.read(fd, 256)
                if answer := re.search(rb"\x1b\[\?([0-9;]*)c", heard):
                    return answer[1].decode().split(";"), time.monotonic() - began
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
    except (OSError, termios.error):
        pass
    return [], float("inf")


def cell_size() -> tuple[int, int]:
    """Width and height of a cell in pixels, where there are pixels; 10 x 20 if the terminal does not say."""
    import fcntl
    import termios

    try:
        size = struct.unpack("4H", fcntl.ioctl(sys.__stdout__.fileno(), termios.TIOCGWINSZ, bytes(8)))  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return 10, 20
    lines, columns, width, height = size
    return (width // columns, height // lines) if 0 < columns <= width and 0 < lines <= height else (10, 20)


def sixels(picture: Picture, columns: int, rows: int, console: Console) -> str:
    """The picture as sixels that fill so many cells; may be called in any thread."""
    from PIL import Image
    from textual_image.renderable import SixelImage

    # Of the many shades of a picture an eye sees a quarter; each costs time and bytes.
    image = Image.fromarray(picture.pixels & 0xFC)
    options = console.options.update(width=columns, max_width=columns, height=rows)
    for segment in console.render(SixelImage(image, columns, rows), options):
        if segment.text.startswith("\x1bP"):
            return segment.text
    return ""


class Placed:
    """A picture in a terminal like kitty: sent when this is made, until it is let go."""

    def __init__(self, picture: Picture, columns: int, rows: int, console: Console) -> None:
        from PIL import Image
        from textual.strip import Strip
        from textual_image.renderable import TGPImage

        self._image = TGPImage(Image.fromarray(picture.pixels), columns, rows)
        options = console.options.update(width=columns, max_width=columns, height=rows)
        lines = console.render_lines(self._image, options, pad=False)
        self.strips: list[Strip] = [Strip(line, columns) for line in lines[:rows]]
        """What stands for the picture in each line."""

    def let_go(self) -> None:
        """The terminal may forget it."""
        with contextlib.suppress(OSError):
            self._image.cleanup()
