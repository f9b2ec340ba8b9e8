"""The message log: what is kept, and what a filter lets through."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import NamedTuple

KEPT = 2_000
"""Messages that are remembered."""


class Entry(NamedTuple):
    """A message. `number` counts up; `device` and `vector` are empty for what the client or the server says."""

    number: int
    when: datetime
    device: str
    vector: str
    text: str
    level: str

    def matches(self, words: list[str]) -> bool:
        """Whether every word occurs in it, in whatever case."""
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
        """Note a message."""
        self.count += 1
        self.entries.append(Entry(self.count, when, device, vector, text, level))

    def since(self, number: int) -> list[Entry]:
        """What came after the message of this number and is still there."""
        fresh = min(self.count - number, len(self.entries))
        if fresh <= 0:
            return []
        return [self.entries[index] for index in range(len(self.entries) - fresh, len(self.entries))]
