"""One connection of a client: the messages received, in order, and the queue of messages to send."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from indifast.protocol.compress import OFF
from indifast.protocol.drivernames import LOCAL_SOCKET, peer_port
from indifast.protocol.escape import for_log
from indifast.protocol.message import RAW, Buffer, Routable
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import QueueListener
from indifast.transport import connect
from indifast.transport.blobs import BlobMessage
from indifast.transport.incoming import MessageReader
from indifast.transport.packing import ByRate, wanted
from indifast.transport.rawframes import ACCEPTED, Agreement, offer
from indifast.transport.tlsfaults import is_tls

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.limits import Limits
    from indifast.transport.shm import DescriptorError
    from indifast.transport.stream import Stream

SPEAKS_TLS = "it speaks TLS: connect with TLS"

SEND_LIMIT = 4 << 20
"""Bytes that may wait to be sent before senders are made to wait."""


def unix_path(host: str) -> str | None:
    """Return the Unix socket that `host` stands for, or None for a TCP host.

    A Unix socket is written as a path, `unix:PATH` or `localhost:PATH`; without a path after the colon, it is
    `LOCAL_SOCKET`. Servers on Linux listen under abstract names: such a name is used if no file of that name exists,
    or if the path begins with @.
    """
    scheme, colon, path = host.partition(":")
    if colon and scheme in ("localhost", "unix"):
        path = path or LOCAL_SOCKET
    elif host.startswith(("/", "@")):
        path = host
    else:
        return None
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if os.path.exists(path) else "\0" + path


async def open_stream(host: str, port: int | str, within: float, ssl: ssl_module.SSLContext | bool | None) -> Stream:
    """Connect to a server.

    Raises:
        OSError: Connecting, including a TLS handshake, failed or took longer than `within` seconds.
    """
    try:
        async with asyncio.timeout(within):
            path = unix_path(host)
            if path is not None:
                return await connect.open_unix(path)
            context = ssl_module.create_default_context() if ssl is True else ssl or None
            return await connect.open_tcp(host, _number(port), within=within, ssl=context)
    except TimeoutError as error:
        raise TimeoutError(f"no answer from {host}:{port} within {within:g} s") from error


def _number(port: int | str) -> int:
    """Return the number of a port that may have been set since the client was made."""
    try:
        return peer_port(port)
    except (TypeError, ValueError) as error:
        raise OSError(errno.EINVAL, str(error)) from error


class Connection(QueueListener):
    """A stream with a message reader for input and a queue for output.

    Reading pauses while received messages wait to be taken: the server is read at the pace of the program.
    """

    def __init__(
        self,
        stream: Stream,
        limits: Limits,
        on_receive: Callable[[], None],
        on_skip: Callable[[str, int, bytes], None],
        on_refuse: Callable[[str], None],
        *,
        raw_frames: bool = False,
        compress: str = OFF,
        on_agreed: Callable[[], None] | None = None,
    ) -> None:
        self.stream = stream
        self.messages: deque[Routable] = deque()
        """Messages that were received but not yet taken."""
        self.lost = False
        self.reason = "closed by the server"
        self.error: Exception | None = None
        """What ended the connection, if that was not its end of file."""
        self.received = self.received_bytes = 0
        """Number of messages, and of bytes, received."""
        self.queue = ByteQueue(full_at=SEND_LIMIT, listener=self)
        self._reader = MessageReader(self, limits, asyncio.get_running_loop().call_later, relay=False)
        self._on_receive = on_receive
        self._on_skip = on_skip
        self._on_refuse = on_refuse
        self._stall = limits.stall
        self._compress = compress
        self._on_agreed = on_agreed
        self._fault: str | None = None  # the fault of the server that was found in what is being read
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._closed = False
        self._output_lost = False
        self._room: list[asyncio.Future[None]] = []

        if raw_frames and not stream.local:
            methods = wanted(compress, stream)
            self._reader.expect_raw(ACCEPTED, self._raw_agreed, methods)
            self.queue.instruct(offer(methods()), time.monotonic())

    def start(self) -> None:
        """Start reading and writing."""
        self.stream.start(self, self.queue)

    # -- Input

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """Read messages from received bytes."""
        if not (self.received_bytes or fds) and is_tls(memoryview(data)[start:end]):
            self.fail(SPEAKS_TLS)
            return
        messages = self._reader.read(data, start, end, fds)
        self._on_receive()
        self.received_bytes += end - start
        self.received += len(messages)
        if messages:
            self.messages.extend(messages)
            if not self.wake():
                self._pause()
        if self._fault is not None and not self.lost:
            self.fail(self._fault)
        elif self._reader.unread:
            self.stream.call_again(self._reader.again_after)

    def target(self) -> memoryview | None:
        """Return the memory that the next bytes belong in. See `Receiver`."""
        return self._reader.target()

    def arrived(self, nbytes: int) -> None:
        """Take note of bytes that were read into that."""
        self._reader.arrived(nbytes)
        self._on_receive()
        self.received_bytes += nbytes

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return self._reader.held

    def out_of_memory(self) -> None:
        """Give up the unfinished message."""
        self._given_up(self._reader.abandon(), "out of memory")

    # What the reader does not hand out: see `Listener`.

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        if not self._closed:
            self._on_skip(reason, nbytes, excerpt)

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        self.received += 1
        where = f"{for_log(element.device)}.{for_log(element.name)}"
        self._on_refuse(f"{where} is refused: {str(error) or 'out of memory'}")

    def flooded(self, error: DescriptorError, /) -> None:
        self._on_refuse(str(error))

    def outgrown(self, held: int, most: int, /) -> None:
        self._given_up(held, f"the limit is {most} bytes")

    def stalled(self, held: int, /) -> None:
        if not self.lost:
            self.fail(f"an unfinished message of {held} bytes was not continued for {self._stall:g} s")

    def missing(self, what: str, /) -> None:
        """Do nothing: this concerns only users of the message, and the client does not send received messages on."""

    def violated(self, why: str, /) -> None:
        self._fault = f"the server {why}"

    def _raw_agreed(self, agreed: Agreement) -> None:
        """Send raw frames from now on."""
        if self._on_agreed is not None:
            self._on_agreed()
        self.queue.form = RAW
        if agreed.pieces:
            self.stream.pace(self.queue, ByRate(self._compress, agreed.methods))

    def _given_up(self, held: int, why: str) -> None:
        self._on_refuse(f"an unfinished message of {held} bytes was dropped: {why}")

    def _pause(self) -> None:
        self._paused = True
        self._reader.pause()
        self.stream.pause_reading()

    def unread(self, device: str, name: str) -> list[Element]:
        """Return the messages about a property that were received but not yet taken."""
        waiting = self.messages
        return [message.element() for message in waiting if message.name == name and message.device == device]

    def output_lost(self) -> None:
        """Let those go on who wait for room: what has been received is still handled."""
        self._output_lost = True
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the stream has ended, and wake all waiting tasks."""
        self._closed = True
        self._reader.close()
        self.lost = True
        if exc is not None:
            self.error = exc
            self.reason = str(exc)
        self.wake()
        self._make_room()

    def wake(self) -> bool:
        """Let `wait` or `hold` return; return False if no task is waiting in them."""
        waiter = self._waiter
        if waiter is None:
            return False
        if not waiter.done():
            waiter.set_result(None)
        return True

    async def wait(self) -> None:
        """Wait until something has been received, the connection has ended, or `wake` was called."""
        if self._paused:
            self._paused = False
            self._reader.resume()
            self.stream.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def hold(self) -> None:
        """Wait until `wake` is called. Reading pauses until the next call of `wait`."""
        self._pause()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # -- Output

    def send(self, message: Routable) -> None:
        """Queue a message, unless the connection is lost."""
        if not (self.lost or self._output_lost):
            self.queue.append(message, time.monotonic())

    async def room(self) -> None:
        """Wait while the queue is full and the connection lasts."""
        while self.queue.full and not (self.lost or self._output_lost):
            waiter = asyncio.get_running_loop().create_future()
            self._room.append(waiter)
            await waiter

    def on_pending(self) -> None:
        """Write what is queued, at the end of this turn of the event loop."""
        self.stream.wake_soon()

    def on_room(self) -> None:
        """Let the tasks continue that wait in `room`."""
        self._make_room()

    def _make_room(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- End

    def fail(self, reason: str) -> None:
        """Give up the connection."""
        self.lost = True
        self.reason = reason
        self.stream.abort()
        self.wake()
        self._make_room()

    def close(self, grace: float) -> None:
        """Send what is queued within `grace` seconds, close the stream, and discard everything received."""
        self._closed = True
        self._reader.close()
        self.lost = True
        self.stream.close(grace)
        self.messages.clear()
        self._make_room()

    async def ended(self) -> None:
        """Wait until the stream is closed. If that is cancelled, end it."""
        try:
            await self.stream.wait_closed()
            await asyncio.sleep(0)  # streams report their end from the loop
        finally:
            self.stream.abort()


def writable(message: Routable) -> Routable:
    """Return a received message in a form that can be written again, including the BLOBs that came with it."""
    if isinstance(message, BlobMessage) or not message.blob:
        return message
    return BlobMessage.of(message.element())
