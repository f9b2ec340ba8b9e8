"""How fast a peer takes what is written, and what follows from that: how large pieces are, and what the kernel holds.

A message can pass a frame only before its next piece, and not what the kernel has taken already. So on a slow link,
pieces are small, and the kernel is given little more than what it can send at once. A peer that is as fast as a program
on the same machine is sent whole frames, in as few system calls as without this.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from indifast.routing.bytequeue import ByteQueue
from indifast.routing.cutting import LARGEST_PIECE

SPAN = 0.02
"""Seconds that the kernel may need for what it holds unsent; and for a frame that is written as a whole.

The kernel asks for more when half of that is left, which is enough time for a busy program to give it more.
"""

PIECE_SPAN = 0.01
"""Seconds that one piece takes."""

SMALLEST_PIECE = 8 << 10
"""Bytes: with smaller pieces, their heads and the switching between them would cost more than is gained."""

FIRST_PIECE = 64 << 10
"""Bytes of a piece before anything is known of the peer."""

_WINDOW = 0.05  # seconds for which the rate is measured at once
_ENOUGH = 1 << 20  # bytes for which it is measured if they take less time
_STARVED = 0.1  # seconds for which a thread compresses more slowly than the peer takes, before that is believed
_FASTER = 1.5  # by how much the rate is then taken to be higher
_FASTEST = 1e9  # bytes per second beyond which a higher rate changes nothing
_NO_TUNNEL = 50e6  # bytes per second of a peer on this machine that is no tunnel to another one, as over SSH
_MOST_UNSENT = 4 << 20  # bytes: as much as a socket holds if nobody limits it
_WORTH_A_THREAD = 512 << 10  # bytes unsent from which on writing takes long enough to be done by a thread


class Drain:
    """Measures the rate of one connection, and adapts its queue and its socket to that.

    The rate counts only while the queue has something that waits: from the first write of such a time, of which the
    kernel takes a part at once, to the last one. The time in which other peers have their turn does not count. For a
    peer that takes faster than a thread compresses for it, nothing waits. Its rate is then raised until the method is a
    faster one, or none, and the rate can be measured again.

    Args:
        queue: The queue of the connection.
        sock: Its socket.
        method: Returns the method by which to compress frames at a rate; "" for none. See `packing.ByRate`.
        nearby: Whether the peer is known to be on this machine. It may still be a tunnel to another one.
    """

    def __init__(
        self,
        queue: ByteQueue,
        sock: socket.socket,
        method: Callable[[float], str] | None = None,
        *,
        nearby: bool = False,
    ) -> None:
        self.rate = 0.0
        """Bytes per second; 0 if that is not known yet."""
        self.unsent = 0
        """Bytes that the kernel may hold unsent."""
        self._queue = queue
        self._sock = sock
        self._method = method
        self._nearby = nearby
        self._since: float | None = None  # when the measurement began; None while nothing waits
        self._taken = 0
        self._left: float | None = None  # since when others have had their turn, although the peer would take more
        self._starved: float | None = None  # since when the queue has had nothing but what is being compressed
        self._adapt()

    @property
    def slow(self) -> bool:
        """Whether the kernel takes less at once than is worth handing to a thread."""
        return self.unsent < _WORTH_A_THREAD

    def go_on(self, now: float) -> None:
        """Note that the turn of others is over. See `took`."""
        if self._left is not None:
            if self._since is not None:
                self._since += now - self._left
            self._left = None

    def took(self, nbytes: int, now: float, *, more: bool = False) -> None:
        """Note that `nbytes` were written.

        Args:
            nbytes: How many bytes.
            now: When.
            more: Whether the peer would take more, but others have their turn. Time does not count until `go_on`.
        """
        self._left = now if more else None
        since = self._since
        waiting = self._queue.pending
        self._note_starved(now)
        if since is None:
            if waiting:
                self._since, self._taken = now, 0
            return
        self._taken += nbytes
        seconds = now - since
        if seconds >= _WINDOW or (self._taken >= _ENOUGH and (more or not waiting)):
            rate = self._taken / max(seconds, 1e-6)
            self.rate = rate if not self.rate else (self.rate + rate) / 2
            self._adapt()
            self._since, self._taken = now, 0
        if not waiting:
            self._since = None

    def _note_starved(self, now: float) -> None:
        if not self._queue.starved:
            self._starved = None
        elif self._starved is None:
            self._starved = now
        elif 0 < self.rate < _FASTEST and now - self._starved >= _STARVED:
            self.rate *= _FASTER
            self._adapt()
            self._starved = now

    def _adapt(self) -> None:
        """Set sizes for the present rate."""
        rate = self.rate or FIRST_PIECE / PIECE_SPAN
        piece = max(SMALLEST_PIECE, min(int(rate * PIECE_SPAN), LARGEST_PIECE))
        self._queue.cut_frames(piece, int(rate * SPAN))
        if self._method is not None:
            self._queue.compress(self._method(self.rate))
        self._queue.as_received = self._nearby and self.rate >= _NO_TUNNEL
        unsent = max(2 * SMALLEST_PIECE, min(int(rate * SPAN), _MOST_UNSENT))
        # Each change is a system call, so small ones are left out.
        if not self.unsent or unsent == _MOST_UNSENT or not 0.75 < unsent / self.unsent < 1.5:
            self._limit(unsent)

    def _limit(self, unsent: int) -> None:
        if unsent == self.unsent:
            return
        self.unsent = unsent
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):  # the socket is dead: writing to it will say so
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)
