"""One stream of the server: bytes in, messages to the router, and the reading pauses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from indifast._parser import Tokenizer
from indifast.protocol.message import Buffer, Routable
from indifast.protocol.shown import shown
from indifast.routing.peer import Pace, Peer
from indifast.transport.blobs import routable
from indifast.transport.shm import BlobTooLarge, DescriptorError, DescriptorQueue
from indifast.transport.stream import Stream

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.server.core import Core

FRAME_PAUSE = 0.1
"""Seconds for which a producer is not read at most, per frame, while none of its readers has begun to take it."""

_MANY = 500  # messages in one read: the others should have their turn sooner
_FEW = 50
_SHORT_READ = 64 << 10
_LONG_READ = 1 << 30
_EXCERPT = 80


class Connection:
    """The receiving side of one stream, from its first byte to its last."""

    def __init__(
        self,
        core: Core,
        peer: Peer,
        stream: Stream,
        on_lost: Callable[[Exception | None], None],
        *,
        forgiving: bool,
    ) -> None:
        self.core = core
        self.peer = peer
        self.stream = stream
        self.tokenizer = Tokenizer(relay=True, on_skip=self._skipped, **core.limits.tokenizer())
        self.held = 0
        """Bytes of the unfinished element."""
        self.last_read = 0.0
        self.paused: set[str] = set()
        """Why the stream is not read at the moment."""
        self.pauses = 0
        """Times that it was paused for the sake of its readers."""
        self._on_lost = on_lost
        self._forgiving = forgiving
        self._descriptors: DescriptorQueue | None = None
        self._pace_timer: asyncio.TimerHandle | None = None
        self._pace: Pace | None = None
        self._lost = False

    # -- the stream

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int], /) -> None:
        """Cut what was read into messages and route them."""
        if fds and not self._take_descriptors(fds):
            return
        elements = self.tokenizer.feed(data, start, end)
        if self._descriptors is not None:
            self._descriptors.settle(elements)
        messages = self._messages(elements) if elements else []
        self._count_held()
        if messages is None:
            return
        if elements:
            self.core.receive(self.peer, messages, self)
            if len(elements) > _MANY:
                self.stream.read_limit = _SHORT_READ
            elif len(elements) < _FEW:
                self.stream.read_limit = _LONG_READ

    def connection_lost(self, exc: Exception | None, /) -> None:
        """The stream is over."""
        if self._lost:
            return
        self._lost = True
        self.tokenizer.close()
        self._count_held()
        self._end_pace()
        if self._descriptors is not None:
            self._descriptors.close()
        if self.core.connections.get(self.peer) is self:
            del self.core.connections[self.peer]
        self._on_lost(exc)

    def end(self, why: str) -> None:
        """Close the connection for a fault of the peer."""
        self._complain("%s %s: disconnected", self.peer.label, why)
        self.stream.abort()

    def overflow(self) -> None:
        """The peer is too far behind to be helped."""
        self.end(f"is {self.peer.outbox.queued} bytes behind")

    def abandon(self) -> None:
        """Give up the unfinished element."""
        self.tokenizer.abandon()
        if self._descriptors is not None:
            self._descriptors.settle(())
        self._count_held()

    def out_of_memory(self) -> None:
        """Nobody finds memory any more, and the unfinished element of this connection takes most."""
        held = self.held
        self.abandon()
        text = f"an unfinished element of {held} bytes, for which there is no memory"
        self.core.router.refuse(self.peer, "out of memory", None, text, time.monotonic())

    # -- what arrives

    def _take_descriptors(self, fds: list[int]) -> bool:
        if self._descriptors is None:
            self._descriptors = DescriptorQueue(self.tokenizer, self.core.limits.blob, self.core.max_held)
        try:
            self._descriptors.put(fds)
        except DescriptorError as exc:
            self.end(f"sent {exc}")
            return False
        return True

    def _messages(self, elements: list[Element]) -> list[Routable] | None:
        """What goes to the router; None when the connection had to be closed."""
        messages: list[Routable] = []
        for element in elements:
            if not (element.blob or element.descriptors):
                messages.append(element)
                continue
            try:
                messages.append(routable(element, self._descriptors, self._fault))
            except BlobTooLarge as exc:
                text = f"{exc}, for {shown(element.device)}.{shown(element.name)}"
                self.core.router.refuse(self.peer, "BLOB too large", element.device, text, time.monotonic())
            except DescriptorError as exc:
                if not self._forgiving:
                    self.end(f"sent a BLOB of {shown(element.device)}.{shown(element.name)} that can't be read ({exc})")
                    return None
                text = "%s: a BLOB of %s.%s is lost: %s"
                self._complain(text, self.peer.label, shown(element.device), shown(element.name), exc)
        return messages

    def _fault(self, what: str) -> None:
        """The file behind a BLOB was not what it was when it came."""
        self.peer.refused[what] += 1
        self.core.router.refused[what] += 1

    def _count_held(self) -> None:
        held = self.tokenizer.held
        change = held - self.held
        self.held = held
        if held:
            self.last_read = time.monotonic()
        if change:
            self.core.hold(change)
            if held == change:
                self.core.watch()

    def _skipped(self, reason: str, nbytes: int, excerpt: bytes) -> None:
        begin = excerpt[:_EXCERPT].decode("utf-8", "backslashreplace")
        self._complain("%s: %d bytes skipped (%s): %r", self.peer.label, nbytes, reason, begin)

    def _complain(self, text: str, *args: object) -> None:
        self.core.complaints.say(logging.WARNING, time.monotonic(), text, *args)

    # -- pauses

    def pause(self, why: str) -> None:
        """Read no more until `resume` is called for the same reason."""
        if not self.paused:
            self.stream.pause_reading()
        self.paused.add(why)

    def resume(self, why: str) -> None:
        """Read again unless there is another reason not to."""
        if why in self.paused:
            self.paused.discard(why)
            if not self.paused and not self._lost:
                self.last_read = time.monotonic()
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
        elif self.core.router.outrun(self.peer):
            route = self.peer.last_route
            assert route is not None
            for outbox in route.readers:
                outbox.on_low = self._end_pace
        else:
            return
        self.pauses += 1
        self._pace_timer = self.core.loop.call_later(FRAME_PAUSE, self._end_pace)
        self.pause("pace")

    def _end_pace(self) -> None:
        if self._pace_timer is not None:
            self._pace_timer.cancel()
            self._pace_timer = None
            if self._pace is not None:
                self._pace.on_begun = None
            self.resume("pace")
