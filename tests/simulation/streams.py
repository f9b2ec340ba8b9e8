"""The streams of a simulated site: the real one over a modelled socket, and one whose writes take time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from indifast.transport.stream import BLOCKED, CLOSED, CLOSING, READY, SocketStream

_CHUNK = 4 << 10
_MOST_PARTS = 64


class ThreadStream(SocketStream):
    """Stream that writes as a thread does: for a while, nobody knows how much of what was taken is written."""

    rng: random.Random

    def _write(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        if outbox.pending:
            parts, fds = outbox.take(_CHUNK, _MOST_PARTS)
            if parts:
                self._output = BLOCKED
                self._loop.call_later(self.rng.choice((0.0, 0.001, 0.01)), self._go_on, list(parts), fds, 0)
                return
            outbox.sent(0, self._loop.time())
        if self._life is CLOSING:
            self._finish_if_flushed()

    def _go_on(self, parts: list[Any], fds: Sequence[int], written: int) -> None:
        if self._life is CLOSED:
            return
        assert self._outbox is not None
        try:
            nbytes, _ = self._send(parts, fds)
        except BlockingIOError:
            self._loop.call_later(0.005, self._go_on, parts, fds, written)
            return
        except OSError as error:
            self._outbox.sent(0, self._loop.time())
            self._end(error)
            return
        left = b"".join(parts)[nbytes:]
        if left:
            self._loop.call_later(0.001, self._go_on, [left], (), written + nbytes)
            return
        self._output = READY
        self._outbox.sent(written + nbytes, self._loop.time())
        self._write()

    def _writable(self) -> None:
        """Do nothing: nobody waits for this."""
