"""The receiving side of a server's streams: passes messages to the router and paces reading."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from indifast.protocol import wire
from indifast.protocol.compress import OFF
from indifast.protocol.escape import for_log
from indifast.protocol.message import RAW, Buffer, Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.link import FRAME_PAUSE
from indifast.routing.peer import Courtesy, Kind, Pace, Peer
from indifast.transport.incoming import MessageReader
from indifast.transport.packing import ByRate, wanted
from indifast.transport.rawframes import ACCEPTED, OFFERED, Agreement
from indifast.transport.shm import BlobTooLarge, DescriptorError
from indifast.transport.stream import Stream
from indifast.transport.tlsfaults import is_tls

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.limits import Limits

_MANY = 500  # messages in one read, above which reads are shortened so that other peers get their turn sooner
_FEW = 50
_SHORT_READ = 64 << 10
_LONG_READ = 1 << 30
_ANY = 1 << 62  # more than any number of bytes
_MOMENT = 0.001  # seconds: shorter waits would only follow each other without end
_EXCERPT = 80
_NO_TLS = "This port does not speak TLS: connect without TLS"


class ConnectionHost(Protocol):
    """What a connection needs from the server."""

    @property
    def limits(self) -> Limits:
        """The limits on what a peer may send."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of all connections."""
        ...

    @property
    def raw_frames(self) -> bool:
        """Whether to agree on raw frames with clients and links."""
        ...

    def forms_changed(self) -> None:
        """Note that a peer is sent BLOBs in another form from now on."""
        ...

    def receive(self, peer: Peer, messages: Sequence[Routable], connection: Connection) -> None:
        """Route the messages of one read."""
        ...

    def ended(self, connection: Connection) -> None:
        """Note that the stream of a connection has ended."""
        ...

    def hold(self, change: int) -> None:
        """Note that unfinished elements have grown by `change` bytes."""
        ...

    def outrun(self, peer: Peer) -> bool:
        """Return whether all readers of the peer are far behind."""
        ...

    def refuse(self, peer: Peer, reason: str, device: str | None, text: str) -> None:
        """Count and log a refused message of the peer, and tell the peer if it is a client."""
        ...

    def count_refused(self, peer: Peer, reason: str) -> None:
        """Count something from the peer that is refused."""
        ...

    def complain(self, level: int, text: str, *args: object) -> None:
        """Log what a peer does, at a limited rate."""
        ...


class Connection:
    """The receiving side of one stream, from its first byte to its last.

    Args:
        host: The server.
        peer: The peer at the other end.
        stream: The stream, which the caller starts.
        on_lost: Called when the stream has ended.
        forgiving: Whether a BLOB without its descriptor costs only that message, and not the connection.
        compress: How frames are compressed, one of `compression.CHOICES`.
    """

    def __init__(
        self,
        host: ConnectionHost,
        peer: Peer,
        stream: Stream,
        on_lost: Callable[[Exception | None], None],
        *,
        forgiving: bool,
        compress: str = OFF,
    ) -> None:
        self._host = host
        self.peer = peer
        self.stream = stream
        self.reader = MessageReader(self, host.limits, host.loop.call_later, relay=True)
        self.held = 0
        """Bytes of the unfinished element."""
        self.paused: set[str] = set()
        """The reasons why the stream is currently not read."""
        self.pauses = 0
        """How often reading was paused to wait for the readers of this peer."""
        self._on_lost = on_lost
        self._forgiving = forgiving
        self._pace_timer: asyncio.TimerHandle | None = None
        self._pace: Pace | None = None
        self._arrived = 0  # bytes that were held of what was last complete
        self._frame = 0  # of the newest frame
        self._close = _ANY  # bytes of an unfinished frame up to which it is not ahead of its readers
        self._ahead: tuple[Outbox, ...] = ()  # the readers that it is ahead of; reading resumes when they take more
        self._ahead_timer: asyncio.TimerHandle | None = None
        self._ahead_since = 0.0
        self._courtesy = Courtesy()
        self._courteous = False  # while it is not read, a reader waits for slower ones
        self._waited = 0.0  # seconds for which it was not read
        self._outrun: tuple[Outbox, ...] = ()  # the readers that are far behind; reading resumes when one catches up
        self._first = True
        self._fault: str | None = None  # the fault of the peer that was found in what is being read
        self._lost = False
        self._compress = compress
        self._raw = False  # whether raw frames are agreed on
        if host.raw_frames and not stream.local and peer.kind is not Kind.DRIVER:
            expected = ACCEPTED if peer.kind is Kind.REMOTE else OFFERED
            self.reader.expect_raw(expected, self._raw_agreed, wanted(compress, stream))

    # -- The stream

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int], /) -> None:
        """Split what was read into messages and route them."""
        if self._first:
            self._first = False
            if not fds and is_tls(memoryview(data)[start:end]):
                self._end_tls()
                return
        reader = self.reader
        messages = reader.read(data, start, end, fds)
        if reader.held != self.held:
            self._count_held()
        if messages:
            self._host.receive(self.peer, messages, self)
            if len(messages) > _MANY:
                self.stream.read_limit = _SHORT_READ
            elif len(messages) < _FEW:
                self.stream.read_limit = _LONG_READ
        if self.held > self._close:
            self._keep_close()
        if self._fault is not None and not self.stream.closed:  # now that what was complete has been routed
            self.end(self._fault)
        elif self._raw and reader.unread:
            self.stream.call_again(reader.again_after)

    def connection_lost(self, exc: Exception | None, /) -> None:
        """Clean up after the end of the stream."""
        if self._lost:
            return
        self._lost = True
        self.reader.close()
        self._count_held()
        self._end_pace()
        self._count_waiting(time.monotonic())
        self._host.ended(self)
        self._on_lost(exc)

    def end(self, why: str) -> None:
        """Close the connection because of a fault of the peer. `why` completes a sentence that begins with its name."""
        self._complain("%s %s: disconnected", self.peer.label, why)
        self.stream.abort()

    def _end_tls(self) -> None:
        """Close the connection because the peer speaks TLS.

        A client is answered with something that is not TLS: its library then says so, and does not guess why the
        connection was closed.
        """
        if self.peer.kind is Kind.REMOTE:
            self.end("speaks TLS: connect with TLS (tls = true)")
            return
        self._complain("%s %s: disconnected", self.peer.label, "speaks TLS, which this port does not")
        self.peer.inlet.append(wire.message(_NO_TLS, None), time.monotonic())
        self.stream.close()

    def overflow(self) -> None:
        """Close the connection because the peer is too far behind."""
        self.end(f"is {self.peer.outbox.queued} bytes behind")

    def abandon(self) -> None:
        """Discard the unfinished element."""
        self.reader.abandon()
        self._count_held()

    def out_of_memory(self) -> None:
        """Discard the unfinished element. Called when memory has run out and this element takes the most."""
        held = self.held
        self.abandon()
        self._refuse("out of memory", None, f"not enough memory for an unfinished element of {held} bytes")

    def _count_held(self) -> None:
        change = self.reader.held - self.held
        if change < 0:
            self._arrived = self.held
        self.held += change
        self._host.hold(change)

    # -- Input that the reader does not return: see `Listener`

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        begin = excerpt[:_EXCERPT].decode("utf-8", "backslashreplace")
        self._complain("%s: %d bytes skipped (%s): %r", self.peer.label, nbytes, reason, begin)

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        where = f"{for_log(element.device)}.{for_log(element.name)}"
        if isinstance(error, BlobTooLarge):
            self._refuse("BLOB too large", element.device, f"{error}, for {where}")
        elif isinstance(error, MemoryError):
            self._refuse("out of memory", element.device, f"not enough memory for a BLOB of {where}")
        elif self._forgiving:
            self._complain("%s: a BLOB of %s is lost: %s", self.peer.label, where, error)
        elif self._fault is None:
            self._fault = f"sent a BLOB of {where} that can't be read ({error})"

    def flooded(self, error: DescriptorError, /) -> None:
        self._fault = f"sent {error}"

    def outgrown(self, held: int, most: int, /) -> None:
        self._complain("%s: unfinished element of %d bytes refused", self.peer.label, held)

    def stalled(self, held: int, /) -> None:
        self.end(f"has not finished its element within {self._host.limits.stall:g} s")

    def missing(self, what: str, /) -> None:
        self._host.count_refused(self.peer, what)

    def violated(self, why: str, /) -> None:
        if self._fault is None:
            self._fault = why

    def _raw_agreed(self, agreed: Agreement) -> None:
        """Send raw frames from now on; those that wait already are sent as base64."""
        self._raw = True
        outbox = self.peer.outbox
        if self.peer.kind is Kind.CLIENT:
            outbox.instruct(agreed.acceptance, time.monotonic())
        outbox.form = RAW
        if agreed.pieces:
            self.stream.pace(outbox, ByRate(self._compress, agreed.methods))
        self._host.forms_changed()

    def _refuse(self, kind: str, device: str | None, text: str) -> None:
        self._host.refuse(self.peer, kind, device, text)

    def _complain(self, text: str, *args: object) -> None:
        self._host.complain(logging.WARNING, text, *args)

    # -- Pauses

    def pause(self, why: str) -> None:
        """Stop reading until `resume` is called with the same reason."""
        if not self.paused:
            self.reader.pause()
            self.stream.pause_reading()
        self.paused.add(why)

    def resume(self, why: str) -> None:
        """Start reading again unless there is another reason not to."""
        if why in self.paused:
            self.paused.discard(why)
            if not self.paused and not self._lost:
                self.reader.resume()
                self.stream.resume_reading()

    def keep_pace(self) -> None:
        """Stop reading a producer for a limited time while all of its readers are behind.

        Call this after everything that was read has been routed and written, including answers to pings. One frame may
        wait while the next one arrives, so that readers never have to wait for the producer. While a large frame waits,
        none arrives: it has arrived while the one before it was written. See `_keep_close`.
        """
        if self._pace_timer is not None or self._lost:
            return
        pace = self.peer.awaited
        if pace is not self._pace:
            self._pace = pace
            self._frame, self._arrived = self._arrived, 0
            # what is in a shared file does not arrive piece by piece
            self._close = 0 if pace is not None and pace.large and self._frame > pace.size // 2 else _ANY
        waited, self._waited = self._waited, 0.0
        patience = FRAME_PAUSE
        if pace is not None and not pace.begun:
            patience = max(0.0, pace.patience - waited)
            pace.on_begun = self._end_pace
        elif self._host.outrun(self.peer):
            route = self.peer.last_route
            assert route is not None
            self._outrun = route.readers
            for outbox in route.readers:
                outbox.when_low(self._end_pace)
        else:
            return
        self.pauses += 1
        self._pace_timer = self._host.loop.call_later(patience, self._stop_waiting)
        self.pause("pace")

    def _keep_close(self) -> None:
        """Read a large frame no faster than readers take the one before it, for a limited time.

        Called when more of it has arrived than seemed right so far, and while it is not read, when readers have taken
        more or the time is over.
        """
        try:
            now = time.monotonic()
            self._count_waiting(now)
            pace = self._pace
            left = 0.0 if pace is None or self._lost else pace.patience - self._waited
            part, waits, readers = (1.0, False, ()) if pace is None or left <= 0 else pace.room()
            if waits:
                left = min(left, self._courtesy.left(now))
            if part >= 1 or left < _MOMENT:
                self._close = _ANY
            elif self.held <= part * self._frame:
                self._close = int(part * self._frame)
            else:
                self._wait_for(readers, waits, now, left)
                return
        except MemoryError:
            self.resume("ahead")  # nobody would call again
            raise
        self.resume("ahead")

    def _wait_for(self, readers: tuple[Outbox, ...], waits: bool, now: float, seconds: float) -> None:
        """Do not read until one of these readers has taken more, or the time is over."""
        self._ahead = readers
        for outbox in readers:
            outbox.when_taken(self._keep_close)
        self._ahead_since = now
        self._courteous = waits
        # Another reader may become the fastest in the meantime, so look again soon.
        self._ahead_timer = self._host.loop.call_later(min(seconds, FRAME_PAUSE), self._keep_close)
        self.pause("ahead")

    def _count_waiting(self, now: float) -> None:
        """End the wait for readers, if there is one, and count how long it took."""
        if self._ahead_timer is not None:
            self._ahead_timer.cancel()
            self._ahead_timer = None
            self._waited += now - self._ahead_since
            if self._courteous:
                self._courtesy.spend(now - self._ahead_since)
        for outbox in self._ahead:
            outbox.not_when_taken(self._keep_close)
        self._ahead = ()

    def _stop_waiting(self) -> None:
        """Go on without the readers, and wait for this frame no more: all of them may be gone."""
        if self._pace is not None:
            self._pace.begin()
        self._end_pace()

    def _end_pace(self) -> None:
        if self._pace_timer is not None:
            self._pace_timer.cancel()
            self._pace_timer = None
            if self._pace is not None:
                self._pace.on_begun = None
            for outbox in self._outrun:
                outbox.not_when_low(self._end_pace)
            self._outrun = ()
            self.resume("pace")
