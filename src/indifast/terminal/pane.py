"""What all panes have in common: a heading with name, state and the progress of Busy, and rows of members."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from indifast.terminal.board import Property
from indifast.terminal.plain import fitted, plain
from indifast.terminal.states import CLASSES, sign, state_style

if TYPE_CHECKING:
    from indifast.terminal.board import Board

PARTS = {
    "pane--title", "pane--note", "pane--problem", "pane--label", "pane--value", "pane--hot", "pane--warm", "pane--dim",
    "pane--edit", "pane--cursor",
}  # fmt: skip

Piece = tuple[str, Style]


def line(pieces: list[Piece], width: int, base: Style) -> Strip:
    """Pieces of text as a line of exactly so many cells."""
    segments = []
    left = width
    for text, style in pieces:
        if left <= 0:
            break
        text = fitted(text, left)
        left -= cell_len(text)
        segments.append(Segment(text, base + style))
    if left > 0:
        segments.append(Segment(" " * left, base))
    return Strip(segments, width)


class Lines(Widget):
    """A widget that draws a property line by line, and nothing that is not seen."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES | PARTS

    def __init__(self, shown: Property, board: Board) -> None:
        super().__init__()
        self.shown = shown
        self.board = board

    def part(self, name: str) -> Style:
        """The style of a component class, for what stands on the widget's background."""
        return self.get_component_rich_style(f"pane--{name}", partial=True)

    # -- heading

    def heading(self) -> list[tuple[str, list[Piece]]]:
        """The lines above the members, each with the part that it is."""
        shown, vector = self.shown, self.shown.vector
        state = state_style(self, shown.state, shown.lost)
        title: list[Piece] = [
            (f"{sign(shown.state)} ", state),
            (plain(vector.label or vector.name), self.part("title")),
        ]
        if plain(vector.label or "") != plain(vector.name):
            title.append((f"  {plain(vector.name)}", self.part("dim")))
        title.append((f"  {self.kind()}", self.part("dim")))
        lines = [("title", title)]
        if (progress := self.progress()) is not None:
            lines.append(("progress", [(progress, state)]))
        if shown.lost:
            lines.append(("problem", [("lost link, trying again: these are old values", self.part("note"))]))
        if shown.problem:
            lines.append(("problem", [(shown.problem, self.part("problem"))]))
        if vector.message:
            when = f"{vector.message_timestamp.astimezone():%H:%M:%S} " if vector.message_timestamp else ""
            lines.append(("note", [(f"{when}{plain(vector.message)}", self.part("note"))]))
        return lines

    def kind(self) -> str:
        """Permission and rule."""
        vector = self.shown.vector
        words = [{"ro": "ro read-only", "wo": "wo write-only"}.get(vector.perm or "ro", str(vector.perm))]
        if vector.rule:
            words.append(vector.rule)
        return " ".join(words)

    def progress(self) -> str | None:
        """How long it has been Busy, and how long that may take."""
        shown = self.shown
        if shown.busy_since is None or shown.lost:
            return None
        spent = time.monotonic() - shown.busy_since
        timeout = shown.vector.timeout or 0.0
        if timeout <= 0:
            return f"Busy for {spent:.1f} s"
        cells = 16
        full = min(cells, int(cells * spent / timeout))
        return f"Busy {'━' * full}{'─' * (cells - full)} {spent:.1f} s of {timeout:g} s"


class Pane(Lines, can_focus=True):
    """A property whose members are rows: `row` says what each looks like."""

    cursor: reactive[int] = reactive(0)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
    ]

    def __init__(self, shown: Property, board: Board) -> None:
        super().__init__(shown, board)
        self._height = 0

    # -- shape

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are."""
        return len(self.heading()) + len(self.shown.vector.members())

    def render_line(self, y: int) -> Strip:
        """A line of the heading or of a member."""
        width = self.size.width
        base = self.rich_style
        heading = self.heading()
        if y < len(heading):
            return line(heading[y][1], width, base)
        members = list(self.shown.vector.members().values())
        row = y - len(heading)
        if row >= len(members):
            return Strip.blank(width, base)
        if self.has_focus and row == self.cursor:
            base += self.part("cursor")
        return line(self.row(members[row], width), width, base)

    def row(self, member: Any, width: int) -> list[Piece]:
        """What the row of a member shows."""
        label = min(max(12, width * 2 // 5), 30)
        name = fitted(plain(member.label or member.name), label - 1)
        pieces = [("  " + name + " " * (label - cell_len(name)), self.part("label"))]
        pieces += self.value(member, width - label - 2)
        return pieces

    def value(self, member: Any, width: int) -> list[Piece]:
        """What the row of a member shows beside its label."""
        raise NotImplementedError

    def value_style(self, member: Any) -> Style:
        """The style of a value: highlighted after a change, dimmed while the link is lost."""
        if self.shown.lost:
            return self.part("dim")
        heat = self.shown.heat(member.name, time.monotonic())
        return self.part("hot" if heat > 0.5 else "warm" if heat > 0 else "value")

    # -- following the board

    def follow(self) -> None:
        """Show the property as it is now."""
        height = len(self.heading()) + len(self.shown.vector.members())
        self.cursor = max(0, min(self.cursor, len(self.shown.vector.members()) - 1))
        if height != self._height:
            self._height = height
            self.clear_cached_dimensions()
            self.refresh(layout=True)
        else:
            self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor; beyond the ends, to the next pane."""
        to = self.cursor + by
        if 0 <= to < len(self.shown.vector.members()):
            self.cursor = to
        elif by > 0:
            self.screen.focus_next(Pane)
        else:
            self.screen.focus_previous(Pane)

    def watch_cursor(self) -> None:
        """Keep the cursor in view."""
        if self.is_attached and self.has_focus:
            self.scroll_to_row()

    def scroll_to_row(self) -> None:
        """Bring the cursor's row into view."""
        parent = self.parent
        if isinstance(parent, Widget):
            y = self.virtual_region.y + len(self.heading()) + self.cursor
            parent.scroll_to_region(Region(0, y, 1, 1), animate=False)


Maker = Callable[[Property, "Board"], Widget]
