"""Pane for vectors of BLOBs: the heading that all panes have, above the BLOBs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from indifast.terminal.blobpane import BlobPane
from indifast.terminal.board import Board, Frame, Property
from indifast.terminal.celltext import fitted, visible
from indifast.terminal.pane import Lines, Piece, line


class Heading(Lines):
    """The heading alone, without rows of members."""

    def heading(self, width: int | None = None) -> list[list[Piece]]:
        """Return the heading with a line that says whether BLOBs are requested."""
        lines = super().heading(width)
        if self.shown.vector.perm != "wo":
            note = fitted(visible(self.board.blob_note(self.shown.key)), width or self.size.width)
            lines.insert(1, [(note, self.part("note"))])
        return lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the number of lines."""
        return len(self.heading(width))

    def render_line(self, y: int) -> Strip:
        """Draw a line of the heading."""
        heading = self.head()
        return line(heading[y] if y < len(heading) else [], self.size.width, self.part("base"))

    def follow(self) -> None:
        """Show the property as it is now."""
        if not self.is_attached:
            return
        before = self._head
        self._head = None
        if before is None or len(before[1]) != len(self.head()):
            self.clear_cached_dimensions()
            self.refresh(layout=True)
        else:
            self.refresh()


class BlobBox(Vertical):
    """A vector of BLOBs."""

    def __init__(self, shown: Property, board: Board) -> None:
        super().__init__()
        self.shown = shown
        self.heading = Heading(shown, board)
        members = [(name, visible(member.label or name)) for name, member in shown.vector.members().items()]
        self.blobs = BlobPane(*shown.key, members)
        self.blobs.on_send = self._send

    def compose(self) -> list[Widget]:
        """Return heading and content."""
        return [self.heading, self.blobs]

    @dataclass
    class SendFile(Message):
        """A request to send a file as a BLOB."""

        shown: Property
        path: Path
        member: str

    def _send(self, path: Path, member: str) -> None:
        self.post_message(self.SendFile(self.shown, path, member))

    def on_mount(self) -> None:
        """Show the property as it is now, and the last BLOBs."""
        self.follow()
        for member, frame in self.shown.frames.items():
            self._show(member, frame)

    def follow(self) -> None:
        """Show the property as it is now."""
        self.heading.follow()
        if self.blobs.is_mounted:
            self.blobs.shown(self.shown.vector.perm, self.shown.state)

    def received(self, member: str, frame: Frame, nbytes: int, count: int) -> None:
        """Show the newest BLOB of a member, after `count` BLOBs with `nbytes` bytes in all have arrived."""
        self.blobs.arrived(member, nbytes, count)
        self._show(member, frame)

    def _show(self, member: str, frame: Frame) -> None:
        self.blobs.received(member, frame.data, frame.format, frame.size, frame.timestamp, frame.sizes)
