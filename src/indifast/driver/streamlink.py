"""Link of a driver over one byte stream: stdin and stdout, or the connection of one client."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from indifast.protocol import wire
from indifast.protocol.compress import AUTO
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import FORMS, RAW
from indifast.routing.clientqueue import Outbox
from indifast.routing.link import FRAME_PAUSE, Demand, Link, frame_pause
from indifast.routing.queuelistener import QueueListener
from indifast.transport.incoming import MessageReader
from indifast.transport.packing import ByRate, wanted
from indifast.transport.rawframes import OFFERED, Agreement
from indifast.transport.stream import CLOSE_GRACE

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Buffer, Routable
    from indifast.transport.shm import DescriptorError
    from indifast.transport.stream import Stream

_INBOX = 1024  # messages read ahead of the driver
_INBOX_BYTES = 32 << 20

Refuse = Callable[..., None]
"""Counts and logs something that is refused. Arguments: a kind, a text, and the arguments of the text."""


class OwnLink(Link, Protocol):
    """Link that a driver opens by itself."""

    @property
    def ended(self) -> bool:
        """Whether no more messages will arrive and the driver has taken all of them."""
        ...

    def close(self, grace: float = CLOSE_GRACE) -> None:
        """Stop sending and receiving; what is queued is still written, for at most `grace` seconds."""
        ...

    async def wait_closed(self) -> None:
        """Wait until what was queued has been written or given up."""
        ...


class _LinkOutbox(Outbox):
    """Outbox whose senders can wait until only a few messages without BLOBs are queued."""

    def __init__(self, limits: Limits, *, attached: bool, terminator: bytes, listener: QueueListener) -> None:
        super().__init__(limits, attached=attached, terminator=terminator, listener=listener)
        self._high = limits.small_queue // 2
        self._room: asyncio.Future[None] | None = None

    def sent(self, nbytes: int, now: float) -> bool:
        more = super().sent(nbytes, now)
        if self._room is not None and self.small <= self._high // 2:
            self.open()
        return more

    def open(self) -> None:
        """Let waiting senders go on."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    async def not_full(self) -> None:
        while self.small > self._high:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)


class StreamLink(Link, QueueListener):
    """`Link` to the one peer of a stream.

    The peer is assumed to want everything. BLOBs are sent as descriptors on a Unix socket, and as raw bytes to a client
    that offers that. Messages for a slow peer wait within the limits of an `Outbox`. Pings are answered here.
    """

    def __init__(
        self,
        stream: Stream,
        refuse: Refuse,
        *,
        terminator: bytes = b"",
        limits: Limits = DEFAULT_LIMITS,
        patient: bool = False,
        raw_frames: bool = True,
        compress: str = AUTO,
    ) -> None:
        """Serve a stream, which the caller starts.

        Args:
            stream: The stream.
            refuse: Counts and logs what is refused.
            terminator: What is written after each message.
            limits: The limits on what the peer may send, and on what waits for it.
            patient: Whether to give up a message that is not finished in time, but keep the stream.
            raw_frames: Whether to agree on raw frames if the peer offers them. A patient link never does.
            compress: How these are compressed, one of `compression.CHOICES`.
        """
        self.closed = False
        self.ended = False
        """Whether the peer has sent its last message and the driver has taken it."""
        self.peername = stream.peername
        self._stream = stream
        self._refuse = refuse
        self._callback: Callable[[], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._reader = MessageReader(self, limits, asyncio.get_running_loop().call_later, relay=False)
        self._inbox: deque[Routable] = deque()
        self._inbox_bytes = 0
        self._reading_paused = False
        self._eof = False
        self._frame: asyncio.Future[None] | None = None
        self._patience = FRAME_PAUSE
        self._patient = patient
        self._deaf = False  # the peer reads nothing any more, but its last messages are still handled
        self._stall = limits.stall
        self._small_queue = limits.small_queue
        self._outbox = _LinkOutbox(limits, attached=stream.local, terminator=terminator, listener=self)
        self._compress = compress
        if raw_frames and not (patient or stream.local):
            self._reader.expect_raw(OFFERED, self._raw_agreed, wanted(compress, stream))

    def start(self, on_lost: Callable[[], None] | None = None) -> None:
        """Start the stream; `on_lost` is called when it is over."""
        self._on_lost = on_lost
        self._stream.start(self, self._outbox)

    # -- For the driver

    def demand(self, device: str, name: str) -> Demand:
        """Return the form that suits the peer, which takes everything."""
        return Demand(*(form == self._outbox.form for form in FORMS))

    def send(self, message: Routable) -> None:
        """Queue a message for the peer. See `Link.send`."""
        if self.closed or self._deaf:
            return
        if message.blob:
            self._frame = frame = asyncio.get_running_loop().create_future()
            self._patience = frame_pause(message.size)
            self._outbox.append(message, time.monotonic(), partial(_resolve, frame))
        else:
            self._outbox.append(message, time.monotonic())

    async def paced(self, device: str, name: str) -> None:
        """Wait until the frame sent last is being written. See `Link.paced`."""
        if self._frame is not None and not self.closed:
            await asyncio.wait((self._frame,), timeout=self._patience)

    async def not_full(self) -> None:
        """Wait while the peer is very far behind with messages that must not be dropped."""
        await self._outbox.not_full()

    def take(self) -> Routable | None:
        """Return the next message, if there is one. See `Link.take`."""
        if not self._inbox:
            if self._eof:
                self.ended = True
            return None
        message = self._inbox.popleft()
        self._inbox_bytes -= message.size
        if self._reading_paused and len(self._inbox) < _INBOX // 2 and self._inbox_bytes < _INBOX_BYTES // 2:
            self._reading_paused = False
            self._reader.resume()
            self._stream.resume_reading()
        return message

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` when there may be something to take. See `Link.on_receive`."""
        self._callback = callback

    def close(self, grace: float = CLOSE_GRACE) -> None:
        """Receive nothing more; what is queued is still written, for at most `grace` seconds."""
        if not self.closed:
            self.closed = True
            self._inbox.clear()
            self._stream.close(grace)

    async def wait_closed(self) -> None:
        """Wait until what was queued has been written or given up."""
        await self._stream.wait_closed()

    def on_pending(self) -> None:
        """Have the stream write the queue. See `QueueListener`."""
        self._stream.wake_soon()

    # -- For the stream

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        """Take received bytes and descriptors. See `Receiver`."""
        for message in self._reader.read(data, start, end, fds):
            self._put(message)
        if not self._reading_paused and (len(self._inbox) >= _INBOX or self._inbox_bytes >= _INBOX_BYTES):
            self._reading_paused = True
            self._reader.pause()
            self._stream.pause_reading()
        if self._reader.unread:
            self._stream.call_again(self._reader.again_after)
        self._notify()

    def target(self) -> memoryview | None:
        """Return the memory that the next bytes belong in. See `Receiver`."""
        return self._reader.target()

    def arrived(self, nbytes: int) -> None:
        """Take note of bytes that were read into that. See `Receiver`."""
        self._reader.arrived(nbytes)

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return self._reader.held

    def out_of_memory(self) -> None:
        """Give up the unfinished message. See `Receiver`."""
        self._given_up("memory", self._reader.abandon(), "out of memory")

    def eof_received(self) -> bool:
        """Note that the peer sends nothing more; keep the stream open, as it may still read."""
        self._reader.close()
        self._eof = True
        self._notify()
        return True

    def output_lost(self) -> None:
        """Send nothing more, and let those go on who wait for room: what has been received is still handled."""
        self._deaf = True
        self._outbox.clear()
        self._outbox.open()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the stream is over. See `Receiver`."""
        self._eof = True
        if self.closed and exc is not None and (unsent := self._outbox.messages):
            self._refuse("not_sent", "%d messages to %s were queued but not sent: %s", unsent, self.peername, exc)
        self.closed = True
        self._reader.close()
        self._outbox.clear()
        self._outbox.open()
        if self._on_lost is not None:
            self._on_lost()
        self._notify()

    def _put(self, message: Routable) -> None:
        if message.tag == "pingRequest":
            if (uid := message.element().attrs.get("uid")) is not None:
                if self._outbox.small <= self._small_queue:
                    self._outbox.expedite(wire.ping_reply(uid), time.monotonic())
                else:
                    text = "a ping from %s is not answered: the peer does not read what is sent to it"
                    self._refuse("ping", text, self.peername)
            return
        self._inbox.append(message)
        self._inbox_bytes += message.size

    # -- What the reader does not return as messages, see `Listener`

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        text = "%d bytes from %s skipped (%s): %r"
        self._refuse(("skipped", reason), text, nbytes, self.peername, reason, excerpt)

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        where = f"{element.tag} for {element.device}.{element.name}"
        self._refuse("descriptor", "%s from %s refused: %s", where, self.peername, str(error) or "out of memory")

    def flooded(self, error: DescriptorError, /) -> None:
        self._refuse("descriptors", "%s: %s", self.peername, error)

    def outgrown(self, held: int, most: int, /) -> None:
        self._given_up("too large", held, f"the limit is {most}")

    def stalled(self, held: int, /) -> None:
        self._given_up("stalled", self._reader.abandon(), f"nothing more arrived for {self._stall:g} s")
        if not self._patient:
            self._stream.abort()

    def missing(self, what: str, /) -> None:
        """Do nothing: a driver does not pass on what it has received."""

    def violated(self, why: str, /) -> None:
        self._refuse("raw", "%s %s: disconnected", self.peername, why)
        self._stream.abort()

    def _raw_agreed(self, agreed: Agreement) -> None:
        """Send raw frames from now on; those that wait already are sent as base64."""
        self._outbox.instruct(agreed.acceptance, time.monotonic())
        self._outbox.form = RAW
        if agreed.pieces:
            self._stream.pace(self._outbox, ByRate(self._compress, agreed.methods))

    def _given_up(self, kind: str, held: int, why: str) -> None:
        text = "an unfinished message of %d bytes from %s was given up: %s"
        self._refuse(kind, text, held, self.peername, why)

    def _notify(self) -> None:
        if self._callback is not None:
            self._callback()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def open_stdio_link(refuse: Refuse) -> StreamLink:
    """Open a link over stdin and stdout. Each sent message ends with a line break, so no two share a line."""
    from indifast.transport.connect import open_stdio

    link = StreamLink(open_stdio(), refuse, terminator=b"\n", patient=True)
    link.start()
    return link
