"""Base of all panes: a heading with name, state and Busy progress, and rows of members."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from indifast.terminal import clock
from indifast.terminal.board import CONNECTION, Property
from indifast.terminal.celltext import fitted, visible
from indifast.terminal.states import CLASSES, sign

if TYPE_CHECKING:
    from indifast.terminal.board import Board

PARTS = {
    "pane--title", "pane--note", "pane--problem", "pane--label", "pane--value", "pane--hot", "pane--warm", "pane--dim",
    "pane--edit", "pane--cursor",
}  # fmt: skip

NOTE = 3
"""Maximum number of lines for a property's last message; the log has all of it."""

OTHERS = "Pane, BlobPane, BlobPane *"
"""Selector of the widgets that the cursor reaches beyond the ends of a pane."""

Piece = tuple[str, Style]


def line(pieces: list[Piece], width: int, base: Style) -> Strip:
    """Return pieces of text as a line of exactly `width` cells."""
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


def wrapped(text: str, width: int, style: Style) -> list[list[Piece]]:
    """Return a text wrapped into as many lines as it needs."""
    return [[(part, style)] for part in textwrap.wrap(text, max(width, 10)) or [""]]


class Lines(Widget):
    """A widget that draws a property line by line, and only the lines that are visible."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES | PARTS

    def __init__(self, shown: Property, board: Board) -> None:
        super().__init__()
        self.shown = shown
        self.board = board
        self._parts: dict[str, Style] = {}
        self._head: tuple[int, list[list[Piece]]] | None = None

    def part(self, name: str) -> Style:
        """Return the style of a component class on the widget's background; `base` is the widget's own style.

        Styles are cached here because Textual keeps them only until the widget is redrawn, which happens all the time.
        """
        style = self._parts.get(name)
        if style is None:
            if name == "base":
                style = self.rich_style
            else:
                full = name if name.startswith("state--") else f"pane--{name}"
                style = self.get_component_styles(full).partial_rich_style
            self._parts[name] = style
        return style

    def notify_style_update(self) -> None:
        """Drop the cached styles, as the theme or the classes have changed."""
        super().notify_style_update()
        self._parts.clear()

    def state_style(self, state: str) -> Style:
        """Return the style of a state, or that of a lost property."""
        return self.part("state--lost" if self.shown.lost else f"state--{state.lower()}")

    def head(self) -> list[list[Piece]]:
        """Return the heading, cached for the current width."""
        if self._head is None or self._head[0] != self.size.width:
            self._head = (self.size.width, self.heading(self.size.width))
        return self._head[1]

    # -- Heading

    def heading(self, width: int | None = None) -> list[list[Piece]]:
        """Return the lines above the members."""
        width = self.size.width if width is None else width
        shown, vector = self.shown, self.shown.vector
        state = self.state_style(shown.state)
        title: list[Piece] = [
            (f"{sign(shown.state)} ", state),
            (visible(vector.label or vector.name), self.part("title")),
        ]
        if visible(vector.label or "") != visible(vector.name):
            title.append((f"  {visible(vector.name)}", self.part("dim")))
        title.append((f"  {self.kind()}", self.part("dim")))
        lines = [title]
        if (progress := self.progress()) is not None:
            lines.append([(progress, state)])
        again = shown.key[0] in self.board.to_connect
        if again and shown.key[1] == CONNECTION:
            advice = "was connected, and is not since it came back: turn Connect on"
            lines += wrapped(advice, width, self.part("problem"))
        if shown.lost:
            if self.board.linked:
                forget = "connect the device again, or x forgets it" if again else "x forgets it"
                lost = f"not back since the link was lost ({forget})"
            else:
                lost = "lost link, trying again" if self.board.trying else "not connected"
            lines += wrapped(f"{lost}: these are old values", width, self.part("note"))
        for problem in (shown.overdue, shown.problem):
            if problem:
                lines += wrapped(visible(problem), width, self.part("problem"))
        if shown.edits:
            lines.append(self.edits_line())
        if vector.message:
            at = vector.message_timestamp
            when = f"{clock.local_time(at)} {clock.zone(at)} " if at else ""
            lines += wrapped(f"{when}{visible(vector.message)}", width, self.part("note"))[:NOTE]
        return lines

    def edits_line(self) -> list[Piece]:
        """Return the line that says how much was entered but not sent."""
        count = len(self.shown.edits)
        style = self.part("edit")
        return [
            (f"{count} change{'s' if count != 1 else ''} entered: ", style),
            ("[s] send", style + Style(reverse=True, meta={"@click": "send"})),
            (" ", style),
            ("[Esc] drop", style + Style(reverse=True, meta={"@click": "drop"})),
        ]

    def kind(self) -> str:
        """Return permission and rule as text."""
        vector = self.shown.vector
        words = [{"ro": "ro read-only", "wo": "wo write-only"}.get(vector.perm or "ro", str(vector.perm))]
        if vector.rule:
            words.append(vector.rule)
        return " ".join(words)

    def progress(self) -> str | None:
        """Return for how long the property has been Busy, and how long that may take; None if it is not Busy."""
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
    """A property with one row for each member; `row` says what it looks like."""

    cursor: reactive[int] = reactive(0)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("s", "send", "Send"),
        Binding("escape", "drop", "Drop", show=False),
    ]

    @dataclass
    class Command(Message):
        """A request to send members of a property as one vector."""

        shown: Property
        members: dict[str, Any]

    def __init__(self, shown: Property, board: Board) -> None:
        super().__init__(shown, board)
        self._height = 0

    # -- Shape

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the number of lines."""
        return len(self.heading(width)) + len(self.shown.vector.members())

    def render_line(self, y: int) -> Strip:
        """Draw a line of the heading or of a member."""
        width = self.size.width
        base = self.part("base")
        heading = self.head()
        if y < len(heading):
            return line(heading[y], width, base)
        members = list(self.shown.vector.members().values())
        row = y - len(heading)
        if row >= len(members):
            return Strip.blank(width, base)
        if self.has_focus and row == self.cursor:
            base += self.part("cursor")
        return line(self.row(members[row], width), width, base)

    def label_width(self) -> int:
        """Return the width of the column of labels, in cells."""
        return min(max(12, self.size.width * 2 // 5), 30)

    def row(self, member: Any, width: int) -> list[Piece]:
        """Return what the row of a member shows."""
        label = self.label_width()
        name = fitted(visible(member.label or member.name), label - 1)
        return [
            ("  " + name + " " * (label - cell_len(name)), self.part("label")),
            *self.value(member, width - label - 2),
        ]

    def edit_of(self, member: Any) -> list[Piece]:
        """Return what was entered for a member."""
        text = self.shown.edits.get(member.name)
        return [] if text is None else [(" → ", self.part("dim")), (visible(text), self.part("edit"))]

    def value(self, member: Any, width: int) -> list[Piece]:
        """Return what the row of a member shows beside its label."""
        raise NotImplementedError

    def value_style(self, member: Any) -> Style:
        """Return the style of a value: highlighted after a change, dimmed while the link is lost."""
        if self.shown.lost:
            return self.part("dim")
        heat = self.shown.heat(member.name, time.monotonic())
        return self.part("hot" if heat > 0.5 else "warm" if heat > 0 else "value")

    # -- Following the board

    def follow(self) -> None:
        """Show the property as it is now.

        Nothing is done after the pane was removed: messages of its editor may arrive later.
        """
        if not self.is_attached:
            return
        self._head = None
        height = len(self.head()) + len(self.shown.vector.members())
        self.cursor = max(0, min(self.cursor, len(self.shown.vector.members()) - 1))
        if height != self._height:
            self._height = height
            self.clear_cached_dimensions()
            self.refresh(layout=True)
        else:
            self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor; beyond the ends, go to the next or previous pane."""
        to = self.cursor + by
        if 0 <= to < len(self.shown.vector.members()):
            self.cursor = to
        elif by > 0:
            self.screen.focus_next(OTHERS)
        else:
            self.screen.focus_previous(OTHERS)

    def watch_cursor(self) -> None:
        """Keep the cursor in view."""
        if self.is_attached and self.has_focus:
            self.scroll_to_row()
            self.post_message(self.Moved())

    def scroll_to_row(self) -> None:
        """Bring the cursor's row into view."""
        parent = self.parent
        if isinstance(parent, Widget):
            y = self.virtual_region.y + len(self.head()) + self.cursor
            parent.scroll_to_region(Region(0, y, 1, 1), animate=False)

    # -- Commands

    def member_at_cursor(self) -> Any:
        """Return the member under the cursor; None if there is none."""
        members = list(self.shown.vector.members().values())
        return members[self.cursor] if self.cursor < len(members) else None

    def member_to_edit(self) -> Any:
        """Return the member under the cursor; None if there is none, or (the reason is shown) nothing can be sent."""
        member = self.member_at_cursor()
        if member is not None and not self.shown.writable:
            self.refuse()
            return None
        return member

    def command(self) -> dict[str, Any]:
        """Return the members to send.

        Raises:
            ValueError: They cannot be sent; the text is a sentence for the user.
        """
        return {}

    def refuse(self) -> None:
        """Show why nothing can be sent."""
        shown = self.shown
        if shown.lost:
            shown.problem = "nothing can be sent: the link is lost"
        elif shown.vector.perm == "ro":
            shown.problem = "this is read-only"
        self.follow()

    def action_send(self) -> None:
        """Send what was entered as one vector."""
        shown = self.shown
        if not shown.writable:
            self.refuse()
            return
        if not shown.edits:
            return
        try:
            members = self.command()
        except ValueError as error:
            shown.problem = str(error)
        else:
            shown.problem = ""
            if members:
                self.post_message(self.Command(shown, members))
        self.follow()

    def action_drop(self) -> None:
        """Discard what was entered; if there is nothing, leave the pane."""
        shown = self.shown
        if shown.edits or shown.problem:
            shown.edits.clear()
            shown.problem = ""
            self.follow()
        else:
            self.post_message(self.Leave())

    class Moved(Message):
        """The cursor has moved to another member."""

    class Leave(Message):
        """The focus is to return to the tree."""

    def action_edit(self) -> None:
        """Do what Enter or a click on a value is for; here, show why nothing can be sent."""
        self.refuse()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row that was clicked; a click on the value at the cursor does what Enter does."""
        if event.style.meta.get("@click"):
            return
        row = event.y - len(self.head())
        if not 0 <= row < len(self.shown.vector.members()):
            return
        if row == self.cursor and event.x > self.label_width() and self.was_focused:
            self.action_edit()
        else:
            self.cursor = row
            self.refresh()

    was_focused = False

    def on_mouse_down(self) -> None:
        """Remember whether the pane had the focus before this click gives it."""
        self.was_focused = self.has_focus
