"""A queue and a model of it, which write the same amount at the same time, and have to write the same."""

from __future__ import annotations

from typing import Protocol

from indifast.routing.bytequeue import ByteQueue


class Model(Protocol):
    def offer(self, nbytes: int) -> None:
        """Offer `nbytes` bytes."""

    def send(self, nbytes: int) -> bytes:
        """Write `nbytes` bytes of the offer, and return them."""


class SideBySide:
    def __init__(self, queue: ByteQueue, model: Model) -> None:
        self._queue, self._model = queue, model
        self._got = self._expected = b""
        self._taken: tuple[bytes, int] | None = None  # the offer, and how much of it will be written
        self._single = False  # whether the offer is of one small message

    @property
    def on_offer(self) -> bool:
        return self._taken is not None

    def take(self, nbytes: int, max_bytes: int, max_parts: int) -> bool:
        """Take an offer, of which `nbytes` will be written; return whether there is anything on offer."""
        single = self._queue.take_single()
        self._single = single is not None
        data = b"".join(map(bytes, self._queue.take(max_bytes, max_parts)[0] if single is None else [single]))
        if data:
            self._taken = data, min(nbytes, len(data))
            self._model.offer(len(data))
        return bool(data)

    def finish(self) -> bool:
        """Write what was taken, and compare; return whether anything was on offer."""
        if self._taken is None:
            return False
        data, nbytes = self._taken
        self._taken = None
        if self._single and nbytes == len(data) and self._queue.messages == 1:
            self._queue.sent_single(0.0)
        else:
            assert self._queue.sent(nbytes, 0.0) == self._queue.pending
        self._got += data[:nbytes]
        self._expected += self._model.send(nbytes)
        assert self._got == self._expected
        return True
