"""Widget that shows a picture, or a sentence if there is none."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from indifast.picture import Picture
from indifast.terminal import graphics
from indifast.terminal.blocks import rendered
from indifast.terminal.graphics import Method

_NO_WIDTH = [(ControlType.CURSOR_FORWARD, 0)]
"""Marks a segment as one that takes up no room."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture, ready for the screen."""

    picture: Picture
    columns: int
    rows: int
    """Height in cells; `columns` is the width."""
    strips: list[Strip]
    """The lines as characters; empty for kitty's protocol, which creates them when the picture is sent."""
    sixels: str = ""


class Preview(Widget, can_focus=True):
    """Shows a picture in the middle of the widget, by the best method that the terminal has."""

    DEFAULT_CSS = """
    Preview { height: auto; background: $surface; color: $text-muted; }
    Preview:focus { background: $boost; }
    """

    def __init__(self, sentence: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sentence = sentence
        self._drawn: Drawn | None = None
        self._placed: graphics.Placed | None = None
        self._method = graphics.method()
        self._cell = graphics.cell_size() if self._method is not Method.CHARACTERS else (1, 2)

    @property
    def picture(self) -> Picture | None:
        """The picture that is shown, if any."""
        return self._drawn.picture if self._drawn is not None else None

    @property
    def sentence(self) -> str:
        """The sentence shown instead of a picture; empty if there is a picture."""
        return "" if self._drawn is not None else self._sentence

    @property
    def room(self) -> tuple[int, int]:
        """Columns and rows of square pixels that currently fit."""
        return self.size.width * self._cell[0], self.size.height * self._cell[1]

    def make(self, picture: Picture) -> Drawn:
        """Prepare a picture for the screen; may be called in any thread."""
        height, width = picture.pixels.shape[:2]
        columns, rows = -(-width // self._cell[0]), -(-height // self._cell[1])
        if self._method is Method.KITTY:
            return Drawn(picture, columns, rows, [])
        console = self.app.console
        if self._method is Method.CHARACTERS:
            return Drawn(picture, columns, rows, rendered(picture.pixels, console.color_system))
        across = np.arange(columns) * width // columns
        down = np.arange(2 * rows) * height // (2 * rows)
        strips = rendered(picture.pixels[down[:, np.newaxis], across], console.color_system)
        return Drawn(picture, columns, rows, strips, graphics.sixels(picture, columns, rows, console))

    def show(self, drawn: Drawn) -> None:
        """Show a picture."""
        before, self._placed = self._placed, None
        if self._method is Method.KITTY:
            self._placed = graphics.Placed(drawn.picture, drawn.columns, drawn.rows, self.app.console)
        self._drawn = drawn
        self.refresh()
        if before is not None:
            before.let_go()

    def say(self, sentence: str) -> None:
        """Show a sentence instead of a picture."""
        self._sentence = sentence
        self._drawn = None
        self._let_go()
        self.refresh()

    def on_unmount(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._placed is not None:
            self._placed.let_go()
            self._placed = None

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return a height for the proportions of most cameras that leaves room for the rest of the screen."""
        return max(4, min(viewport.height - 14, width * 3 // 8))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines of the widget; if it is wholly visible, with nothing above it, they may contain sixels."""
        drawn = self._drawn
        if drawn is None or not drawn.sixels or not self._wholly_seen(crop):
            return super().render_lines(crop)
        width, height = self.size
        left, top = (width - drawn.columns) // 2, (height - drawn.rows) // 2
        at = f"\x1b7\x1b[{self.region.y + max(0, top) + 1};{self.region.x + max(0, left) + 1}H"
        blank = Strip.blank(width, self.rich_style)
        # Sixels come last, after everything below them is drawn; the cursor is saved before and restored after them.
        pixels = Segment(f"{at}{drawn.sixels}\x1b8", Style(), _NO_WIDTH)
        return [blank] * (height - 1) + [Strip([*blank, pixels], width)]

    def _wholly_seen(self, crop: Region) -> bool:
        if crop.offset != (0, 0) or crop.size != self.size or not self.is_attached or not self.screen.is_active:
            return False
        seen = self.screen.find_widget(self).visible_region
        return seen.size == self.size and seen.bottom < self.app.size.height

    def render_line(self, y: int) -> Strip:
        """Return a line of a picture made of characters, or of the sentence."""
        width, height = self.size
        style = self.rich_style
        if self._drawn is None:
            lines = textwrap.wrap(self._sentence, max(8, width - 2)) or [""]
            row = y - (height - len(lines)) // 2
            if 0 <= row < len(lines):
                return Strip([Segment(lines[row].center(width), style)]).crop_extend(0, width, style)
            return Strip.blank(width, style)
        strips = self._placed.strips if self._placed is not None else self._drawn.strips
        row = y - (height - len(strips)) // 2
        if not 0 <= row < len(strips):
            return Strip.blank(width, style)
        strip = strips[row]
        left = max(0, (width - strip.cell_length) // 2)
        return Strip([Segment(" " * left, style), *strip]).crop_extend(0, width, style)
