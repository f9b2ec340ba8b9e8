"""Storage of the message log, and the filter for its entries."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import NamedTuple

KEPT = 2_000
"""Number of messages that are kept."""


class Entry(NamedTuple):
    """A message. `number` counts up; `device` and `vector` are empty for messages of the client or the server."""

    number: int
    when: datetime
    device: str
    vector: str
    text: str
    level: str

    def matches(self, words: list[str]) -> bool:
        """Return whether the message contains every one of the words, which are case-folded."""
        if not words:
            return True
        line = f"{self.device} {self.vector} {self.text} {self.level}".casefold()
        return all(word in line for word in words)


class MessageStore:
    """The last messages of all devices, the server and the client itself."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, device: str, vector: str, when: datetime, text: str, level: str = "") -> None:
        """Store a message."""
        self.count += 1
        self.entries.append(Entry(self.count, when, device, vector, text, level))

    def since(self, number: int) -> list[Entry]:
        """Return the messages after the one with this number, as far as they are kept."""
        fresh = min(self.count - number, len(self.entries))
        if fresh <= 0:
            return []
        return [self.entries[index] for index in range(len(self.entries) - fresh, len(self.entries))]
