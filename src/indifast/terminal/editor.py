"""Input field for a member's value, at its place in the pane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

if TYPE_CHECKING:
    from textual.widget import Widget

Step = Callable[[str, int], str | None]
"""Returns the text that is a step up (1) or down (-1) from the given one; None if values have no steps."""


class End(Enum):
    """How an entry ended."""

    SEND = "send"
    KEEP = "keep"
    NEXT = "next"
    PREVIOUS = "previous"
    DROP = "drop"


_ENDS = {"enter": End.SEND, "tab": End.NEXT, "shift+tab": End.PREVIOUS, "escape": End.DROP}
_STEPS = {"up": 1, "down": -1}


class Editor(Input):
    """Tells its pane what to do with the text. Everything in the field counts as entered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "finish('send')", "Send"),
        Binding("tab", "finish('next')", "Keep, next"),
        Binding("shift+tab", "finish('previous')", "Keep, previous", show=False),
        Binding("escape", "finish('drop')", "Drop"),
        Binding("up", "step(1)", "Step", key_display="↑↓"),
        Binding("down", "step(-1)", "Step down", show=False),
    ]

    @dataclass
    class Finished(Message):
        """A request to send, keep or drop the text; what is typed before it is handled does not count."""

        editor: Editor
        how: End
        text: str

        @property
        def control(self) -> Widget:
            """The editor."""
            return self.editor

    def __init__(self, member: Any, text: str, step: Step) -> None:
        super().__init__(text, compact=True, select_on_focus=True)
        self.member = member
        self.first_text = text
        self.doubted = ""
        """A doubtful text, which is accepted when it is entered again."""
        self.ended = False
        self._step = step

    def on_key(self, event: events.Key) -> None:
        """Do at once what a key is bound to, because bindings are looked up only after the next key arrives here."""
        if event.key in _ENDS:
            self._finish(_ENDS[event.key])
        elif event.key in _STEPS:
            self.action_step(_STEPS[event.key])
        else:
            return
        event.stop()
        event.prevent_default()

    def action_finish(self, how: str) -> None:
        """Pass the text on to the pane."""
        self._finish(End(how))

    def action_step(self, by: int) -> None:
        """Go a step up or down if values have steps; otherwise go to the previous or next field."""
        text = self._step(self.value, by)
        if text is None:
            self._finish(End.PREVIOUS if by > 0 else End.NEXT)
        else:
            self.value = text
            self.cursor_position = len(text)

    def _finish(self, how: End) -> None:
        self.post_message(self.Finished(self, how, self.value))

    def _on_blur(self, event: events.Blur) -> None:
        super()._on_blur(event)
        if not self.ended and self.app.screen is self.screen:
            self._finish(End.KEEP)
