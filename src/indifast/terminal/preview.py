"""The widget that shows a picture, or says why there is none."""

from __future__ import annotations

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from indifast.terminal.blocks import rendered
from indifast.terminal.picture import Picture


class Preview(Widget, can_focus=True):
    """A picture in the middle of the widget."""

    DEFAULT_CSS = """
    Preview { height: auto; background: $surface; color: $text-muted; }
    Preview:focus { background: $boost; }
    """

    picture: Picture | None = None
    """What is shown."""

    def __init__(self, sentence: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sentence = sentence
        self._strips: list[Strip] = []

    @property
    def sentence(self) -> str:
        """What is said in place of a picture, "" where there is one."""
        return "" if self.picture is not None else self._sentence

    @property
    def room(self) -> tuple[int, int]:
        """Columns and rows of square pixels that fit now."""
        return self.size.width, 2 * self.size.height

    def make(self, picture: Picture) -> list[Strip]:
        """The lines for a picture; may be called in any thread."""
        return rendered(picture.pixels, self.app.console.color_system)

    def show(self, picture: Picture, strips: list[Strip]) -> None:
        """Show a picture by the lines made of it."""
        self.picture = picture
        self._strips = strips
        self.refresh()

    def say(self, sentence: str) -> None:
        """Show a sentence in place of a picture."""
        self.picture = None
        self._sentence = sentence
        self._strips = []
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Room for a picture of the proportions of most cameras, and on the screen for what stands around it."""
        return max(4, min(viewport.height - 11, width * 3 // 8))

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        style = self.rich_style
        if self.picture is None:
            lines = _wrapped(self._sentence, width - 2)
            row = y - (height - len(lines)) // 2
            if 0 <= row < len(lines):
                return Strip([Segment(lines[row].center(width), style)], width)
            return Strip.blank(width, style)
        row = y - (height - len(self._strips)) // 2
        if not 0 <= row < len(self._strips):
            return Strip.blank(width, style)
        strip = self._strips[row]
        left = max(0, (width - strip.cell_length) // 2)
        return Strip([Segment(" " * left, style), *strip]).crop_extend(0, width, style)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(8, width)) or [""]
