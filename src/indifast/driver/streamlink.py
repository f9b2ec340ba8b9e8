"""A driver's link over one byte stream: stdin and stdout, or the connection of one client."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from indifast._parser import Tokenizer
from indifast.protocol import wire
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.routing.link import Demand, Link
from indifast.routing.outbox import Outbox
from indifast.transport.blobs import routable
from indifast.transport.shm import DescriptorError, DescriptorQueue

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Buffer, Routable
    from indifast.transport.stream import Stream

PACE = 0.1
"""Seconds for which a frame waits at most for its reader."""

_INBOX = 1024  # messages taken in ahead of the driver
_INBOX_BYTES = 32 << 20

Refuse = Callable[..., None]
"""Counts and logs something that is not accepted: kind, text, arguments of the text."""


class OwnLink(Link, Protocol):
    """A link that a driver opens by itself."""

    @property
    def ended(self) -> bool:
        """Nobody will say anything more, and the driver has heard everything."""
        ...

    async def wait_closed(self) -> None:
        """Wait until what was queued is written, or given up."""
        ...


class _LinkOutbox(Outbox):
    """An outbox for those who can wait: it says when the messages without BLOBs have become few again."""

    def __init__(self, limits: Limits, *, attached: bool, terminator: bytes) -> None:
        super().__init__(limits, attached=attached, terminator=terminator)
        self._high = limits.small_queue // 2
        self._room: asyncio.Future[None] | None = None

    def sent(self, nbytes: int, now: float) -> None:
        super().sent(nbytes, now)
        if self._room is not None and self.small <= self._high // 2:
            self.open()

    def open(self) -> None:
        """Let those go on who wait."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    async def not_full(self) -> None:
        while self.small > self._high:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)


class StreamLink:
    """A `Link` to the one peer of a stream.

    Everything is wanted by the peer; BLOBs go as descriptors when it is on a Unix socket. What the driver says while
    the peer is slow waits within the limits of an `Outbox`. Pings are answered here.
    """

    def __init__(
        self,
        stream: Stream,
        refuse: Refuse,
        *,
        terminator: bytes = b"",
        limits: Limits = DEFAULT_LIMITS,
        patient: bool = False,
    ) -> None:
        """`patient`: a message that is not finished in time is given up, but not the stream with it."""
        self.closed = False
        self.ended = False
        """The peer has said its last word and the driver has heard it."""
        self.peername = stream.peername
        self._stream = stream
        self._refuse = refuse
        self._callback: Callable[[], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._tokenizer = Tokenizer(relay=stream.local, on_skip=self._skipped, **limits.tokenizer())
        self._descriptors = DescriptorQueue(self._tokenizer, limits.blob)
        self._inbox: deque[Element] = deque()
        self._inbox_bytes = 0
        self._reading_paused = False
        self._eof = False
        self._frame: asyncio.Future[None] | None = None
        self._patient = patient
        self._stall = limits.stall
        self._small_queue = limits.small_queue
        self._last_read = 0.0
        self._watch: asyncio.TimerHandle | None = None  # only while a message is unfinished
        self._outbox = _LinkOutbox(limits, attached=stream.local, terminator=terminator)

    def start(self, on_lost: Callable[[], None] | None = None) -> None:
        """Begin; `on_lost` is called when the stream is over."""
        self._on_lost = on_lost
        self._stream.start(self, self._outbox)

    # for the driver

    def demand(self, device: str, name: str) -> Demand:
        """The peer takes everything, in the one form that suits it."""
        return Demand(inline=not self._stream.local, attached=self._stream.local)

    def send(self, message: Routable) -> None:
        """See `Link.send`."""
        if self.closed:
            return
        if message.blob:
            self._frame = frame = asyncio.get_running_loop().create_future()
            self._outbox.append(message, time.monotonic(), partial(_resolve, frame))
        else:
            self._outbox.append(message, time.monotonic())

    async def paced(self, device: str, name: str) -> None:
        """Wait until the frame sent last is being written, at most 100 ms."""
        if self._frame is not None and not self.closed:
            await asyncio.wait((self._frame,), timeout=PACE)

    async def not_full(self) -> None:
        """Wait while the peer is very far behind with messages that must not be dropped."""
        await self._outbox.not_full()

    def receive(self) -> Element | None:
        """See `Link.receive`."""
        if not self._inbox:
            if self._eof:
                self.ended = True
            return None
        element = self._inbox.popleft()
        self._inbox_bytes -= element.size
        if self._reading_paused and len(self._inbox) < _INBOX // 2 and self._inbox_bytes < _INBOX_BYTES // 2:
            self._reading_paused = False
            self._stream.resume_reading()
        return element

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """See `Link.on_receive`."""
        self._callback = callback

    def close(self) -> None:
        """Hear nothing more; what is queued is still written, for a while."""
        if not self.closed:
            self.closed = True
            self._inbox.clear()
            self._stream.close()

    async def wait_closed(self) -> None:
        """Wait until what was queued is written, or given up."""
        await self._stream.wait_closed()

    # for the stream

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """See `Receiver`."""
        if fds:
            try:
                self._descriptors.put(fds)
            except DescriptorError as error:
                self._refuse("descriptors", "%s: %s", self.peername, error)
        elements = self._tokenizer.feed(data, start, end)
        self._descriptors.settle(elements)
        for element in elements:
            self._take(element)
        self._last_read = time.monotonic()
        if self._watch is None and self._tokenizer.held:
            self._watch = asyncio.get_running_loop().call_later(self._stall, self._check_progress)
        if not self._reading_paused and (len(self._inbox) >= _INBOX or self._inbox_bytes >= _INBOX_BYTES):
            self._reading_paused = True
            self._stream.pause_reading()
        self._notify()

    def _check_progress(self) -> None:
        self._watch = None
        if not self._tokenizer.held or self.closed:
            return
        idle = time.monotonic() - self._last_read
        if idle < self._stall or self._reading_paused:
            wait = self._stall if self._reading_paused else self._stall - idle
            self._watch = asyncio.get_running_loop().call_later(wait, self._check_progress)
            return
        self._abandon("stalled", f"nothing more came for {self._stall:g} s")
        if not self._patient:
            self._stream.abort()

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return self._tokenizer.held

    def out_of_memory(self) -> None:
        """See `Receiver`."""
        self._abandon("memory", "there is no memory for it")

    def _abandon(self, kind: str, why: str) -> None:
        held = self._tokenizer.held
        self._tokenizer.abandon()
        self._descriptors.settle(())
        text = "an unfinished message of %d bytes from %s is given up: %s"
        self._refuse(kind, text, held, self.peername, why)

    def eof_received(self) -> bool:
        """The peer says nothing more, but may go on listening."""
        self._tokenizer.close()
        self._eof = True
        self._notify()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See `Receiver`."""
        self._eof = True
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        self._descriptors.close()
        self._outbox.clear()
        self._outbox.open()
        if self._on_lost is not None:
            self._on_lost()
        self._notify()

    def _take(self, element: Element) -> None:
        if element.tag == "pingRequest":
            if (uid := element.attrs.get("uid")) is not None:
                if self._outbox.small <= self._small_queue:
                    self._outbox.expedite(wire.ping_reply(uid), time.monotonic())
                else:
                    text = "a ping of %s is not answered: it does not read what it is told"
                    self._refuse("ping", text, self.peername)
            return
        if element.descriptors:
            try:
                message = routable(element, self._descriptors)
            except DescriptorError as error:
                self._refuse_blob(element, "descriptor", error)
                return
            try:
                element = message.element()
            except MemoryError as error:
                self._refuse_blob(element, "memory", error)
                return
        self._inbox.append(element)
        self._inbox_bytes += element.size

    def _refuse_blob(self, element: Element, kind: str, why: Exception) -> None:
        where = f"{element.tag} for {element.device}.{element.name}"
        self._refuse(kind, "%s from %s refused: %s", where, self.peername, why)

    def _skipped(self, reason: str, nbytes: int, excerpt: bytes) -> None:
        text = "%d bytes from %s skipped (%s): %r"
        self._refuse(("skipped", reason), text, nbytes, self.peername, reason, excerpt)

    def _notify(self) -> None:
        if self._callback is not None:
            self._callback()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def open_stdio_link(refuse: Refuse) -> StreamLink:
    """A link over stdin and stdout: one message per line or more, never two on a line."""
    from indifast.transport.connect import open_stdio

    link = StreamLink(open_stdio(), refuse, terminator=b"\n", patient=True)
    link.start()
    return link
