"""Streams over TLS, on top of asyncio's transport (which copies the data, but implements TLS)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from indifast.protocol.complaints import Complaints
from indifast.transport.stream import BLOCKED, CLOSED, CLOSING, OPEN, READY, WATCHED, Stream, peer_name, tune_tcp

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a peer has for its handshake."""

MAX_HANDSHAKES = 256
"""Maximum number of concurrent handshakes. A further connection replaces the oldest one."""

_EARLY = 16 << 10  # bytes in a TLS record
_IOV_MAX = 256
_CHUNK = 256 << 10
_HIGH_WATER = 512 << 10  # bytes in the transport above which it accepts no more


class _Protocol(asyncio.BufferedProtocol):
    """Passes the calls of the event loop to a stream, which may not exist yet when the first bytes arrive.

    Reading must not be paused from the start, because the loop would then not report the end of the handshake.
    """

    def __init__(self) -> None:
        self.stream: TLSStream | None = None
        self.early = b""  # data that arrived before it was wanted: with the handshake, or just before a pause
        self._buffer: memoryview | None = None

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.stream is not None and self.stream._input is WATCHED:
            self._buffer = None
            return self.stream._room()
        self._buffer = memoryview(bytearray(_EARLY))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._buffer is not None:
            self.early += bytes(self._buffer[:nbytes])
            self._buffer = None
        elif self.stream is not None:
            self.stream._received(nbytes)

    def eof_received(self) -> None:
        if self.stream is not None:
            self.stream._end_of_input()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.stream is not None:
            self.stream._lost(exc)

    def pause_writing(self) -> None:
        if self.stream is not None:
            self.stream._output = BLOCKED

    def resume_writing(self) -> None:
        if self.stream is not None:
            self.stream._output = READY
            self.stream.wake()


class TLSStream(Stream):
    """A stream over a TCP connection with TLS, made by `connect` or an `Acceptor` after the handshake."""

    def __init__(self, transport: asyncio.Transport, protocol: _Protocol, peername: str) -> None:
        super().__init__(peername, False)
        self._transport = transport
        self._block: Any = None
        self._start = 0
        self._protocol = protocol
        self._held = False  # whether the transport is paused
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        protocol.stream = self
        self._loop.call_soon(self._pause_unless_started)

    def peer_certificate(self) -> dict[str, Any] | None:
        """Return the peer's verified certificate, as `ssl.SSLSocket.getpeercert` does; None if there is none."""
        found = self._transport.get_extra_info("peercert")
        return found or None

    def _pause_unless_started(self) -> None:
        if self._input is not WATCHED:
            self._shut_input()

    def _open_input(self) -> None:
        if self._protocol.early:
            self._loop.call_soon(self._deliver_early)
        else:
            self._resume()

    def _resume(self) -> None:
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    def _shut_input(self) -> None:
        if not self._held and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def _deliver_early(self) -> None:
        if self._input is WATCHED:
            early, self._protocol.early = self._protocol.early, b""
            self._deliver(early, 0, len(early), [])
        if self._input is WATCHED:
            self._resume()

    def _room(self) -> memoryview:
        self._block, room = self._buffer.room()
        self._start = self._buffer.start
        return room

    def _received(self, nbytes: int) -> None:
        block, self._block = self._block, None
        end = self._buffer.fill(nbytes)
        if self._life is OPEN:
            self._deliver(block, self._start, end, [])

    def _write(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        while outbox.pending and self._output is not BLOCKED and self._life is not CLOSED:
            try:
                parts, _ = outbox.take(_CHUNK, _IOV_MAX)
                total = sum(map(len, parts))
                if total:
                    # The transport buffers what it can't write at once; `pause_writing` is called if that is too much.
                    self._transport.writelines(parts)
            except MemoryError:
                self._no_memory("write to it")
                return
            outbox.sent(total, time.monotonic())
            if not total:
                break
        if self._life is CLOSING:
            self._finish_if_flushed()

    def _lost(self, exc: Exception | None) -> None:
        self._end(exc, at_once=True)

    def _release(self, orderly: bool) -> None:
        if orderly:
            self._transport.close()  # writes its buffer first
            self._loop.call_later(HANDSHAKE_TIMEOUT, self._transport.abort)
        else:
            self._transport.abort()


async def connect(sock: socket.socket, context: ssl.SSLContext, hostname: str, peername: str) -> TLSStream:
    """Perform the TLS handshake of a client on a connected socket.

    Args:
        sock: The socket. The stream takes ownership of it.
        context: The context for TLS.
        hostname: The name to check the server's certificate against.
        peername: The name of the peer, for logs.

    Raises:
        OSError: The handshake fails. (ssl.SSLError is an OSError.)
    """
    tune_tcp(sock)
    protocol = _Protocol()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(
        lambda: protocol, sock=sock, ssl=context, server_hostname=hostname, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
    )
    return TLSStream(transport, protocol, peername)


class Acceptor:
    """Performs the TLS handshakes of accepted connections concurrently.

    If there are too many, it aborts the oldest handshake instead of refusing the newest, so that peers that connect and
    then send nothing can't keep the others out.
    """

    def __init__(self, context: ssl.SSLContext, on_stream: Callable[[Stream], None]) -> None:
        self._context = context
        self._on_stream = on_stream
        self._complaints = Complaints(logger)
        self._tasks: dict[asyncio.Task[None], str] = {}  # with the peers' names, the oldest first

    def take(self, sock: socket.socket) -> None:
        """Start the handshake on an accepted socket."""
        if len(self._tasks) >= MAX_HANDSHAKES:
            oldest = next(iter(self._tasks))
            text = "TLS with %s failed: no handshake yet, and %d others have connected since"
            self._complaints.say(logging.WARNING, time.monotonic(), text, self._tasks.pop(oldest), MAX_HANDSHAKES)
            oldest.cancel()
        name = peer_name(sock)
        task = asyncio.get_running_loop().create_task(self._shake_hands(sock, name))
        self._tasks[task] = name
        task.add_done_callback(partial(self._over, sock, name))

    def close(self) -> None:
        """Abort all handshakes in progress."""
        for task in self._tasks:
            task.cancel()

    def _over(self, sock: socket.socket, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():  # perhaps before it began
            sock.close()
        elif (error := task.exception()) is not None:
            sock.close()
            text = "connection from %s refused after an internal error"
            self._complaints.say(logging.ERROR, time.monotonic(), text, name, exc_info=error)

    async def _shake_hands(self, sock: socket.socket, name: str) -> None:
        tune_tcp(sock)
        protocol = _Protocol()
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except OSError as exc:
            with contextlib.suppress(OSError):
                sock.close()
            self._complaints.say(logging.WARNING, loop.time(), "TLS with %s failed: %s", name, exc)
            return
        try:
            self._on_stream(TLSStream(transport, protocol, name))
        except BaseException:
            transport.abort()  # the transport has the socket, or a duplicate of it
            raise
