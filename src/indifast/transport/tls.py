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
from typing import TYPE_CHECKING, Any, Self, cast

from indifast.protocol.complaints import Complaints
from indifast.transport.alive import Guard, tune_tcp
from indifast.transport.stream import (
    BLOCKED,
    CLOSED,
    CLOSING,
    FAILED,
    OPEN,
    READY,
    WATCHED,
    Stream,
    bytes_under_way,
    is_nearby,
    peer_name,
)
from indifast.transport.tlsfaults import OPTIONS, TLSError, named, speaks_no_tls, why_refused

if TYPE_CHECKING:
    from indifast.routing.bytequeue import ByteQueue

logger = logging.getLogger(__name__)

_GOODBYE = 0.25  # seconds that a peer has to answer the end of TLS, when it has everything else
HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a peer has for its handshake."""

MAX_HANDSHAKES = 256
"""Maximum number of concurrent handshakes. A further connection replaces the oldest one."""

ALERT_TIMEOUT = 3.0
"""Seconds that a peer has to read why it is refused."""

_ALERT_READS = 64  # reads of what a refused peer still sends

_HERE_IS_TLS = b"\x15\x03\x01\x00\x02\x02\x46"  # the alert "protocol version", which OpenSSL sends to no plain client
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
        self.unread_alert: Callable[[], ssl.SSLError | None] = lambda: None
        self._buffer: memoryview | None = None
        self._discarded = bytearray(_EARLY)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.stream is not None and self.stream._input is WATCHED:
            self._buffer = None
            return self.stream._room()
        if self.stream is not None and self.stream.closed:
            self._buffer = None
            return memoryview(self._discarded)
        self._buffer = memoryview(bytearray(_EARLY))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._buffer is not None:
            self.early += bytes(self._buffer[:nbytes])
            self._buffer = None
        elif self.stream is not None and not self.stream.closed:
            self.stream._received(nbytes)

    def eof_received(self) -> None:
        # If TLS has failed, asyncio calls `connection_lost`, which knows why, two passes of the loop after this.
        if self.stream is not None:
            loop = self.stream._loop
            loop.call_soon(loop.call_soon, loop.call_soon, self.stream._end_of_input)

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

    def __init__(
        self, transport: asyncio.Transport, sock: socket.socket, protocol: _Protocol, peername: str, *, serving: bool
    ) -> None:
        super().__init__(peername, False)
        self._serving = serving
        self._transport = transport
        self._socket = sock
        self._guard = Guard(self._loop, sock, self._end)
        self._block: Any = None
        self._start = 0
        self._protocol = protocol
        self._held = False  # whether the transport is paused
        self._clear = 0  # how often in a row nothing was under way after the last write
        self._leaving = False  # whether the transport has been told to close
        self._high = _HIGH_WATER
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        protocol.stream = self
        self._loop.call_soon(self._pause_unless_started)

    @property
    def under_way(self) -> int:
        """See `Stream.under_way`."""
        return self._transport.get_write_buffer_size() + bytes_under_way(self._socket)

    @property
    def nearby(self) -> bool:
        """See `Stream.nearby`."""
        return is_nearby(self._socket)

    def pace(self, queue: ByteQueue, method: Callable[[float], str] | None = None) -> None:
        """See `Stream.pace`."""
        from indifast.transport.drain import Drain

        self._drain = Drain(queue, self._socket, method)

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
        drain = self._drain
        while outbox.pending and self._output is not BLOCKED and self._life is not CLOSED:
            try:
                parts, _ = outbox.take(_CHUNK if drain is None else min(_CHUNK, drain.unsent // 2), _IOV_MAX)
                total = sum(map(len, parts))
                if total:
                    # The transport buffers what it can't write at once; `pause_writing` is called if that is too much.
                    self._transport.writelines(parts)
            except MemoryError:
                self._no_memory("write to it")
                return
            now = time.monotonic()
            outbox.sent(total, now)
            if drain is not None:
                drain.took(total, now)
                self._bound(drain.unsent)
            if not total:
                break
            if not self._guard.watching:
                self._guard.watch()
        if self._life is CLOSING:
            self._finish_if_flushed()

    def _bound(self, unsent: int) -> None:
        """Let the transport hold about as much as the kernel."""
        high = min(unsent, _HIGH_WATER)
        if high != self._high:
            self._high = high
            self._transport.set_write_buffer_limits(high=high)

    def _lost(self, exc: Exception | None) -> None:
        if exc is None and self._put_off(partial(self._lost, None)):
            self._output = FAILED
            return
        if exc is None and self._life is not CLOSED:
            exc = self._protocol.unread_alert()
        if isinstance(exc, ssl.SSLError):  # with TLS 1.3, a client learns only now that its certificate is refused
            exc = TLSError("TLS failed", why_refused(exc, serving=self._serving))
        self._end(exc, at_once=True)

    def _finish_if_flushed(self) -> None:
        """Say goodbye once the peer's kernel has everything, and give the peer a moment to answer.

        If the peer sends something after the goodbye, transports discard what they have not written.
        """
        if self._life is not CLOSING or not self._flushed() or self._leaving:
            return
        self._resume()  # what the peer sends meanwhile is discarded
        self._clear = 0 if self.under_way else self._clear + 1
        if self._clear < 2:  # once may be between two writes
            self._look_later()
            return
        self._leaving = True
        self._guard.close()
        self._transport.close()
        self._grace = self._loop.call_later(_GOODBYE, self._end, None)

    def _unwritten(self) -> int:
        return super()._unwritten() + self._transport.get_write_buffer_size()

    def _release(self) -> None:
        self._guard.close()
        self._transport.abort()  # does nothing if it is closed


class _Handshake:
    """Stands for a context in one handshake, and does what event loops do not.

    If the handshake fails, it tells the peer why. If the peer refuses us afterwards, it tells `protocol` why.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, protocol: _Protocol) -> None:
        self._context = context
        self._protocol = protocol
        self._sock: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._sock = sock.dup()  # asyncio closes the other one
        self._alert = b""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **keywords: Any) -> ssl.SSLObject:
        """Return an object that keeps the alert of a handshake that fails: asyncio throws it away."""
        made = self._context.wrap_bio(incoming, outgoing, **keywords)
        shake_hands = made.do_handshake

        def do_handshake() -> None:
            try:
                shake_hands()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as exc:
                self._alert = outgoing.read()
                if not self._alert and keywords.get("server_side") and speaks_no_tls(exc):
                    self._alert = _HERE_IS_TLS
                raise

        made.do_handshake = do_handshake  # type: ignore[method-assign]
        self._protocol.unread_alert = partial(_unread_alert, made, incoming)
        return made

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # event loops use nothing but `wrap_bio`, but uvloop asks for the type
        return ssl.SSLContext

    @property
    def context(self) -> ssl.SSLContext:
        """This object, for event loops."""
        return cast(ssl.SSLContext, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sock is not None:
            self._sock.close()

    async def send_alert(self) -> None:
        """Tell the peer why the handshake has failed, and wait a while until it has read that and closes.

        With TLS 1.3, a client may have finished its handshake, and sent its first messages. To close before they have
        been read would reset the connection, and the client might lose the reason.
        """
        if self._sock is None or not self._alert:
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # includes TimeoutError
            async with asyncio.timeout(ALERT_TIMEOUT):
                await loop.sock_sendall(self._sock, self._alert)
                self._sock.shutdown(socket.SHUT_WR)
                for _ in range(_ALERT_READS):
                    if not await loop.sock_recv(self._sock, _EARLY):
                        break


def _unread_alert(made: ssl.SSLObject, incoming: ssl.MemoryBIO) -> ssl.SSLError | None:
    """Return the alert in what was received and not read; None if there is none.

    At the end of a connection that is not read, uvloop throws away what it holds of the input.
    """
    try:
        while incoming.pending and made.read(_EARLY):
            pass
    except ssl.SSLError as exc:
        if "ALERT" in (exc.reason or ""):
            return exc
    return None


async def connect(sock: socket.socket, context: ssl.SSLContext, hostname: str, peername: str, where: str) -> TLSStream:
    """Perform the TLS handshake of a client on a connected socket.

    Args:
        sock: The socket. The stream takes ownership of it.
        context: The context for TLS.
        hostname: The name to check the server's certificate against.
        peername: The name of the peer, for logs.
        where: The name of the peer, for errors.

    Raises:
        TLSError: The handshake fails.
    """
    tune_tcp(sock)
    protocol = _Protocol()
    loop = asyncio.get_running_loop()
    with _Handshake(sock, context, protocol) as handshake:
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=sock, ssl=handshake.context, server_hostname=hostname,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )  # fmt: skip
        except OSError as exc:
            await handshake.send_alert()
            raise TLSError(f"TLS with {where} failed", why_refused(exc, serving=False)) from exc
    return TLSStream(transport, sock, protocol, peername, serving=False)


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
        with _Handshake(sock, self._context, protocol) as handshake:
            try:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, sock, ssl=handshake.context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
                )
            except OSError as exc:
                with contextlib.suppress(OSError):
                    sock.close()
                why = named(why_refused(exc, serving=True), OPTIONS)
                self._complaints.say(logging.WARNING, loop.time(), "TLS with %s failed: %s", name, why)
                await handshake.send_alert()
                return
        try:
            self._on_stream(TLSStream(transport, sock, protocol, name, serving=True))
        except BaseException:
            transport.abort()  # the transport has the socket, or a duplicate of it
            raise
