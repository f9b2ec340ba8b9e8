"""Message log at the bottom of the screen."""

from __future__ import annotations

from rich.text import Text
from textual.events import Resize
from textual.timer import Timer
from textual.widgets import RichLog

from indifast.terminal import clock
from indifast.terminal.celltext import visible
from indifast.terminal.messages import KEPT, Entry, MessageStore

AT_ONCE = 200
"""Messages written per refresh; of a larger flood, the oldest appear only when a filter is set or cleared."""


SETTLED = 0.1
"""Seconds without another change of the width after which messages are folded anew."""


class MessageLog(RichLog, can_focus=True):
    """Shows messages, the newest at the end; keeps its position once scrolled."""

    def __init__(self, store: MessageStore, *, id: str | None = None) -> None:
        super().__init__(id=id, max_lines=KEPT, wrap=True, markup=False, highlight=False, min_width=20)
        self.store = store
        self._written = 0
        self._words: list[str] = []
        self._folded_at = 0  # the width for which the lines were made
        self._settling: Timer | None = None

    def on_resize(self, event: Resize) -> None:
        """Fold the messages for a new width, once it stays: whoever drags a window changes it all the time."""
        width = self.scrollable_content_region.width
        if self._settling is not None:
            self._settling.stop()
            self._settling = None
        if not self._folded_at:
            self._folded_at = width
        elif width != self._folded_at:
            self._settling = self.set_timer(SETTLED, self._fold)

    def _fold(self) -> None:
        """Write all messages anew; one who reads older ones stays near them."""
        self._settling = None
        self._folded_at = self.scrollable_content_region.width
        at_end, lines, top = self.is_vertical_scroll_end, len(self.lines), self.scroll_offset.y
        self.clear()
        self._write(self.store.since(0), at_end)
        self._written = self.store.count
        if not at_end and lines:
            self.scroll_to(y=top * len(self.lines) // lines, animate=False)

    def follow(self) -> None:
        """Write the new messages."""
        entries = self.store.since(self._written)
        at_end = self.is_vertical_scroll_end
        left_out = self.store.count - self._written - min(len(entries), AT_ONCE)
        self._written = self.store.count
        if left_out and self.is_mounted:
            self.write(
                Text(f"({left_out} messages at once; a filter shows those that were kept)", "dim"), scroll_end=at_end
            )
        self._write(entries[-AT_ONCE:], at_end)

    def filter(self, text: str) -> None:
        """Show only messages that contain all words of a text, including in the names of device and property."""
        self._words = text.casefold().split()
        self.clear()
        self._write(self.store.since(0), True)

    def _write(self, entries: list[Entry], at_end: bool) -> None:
        if not self.is_mounted:
            return
        for entry in entries:
            if entry.matches(self._words):
                self.write(self._line(entry), width=self._folded_at or None, scroll_end=at_end)

    def _line(self, entry: Entry) -> Text:
        text = Text()
        text.append(f"{clock.local_time(entry.when)} ", "dim")
        source = " ".join(visible(part) for part in (entry.device, entry.vector) if part)
        if source:
            text.append(f"{source}: ", "bold")
        text.append(visible(entry.text), "bold red" if entry.level == "Alert" else "")
        return text
