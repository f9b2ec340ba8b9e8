"""The field in which a member's value is entered, at its place in the pane."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input

if TYPE_CHECKING:
    from indifast.terminal.entrypane import EntryPane


class End(Enum):
    """How an entry ended."""

    SEND = "send"
    KEEP = "keep"
    NEXT = "next"
    PREVIOUS = "previous"
    DROP = "drop"


class Editor(Input):
    """Belongs to a pane, which is asked what to do with the text. Everything that is in the field counts as entered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "finish('send')", "Send"),
        Binding("tab", "finish('next')", "Keep, next"),
        Binding("shift+tab", "finish('previous')", "Keep, previous", show=False),
        Binding("escape", "finish('drop')", "Drop"),
        Binding("up", "step(1)", "Step", key_display="↑↓"),
        Binding("down", "step(-1)", "Step down", show=False),
    ]

    def __init__(self, pane: EntryPane, member: Any, text: str) -> None:
        super().__init__(text, compact=True, select_on_focus=True)
        self.pane = pane
        self.member = member
        self.first_text = text
        self.doubted = ""
        """A text that was doubted, and is accepted when it is entered again."""
        self.ended = False

    def action_finish(self, how: str) -> None:
        """Hand the text to the pane."""
        self.pane.entered(self, End(how))

    def action_step(self, by: int) -> None:
        """A step up or down, where values have steps; else the next field."""
        self.pane.stepped(self, by)

    def _on_blur(self, event: events.Blur) -> None:
        super()._on_blur(event)
        if not self.ended and self.app.screen is self.screen:
            self.pane.entered(self, End.KEEP)
