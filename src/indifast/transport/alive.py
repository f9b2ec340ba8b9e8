"""Notices that the far side of a TCP connection has vanished without a word: no power, no network.

The kernel probes an idle connection (keep-alive), but not one with data under way: that it sends again and again, for a
quarter of an hour. Linux could limit this (TCP_USER_TIMEOUT), but would then also end a connection whose reader is
alive and reads nothing for a while. So a `Guard` watches the acknowledgements while data is under way.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import os
import socket
import struct
import sys
import weakref
from collections.abc import Callable
from typing import NamedTuple

NOTICED_WITHIN = 15.0
"""Seconds within which a peer that has vanished without a word is noticed."""

# What follows adds up to less than that.

IDLE = 5
"""Seconds without a packet after which the kernel probes an idle connection."""

PROBE_INTERVAL = 3
"""Seconds between the probes."""

PROBES = 3
"""Probes without an answer that end an idle connection."""

RESEND_INTERVAL = 4
"""Maximum seconds between two attempts to send the same data, or to probe a reader that has no room.

Linux doubles the interval with each attempt, up to two minutes. Before 6.15, this can't be changed: there, a reader
that had no room for a while before it vanished is noticed only after as long again.
"""

SILENCE = 12.0
"""Seconds without any acknowledgement that end a connection with data under way."""

LOOK_INTERVAL = 2.0
"""Seconds between two looks at a connection with data under way."""

_TCP_RTO_MAX_MS = 44  # Linux 6.15; Python has no name for it
_LONGEST_RESEND_INTERVAL = 120  # seconds: what the kernel takes if it is not told otherwise

_CLOSED = b"\x07"  # of `struct tcp_info`, tcpi_state: nothing can be under way any more, whatever the rest says

# Of `struct tcp_info`: tcpi_probes, tcpi_unacked, tcpi_last_ack_recv (ms), tcpi_notsent_bytes, tcpi_snd_wnd
_INFO = struct.Struct("=3xB20xI28xI84xI80xI")
_WITHOUT_WINDOW = struct.Struct("=3xB20xI28xI84xI")  # before Linux 5.4


class Progress(NamedTuple):
    """What the kernel knows of data under way."""

    unacknowledged: int
    """Packets that were sent but not acknowledged."""
    unsent: int
    """Bytes that were not sent, because the far side has no room for them, or the network is slow."""
    window: int
    """Bytes that the far side has room for."""
    probes: int
    """Unanswered questions whether a far side without room has some now."""
    silent: float
    """Seconds since the last acknowledgement."""

    @property
    def under_way(self) -> bool:
        """Whether there is anything to be acknowledged."""
        return bool(self.unacknowledged or self.unsent)

    @property
    def vanished(self) -> bool:
        """Whether the far side would have answered if it was still there.

        One that has no room is asked so rarely by an old kernel that its last answer may be minutes old.
        """
        if self.silent < SILENCE:
            return False
        return self.probes >= PROBES or (self.unacknowledged > 0 and self.window > 0)


def progress(sock: socket.socket) -> Progress | None:
    """Return what the kernel knows, or None if it does not say."""
    if sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return None
    if info[:1] == _CLOSED:
        return Progress(0, 0, 0, 0, 0.0)
    if len(info) >= _INFO.size:
        probes, unacknowledged, silent, unsent, window = _INFO.unpack_from(info)
    elif len(info) >= _WITHOUT_WINDOW.size:
        probes, unacknowledged, silent, unsent = _WITHOUT_WINDOW.unpack_from(info)
        window = 0 if probes else 1
    else:
        return None
    return Progress(unacknowledged, unsent, window, probes, silent / 1000)


class Guard:
    """Watches one connection while data is under way. An idle connection has no timer.

    Args:
        loop: The event loop.
        sock: The connected TCP socket.
        on_vanished: Called once, with the error that ends the connection, when the far side has vanished.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_vanished: Callable[[OSError], None]
    ) -> None:
        self.watching = False
        """Whether the connection is being watched. If not, call `watch` after something was written."""
        self._loop = loop
        self._sock = sock
        self._on_vanished = on_vanished
        self._timer: asyncio.TimerHandle | None = None
        _open.add(self)

    @property
    def under_way(self) -> bool:
        """Whether there is anything to be acknowledged, as far as the kernel says."""
        found = progress(self._sock)
        return found is not None and found.under_way

    def watch(self) -> None:
        """Watch the connection until everything that was written is acknowledged."""
        with contextlib.suppress(MemoryError):  # then the next write starts it
            self._timer = self._loop.call_later(LOOK_INTERVAL, self._look)
            self.watching = True

    def _look(self) -> None:
        self.watching = False
        found = progress(self._sock)
        if found is None or not found.under_way:
            return
        if not found.vanished:
            self.watch()
            return
        with contextlib.suppress(OSError):
            # What is under way must not arrive after all, beside a new connection.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._on_vanished(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def close(self) -> None:
        """Stop watching. To be called before the socket is closed.

        The kernel sends what is left after the socket has been closed. A reader that has no room it asks at growing
        intervals, and gives it up with the longest one: with ours, after a few seconds. A reader that has not read for
        half a minute by now is given up with the next question all the same.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _open.discard(self)
        _resend_within(self._sock, _LONGEST_RESEND_INTERVAL)


_open: weakref.WeakSet[Guard] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    """Close the guards of a program that ends without closing its connections."""
    for guard in list(_open):
        guard.close()


def tune_tcp(sock: socket.socket) -> None:
    """Make a socket send small messages at once, and make the kernel probe it often."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    for name, value in (("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", PROBE_INTERVAL), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for level, option, value in options:
        with contextlib.suppress(OSError):  # the socket is dead already: reading from it will fail
            sock.setsockopt(level, option, value)
    _resend_within(sock, RESEND_INTERVAL)


def _resend_within(sock: socket.socket, seconds: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # an old kernel, or a dead socket
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, seconds * 1000)
