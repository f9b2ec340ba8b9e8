"""One stream of the server: bytes in, messages to the router, and the reading pauses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from indifast.protocol.escape import for_log
from indifast.protocol.message import Buffer, Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.peer import Pace, Peer
from indifast.transport.incoming import MessageReader
from indifast.transport.shm import BlobTooLarge, DescriptorError
from indifast.transport.stream import Stream

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.limits import Limits

FRAME_PAUSE = 0.1
"""Seconds for which a producer is not read at most, per frame, while none of its readers has begun to take it."""

_MANY = 500  # messages in one read: the others should have their turn sooner
_FEW = 50
_SHORT_READ = 64 << 10
_LONG_READ = 1 << 30
_EXCERPT = 80


class ConnectionHost(Protocol):
    """What a connection needs of the server."""

    @property
    def limits(self) -> Limits:
        """How much a peer may send."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of all connections."""
        ...

    def receive(self, peer: Peer, messages: Sequence[Routable], connection: Connection) -> None:
        """One read has brought these messages."""
        ...

    def ended(self, connection: Connection) -> None:
        """The stream of a connection is over."""
        ...

    def hold(self, change: int) -> None:
        """Unfinished elements have grown by this many bytes."""
        ...

    def outrun(self, peer: Peer) -> bool:
        """Whether all readers of the peer are far behind."""
        ...

    def refuse(self, peer: Peer, reason: str, device: str | None, text: str) -> None:
        """A message of the peer can't be obeyed: count it, log it, and tell the peer if it is a client."""
        ...

    def count_refused(self, peer: Peer, reason: str) -> None:
        """Count something of the peer that is not obeyed."""
        ...

    def complain(self, level: int, text: str, *args: object) -> None:
        """Log what a peer does, at a limited rate."""
        ...


class Connection:
    """The receiving side of one stream, from its first byte to its last."""

    def __init__(
        self,
        host: ConnectionHost,
        peer: Peer,
        stream: Stream,
        on_lost: Callable[[Exception | None], None],
        *,
        forgiving: bool,
    ) -> None:
        self._host = host
        self.peer = peer
        self.stream = stream
        self.reader = MessageReader(self, host.limits, host.loop.call_later, relay=True)
        self.held = 0
        """Bytes of the unfinished element."""
        self.paused: set[str] = set()
        """Why the stream is not read at the moment."""
        self.pauses = 0
        """Times that it was paused for the sake of its readers."""
        self._on_lost = on_lost
        self._forgiving = forgiving
        self._pace_timer: asyncio.TimerHandle | None = None
        self._pace: Pace | None = None
        self._outrun: tuple[Outbox, ...] = ()  # those of whom one is waited for
        self._ending = False
        self._lost = False

    # -- the stream

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int], /) -> None:
        """Cut what was read into messages and route them."""
        reader = self.reader
        messages = reader.read(data, start, end, fds)
        if reader.held != self.held:
            self._count_held()
        if messages and not self._ending:
            self._host.receive(self.peer, messages, self)
            if len(messages) > _MANY:
                self.stream.read_limit = _SHORT_READ
            elif len(messages) < _FEW:
                self.stream.read_limit = _LONG_READ

    def connection_lost(self, exc: Exception | None, /) -> None:
        """The stream is over."""
        if self._lost:
            return
        self._lost = True
        self.reader.close()
        self._count_held()
        self._end_pace()
        self._host.ended(self)
        self._on_lost(exc)

    def end(self, why: str) -> None:
        """Close the connection for a fault of the peer."""
        self._ending = True
        self._complain("%s %s: disconnected", self.peer.label, why)
        self.stream.abort()

    def overflow(self) -> None:
        """The peer is too far behind to be helped."""
        self.end(f"is {self.peer.outbox.queued} bytes behind")

    def abandon(self) -> None:
        """Give up the unfinished element."""
        self.reader.abandon()
        self._count_held()

    def out_of_memory(self) -> None:
        """Nobody finds memory any more, and the unfinished element of this connection takes most."""
        held = self.held
        self.abandon()
        self._refuse("out of memory", None, f"an unfinished element of {held} bytes, for which there is no memory")

    def _count_held(self) -> None:
        change = self.reader.held - self.held
        self.held += change
        self._host.hold(change)

    # -- what the reader does not hand out, see `Listener`

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        begin = excerpt[:_EXCERPT].decode("utf-8", "backslashreplace")
        self._complain("%s: %d bytes skipped (%s): %r", self.peer.label, nbytes, reason, begin)

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        where = f"{for_log(element.device)}.{for_log(element.name)}"
        if isinstance(error, BlobTooLarge):
            self._refuse("BLOB too large", element.device, f"{error}, for {where}")
        elif isinstance(error, MemoryError):
            self._refuse("out of memory", element.device, f"a BLOB of {where}, for which there is no memory")
        elif self._forgiving:
            self._complain("%s: a BLOB of %s is lost: %s", self.peer.label, where, error)
        elif not self._ending:
            self.end(f"sent a BLOB of {where} that can't be read ({error})")

    def flooded(self, error: DescriptorError, /) -> None:
        self.end(f"sent {error}")

    def outgrown(self, held: int, most: int, /) -> None:
        self._complain("%s: unfinished element of %d bytes refused", self.peer.label, held)

    def stalled(self, held: int, /) -> None:
        self.end(f"has not finished its element within {self._host.limits.stall:g} s")

    def missing(self, what: str, /) -> None:
        self._host.count_refused(self.peer, what)

    def _refuse(self, kind: str, device: str | None, text: str) -> None:
        self._host.refuse(self.peer, kind, device, text)

    def _complain(self, text: str, *args: object) -> None:
        self._host.complain(logging.WARNING, text, *args)

    # -- pauses

    def pause(self, why: str) -> None:
        """Read no more until `resume` is called for the same reason."""
        if not self.paused:
            self.reader.pause()
            self.stream.pause_reading()
        self.paused.add(why)

    def resume(self, why: str) -> None:
        """Read again unless there is another reason not to."""
        if why in self.paused:
            self.paused.discard(why)
            if not self.paused and not self._lost:
                self.reader.resume()
                self.stream.resume_reading()

    def keep_pace(self) -> None:
        """Stop reading a producer while all of its readers are behind, for a bounded time.

        Everything that was read is routed and written by now, answers to pings included. One frame may wait while the
        next one arrives, so that readers never wait for the producer.
        """
        if self._pace_timer is not None or self._lost:
            return
        pace = self._pace = self.peer.pace_before
        if pace is not None and not pace.begun:
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
        self._pace_timer = self._host.loop.call_later(FRAME_PAUSE, self._end_pace)
        self.pause("pace")

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
