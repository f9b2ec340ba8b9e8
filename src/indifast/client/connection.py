"""One connection of a client: bytes in, elements out in order; messages in, bytes out."""

from __future__ import annotations

import asyncio
import os
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from indifast._parser import Element, Tokenizer
from indifast.protocol.message import Buffer, Routable
from indifast.protocol.shown import shown
from indifast.routing.outbox import ByteQueue
from indifast.transport import connect, shm
from indifast.transport.blobs import BlobContent, BlobMessage

if TYPE_CHECKING:
    from indifast._parser import Member
    from indifast.protocol.limits import Limits
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


class Connection:
    """A stream with a tokenizer on one side and a queue on the other.

    Reading pauses while elements wait that nobody has taken: the server is read at the pace of the program.
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
        self.elements: deque[Element] = deque()
        self.lost = False
        self.reason = "closed by the server"
        self.received = self.received_bytes = 0
        """Messages, and bytes, that have come."""
        self.queue = ByteQueue(full_at=SEND_LIMIT)
        self._tokenizer = Tokenizer(relay=False, on_skip=on_skip, **limits.tokenizer())
        self._on_receive = on_receive
        self._on_refuse = on_refuse
        self._stall = limits.stall
        self._last_read = 0.0
        self._watch: asyncio.TimerHandle | None = None  # only while a message is unfinished
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._fds = shm.DescriptorQueue(self._tokenizer, limits.blob)
        self.attachments: dict[int, list[int]] = {}
        """Descriptors by the identity of the waiting element they came with; whoever takes them closes them."""
        self._room: list[asyncio.Future[None]] = []
        self.queue.on_room = self._make_room

    def start(self) -> None:
        """Begin to read and write."""
        self.stream.start(self, self.queue)

    # -- in

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """Bytes have come."""
        if fds:
            self._put_descriptors(fds)
        self._on_receive()
        elements = self._tokenizer.feed(data, start, end)
        self.received_bytes += end - start
        self.received += len(elements)
        self._last_read = time.monotonic()
        if self._watch is None and self._tokenizer.held and not self.lost:
            self._watch = asyncio.get_running_loop().call_later(self._stall, self._check_progress)
        if self.stream.local:
            elements = self._take_descriptors(elements)
        if elements:
            self.elements.extend(elements)
            if not self.wake():
                self._paused = True
                self.stream.pause_reading()

    def _check_progress(self) -> None:
        """Give the server up if it has begun a message and said nothing more for too long, while it was read."""
        self._watch = None
        if self.lost or not self._tokenizer.held:
            return
        rest = self._stall if self._paused else self._last_read + self._stall - time.monotonic()
        if rest > 0:
            self._watch = asyncio.get_running_loop().call_later(rest, self._check_progress)
            return
        self.fail(f"an unfinished message of {self._tokenizer.held} bytes, nothing more for {self._stall:g} s")

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return self._tokenizer.held

    def out_of_memory(self) -> None:
        """Give the unfinished message up."""
        held = self._tokenizer.held
        self._tokenizer.abandon()
        self._fds.settle(())
        self._on_refuse(f"an unfinished message of {held} bytes is given up: there is no memory for it")

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _put_descriptors(self, fds: list[int]) -> None:
        try:
            self._fds.put(fds)
        except shm.DescriptorError as error:
            self._on_refuse(str(error))

    def _take_descriptors(self, elements: list[Element]) -> list[Element]:
        """Give every element its descriptors; returns the elements without those that are refused for want of some."""
        self._fds.settle(elements)
        kept = []
        for element in elements:
            try:
                if element.descriptors:
                    found = self._fds.take(element)
                    try:
                        self.attachments[id(element)] = found
                    except MemoryError:
                        shm.close_all(found)
                        raise
                kept.append(element)
            except shm.DescriptorError as error:
                self._on_refuse(f"{shown(element.device)}.{shown(element.name)} is refused: {error}")
        return kept

    def unread(self, device: str, name: str) -> list[Element]:
        """What has come about a property and was not taken yet."""
        return [element for element in self.elements if element.name == name and element.device == device]

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended."""
        self._unwatch()
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
            self._last_read = time.monotonic()  # what the server said meanwhile is only read now
            self.stream.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def hold(self) -> None:
        """Wait until `wake` is called; until `wait` comes, no more is read."""
        self._paused = True
        self.stream.pause_reading()
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
        self._unwatch()
        self.lost = True
        self.stream.close()
        self.elements.clear()
        self._fds.close()
        for fds in self.attachments.values():
            shm.close_all(fds)
        self.attachments.clear()
        self._make_room()


def as_message(element: Element, fds: Iterable[int] = ()) -> Routable:
    """An element of a client's connection as a message that can be written again, with the BLOBs that came with it.

    `fds` stay the caller's. OSError or ValueError when the shared memory of a BLOB can't be mapped.
    """
    if not (element.blob or element.attached):
        return element
    left = iter(fds)
    contents = []
    for member in element.members:
        data: Buffer = member.data or b""
        if member.attached and (fd := next(left, None)) is not None:
            data = view_of(os.dup(fd), member)
        contents.append(BlobContent(member.name, member.format, data, member.blob_size))
    return BlobMessage.from_members(element.tag, element.attrs, contents)


def view_of(fd: int, member: Member) -> memoryview:
    """A read-only view of the shared memory that came with a BLOB, of as many of its bytes as there are. Closes `fd`.

    The memory goes when the last view of it goes. OSError or ValueError when it cannot be mapped.
    """
    try:
        if (length := member.blob_length) is None:
            raise ValueError("an attached BLOB without a valid len")
        return shm.view(fd, min(os.fstat(fd).st_size, length))
    finally:
        os.close(fd)
