"""One connection of a client: what comes, in order, and what is sent."""

from __future__ import annotations

import asyncio
import os
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from indifast.protocol.escape import for_log
from indifast.protocol.message import Buffer, Routable
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import QueueListener
from indifast.transport import connect
from indifast.transport.blobs import BlobMessage
from indifast.transport.incoming import MessageReader

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.limits import Limits
    from indifast.transport.shm import DescriptorError
    from indifast.transport.stream import Stream

SEND_LIMIT = 4 << 20
"""Bytes that may wait to be sent before those who send more are asked to wait."""

DEFAULT_SOCKET = "/tmp/indiserver"
"""Where an INDI server on this machine listens unless told otherwise."""


def unix_path(host: str) -> str | None:
    """The Unix socket that a host stands for: a path, `unix:PATH`, `localhost:PATH`, or None for a TCP host.

    Without a path after the colon it is the usual place. Servers on Linux listen under abstract names: those are taken
    where no file of that name exists, or where the path begins with @.
    """
    scheme, colon, path = host.partition(":")
    if colon and scheme in ("localhost", "unix"):
        path = path or DEFAULT_SOCKET
    elif host.startswith(("/", "@")):
        path = host
    else:
        return None
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if os.path.exists(path) else "\0" + path


async def open_stream(host: str, port: int | str, within: float, ssl: ssl_module.SSLContext | bool | None) -> Stream:
    """Connect; OSError when that fails, or has not succeeded `within` seconds, a TLS handshake included."""
    try:
        async with asyncio.timeout(within):
            path = unix_path(host)
            if path is not None:
                return await connect.open_unix(path)
            context = ssl_module.create_default_context() if ssl is True else ssl or None
            return await connect.open_tcp(host, int(port), within=within, ssl=context)
    except TimeoutError as error:
        raise TimeoutError(f"no answer from {host}:{port} within {within:g} s") from error


class Connection(QueueListener):
    """A stream with a reader of messages on one side and a queue on the other.

    Reading pauses while messages wait that nobody has taken: the server is read at the pace of the program.
    """

    def __init__(
        self,
        stream: Stream,
        limits: Limits,
        on_receive: Callable[[], None],
        on_skip: Callable[[str, int, bytes], None],
        on_refuse: Callable[[str], None],
    ) -> None:
        self.stream = stream
        self.messages: deque[Routable] = deque()
        """What has come and was not taken yet."""
        self.lost = False
        self.reason = "closed by the server"
        self.received = self.received_bytes = 0
        """Messages, and bytes, that have come."""
        self.queue = ByteQueue(full_at=SEND_LIMIT, listener=self)
        self._reader = MessageReader(self, limits, asyncio.get_running_loop().call_later, relay=False)
        self._on_receive = on_receive
        self._on_skip = on_skip
        self._on_refuse = on_refuse
        self._stall = limits.stall
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._closed = False
        self._room: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Begin to read and write."""
        self.stream.start(self, self.queue)

    # -- in

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """Bytes have come."""
        messages = self._reader.read(data, start, end, fds)
        self._on_receive()
        self.received_bytes += end - start
        self.received += len(messages)
        if messages:
            self.messages.extend(messages)
            if not self.wake():
                self._pause()

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return self._reader.held

    def out_of_memory(self) -> None:
        """Give the unfinished message up."""
        self._given_up(self._reader.abandon(), "there is no memory for it")

    # what the reader does not hand out, see `Listener`

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
        self._given_up(held, f"that is more than {most}")

    def stalled(self, held: int, /) -> None:
        if not self.lost:
            self.fail(f"an unfinished message of {held} bytes, nothing more for {self._stall:g} s")

    def missing(self, what: str, /) -> None:
        """What was made of the message then is the business of those who have it: nothing of it is sent."""

    def _given_up(self, held: int, why: str) -> None:
        self._on_refuse(f"an unfinished message of {held} bytes is given up: {why}")

    def _pause(self) -> None:
        self._paused = True
        self._reader.pause()
        self.stream.pause_reading()

    def unread(self, device: str, name: str) -> list[Element]:
        """What has come about a property and was not taken yet."""
        waiting = self.messages
        return [message.element() for message in waiting if message.name == name and message.device == device]

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended."""
        self._closed = True
        self._reader.close()
        self.lost = True
        if exc is not None:
            self.reason = str(exc)
        self.wake()
        self._make_room()

    def wake(self) -> bool:
        """Let `wait` return; False if nobody waits."""
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
        """Wait until `wake` is called; until `wait` comes, no more is read."""
        self._pause()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # -- out

    def send(self, message: Routable) -> None:
        """Queue a message."""
        if not self.lost:
            self.queue.append(message, time.monotonic())

    async def room(self) -> None:
        """Wait while more is queued than a server should have to wait for."""
        while self.queue.full and not self.lost:
            waiter = asyncio.get_running_loop().create_future()
            self._room.append(waiter)
            await waiter

    def on_pending(self) -> None:
        """See `QueueListener`."""
        self.stream.wake_soon()

    def on_room(self) -> None:
        """See `QueueListener`."""
        self._make_room()

    def _make_room(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- the end

    def fail(self, reason: str) -> None:
        """Give the connection up."""
        self.lost = True
        self.reason = reason
        self.stream.abort()
        self.wake()
        self._make_room()

    def close(self) -> None:
        """Send what is queued, close, and let go of everything received."""
        self._closed = True
        self._reader.close()
        self.lost = True
        self.stream.close()
        self.messages.clear()
        self._make_room()


def writable(message: Routable) -> Routable:
    """A message that a client has received, as one that can be written again, with the BLOBs that came with it."""
    if isinstance(message, BlobMessage) or not message.blob:
        return message
    return BlobMessage.of(message.element(), [])
