"""What arrived in a BLOB vector.

The contract between this module and the rest of the terminal: `BlobBox` puts a `BlobPane` below the heading of a BLOB
vector and calls `shown` when state or permission change, `arrived` with what came since the last refresh, and
`received` with the newest BLOB of a member, at most some twenty times a second. The pane calls `on_send(path, member)`
when a file is to be sent; whether that worked is told in the heading. Whether BLOBs are asked for, and by which key, is
told there, too. Text from the network goes through `plain` and is never read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from textual.widgets import Static


class BlobPane(Static):
    """The BLOBs of a vector: what arrived last of each member, and how much in all.

    `members` are pairs of name and label. `on_send` is set by whoever made the pane.
    """

    on_send: Callable[[Path, str], None] | None = None

    def __init__(self, device: str, vector: str, members: Sequence[tuple[str, str]]) -> None:
        super().__init__("", markup=False)
        self.members = members
        self._counts: dict[str, tuple[int, int]] = {}
        self._last: dict[str, str] = {}

    def on_mount(self) -> None:
        """Show that nothing came yet."""
        self._show()

    def shown(self, perm: str, state: str) -> None:
        """The vector's permission and state, whenever one of them may have changed."""

    def arrived(self, member: str, nbytes: int, count: int) -> None:
        """So many BLOBs of a member came since this was last called, of so many bytes together."""
        total, number = self._counts.get(member, (0, 0))
        self._counts[member] = (total + nbytes, number + count)

    def received(self, member: str, data: Any, format: str, size: int, timestamp: datetime) -> None:
        """The newest BLOB of a member: its content (bytes or a memoryview), format and size as announced."""
        self._last[member] = f"{len(data):,} bytes {format}"
        self._show()

    def _show(self) -> None:
        lines = [
            f"  {label}: {self._last.get(name, 'nothing came yet')}, {self._counts.get(name, (0, 0))[1]} in all"
            for name, label in self.members
        ]
        self.update("\n".join(lines))
