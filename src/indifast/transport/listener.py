"""A listener that accepts connections and survives a lack of descriptors or memory."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable

from indifast.protocol.backoff import pause_after
from indifast.protocol.complaints import Complaints
from indifast.transport.stream import SocketStream, Stream, address_name, peer_name
from indifast.transport.tls import Acceptor

logger = logging.getLogger(__name__)

_ACCEPTS = 64  # connections accepted per iteration of the loop
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds
# The system has no descriptor or memory for another connection, but may have some a little later.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Turns connections to listening sockets into streams until it is closed.

    Args:
        sockets: The listening sockets. The listener takes ownership of them.
        on_stream: Called with each new stream, before anything is read from it.
        acceptor: Takes the accepted sockets instead, and makes the streams.
    """

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        on_stream: Callable[[Stream], None],
        acceptor: Acceptor | None = None,
    ) -> None:
        self.sockets = tuple(sockets)
        self._on_stream = on_stream
        self._acceptor = acceptor
        self._loop = asyncio.get_running_loop()
        self._failures = 0  # consecutive
        self._resume: asyncio.TimerHandle | None = None
        self._complaints = Complaints(logger)
        self._closed = False
        for sock in self.sockets:
            sock.setblocking(False)
        self._watch()

    @property
    def port(self) -> int | None:
        """The TCP port, the same for all sockets; None for a Unix socket."""
        sock = self.sockets[0]
        return None if sock.family == socket.AF_UNIX else sock.getsockname()[1]

    @property
    def addresses(self) -> list[str]:
        """The addresses that the sockets listen on, for display. An abstract Unix name begins with `@`."""
        names = []
        for sock in self.sockets:
            name = sock.getsockname()
            if sock.family != socket.AF_UNIX:
                names.append(address_name(name))
            else:
                names.append("@" + name[1:].decode(errors="replace") if isinstance(name, bytes) else name)
        return names

    def close(self) -> None:
        """Stop accepting connections. Existing streams are not affected."""
        if self._closed:
            return
        self._closed = True
        if self._acceptor is not None:
            self._acceptor.close()
        if self._resume is not None:
            self._resume.cancel()
        else:
            self._unwatch()
        for sock in self.sockets:
            sock.close()

    def _watch(self) -> None:
        self._resume = None
        for sock in self.sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _unwatch(self) -> None:
        for sock in self.sockets:
            self._loop.remove_reader(sock.fileno())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _address = listening.accept()  # close-on-exec, like all Python sockets
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                if exc.errno in _EXHAUSTED:
                    self._back_off(exc)
                    return
                continue  # this connection failed before it was accepted
            except MemoryError as exc:
                self._back_off(exc)
                return
            self._failures = 0
            self._take(sock)
            if self._closed:
                return

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            if self._acceptor is not None:
                self._acceptor.take(sock)
            else:
                self._on_stream(SocketStream(sock))
        except Exception as exc:
            text = "connection from %s refused after an internal error"
            self._complaints.say(logging.ERROR, self._loop.time(), text, peer_name(sock), exc_info=exc)
            sock.close()

    def _back_off(self, exc: OSError | MemoryError) -> None:
        """Stop accepting for a while. A waiting connection keeps its socket readable, so the loop would spin."""
        self._failures += 1
        pause = pause_after(self._failures, _FIRST_PAUSE, _LONGEST_PAUSE)
        try:
            self._resume = self._loop.call_later(pause, self._watch)
        except MemoryError:
            return  # without a timer, accepting must not be paused
        self._unwatch()
        if self._failures == 1:
            why = exc if isinstance(exc, OSError) else "out of memory"
            self._complaints.say(logging.ERROR, self._loop.time(), "cannot accept connections for now: %s", why)
