"""How targets read their decisions and their data from the bytes that a fuzzer makes up."""

from __future__ import annotations

import random


class Input:
    """Bytes of a fuzzer, read from the front: a few decisions, then data.

    A decision costs one byte, and a missing byte is zero, so that every input means something and mutating the data
    does not change the decisions.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """Take one byte; 0 if none is left."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, count: int) -> bytes:
        """Take the next `count` bytes, or fewer if no more are left."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """Take all that is left."""
        return self.take(len(self._data))


def chunks(data: bytes, way: int) -> list[bytes]:
    """Cut data into chunks.

    Args:
        data: What to cut.
        way: 0 for one chunk, 1 to 31 for chunks of that size; any other number for chunks of random sizes, some empty,
            always the same for one number.
    """
    if way == 0 or not data:
        return [data]
    if way < 32:
        return [data[at : at + way] for at in range(0, len(data), way)]
    rng = random.Random(way)
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
