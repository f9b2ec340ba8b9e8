"""The link of a driver that runs in the server's own process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from indifast.protocol.message import Routable
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.frames import Frame
from indifast.routing.link import Demand, Link
from indifast.routing.peer import Peer
from indifast.server.connections import FRAME_PAUSE

_TURN = 64  # messages that a driver may send before the others have their turn


class LocalLinkHost(Protocol):
    """What such a link needs of the server."""

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """The peer takes part; `wake` tells it that its outbox has something."""
        ...

    def remove(self, peer: Peer) -> None:
        """The peer is gone for good."""
        ...

    def route(self, peer: Peer, message: Routable, now: float, /) -> None:
        """The peer has said this."""
        ...

    def demand(self, device: str, name: str) -> Demand:
        """Who wants the content of a BLOB property now."""
        ...

    def outrun(self, peer: Peer) -> bool:
        """Whether all readers of the peer are far behind."""
        ...


class LocalOutbox(DriverOutbox):
    """Messages for a driver in this process, which takes them whole: their BLOBs are read, never written."""

    def _ask(self, frame: Frame) -> None:
        """No form is made."""


class LocalLink(Link):
    """See `indifast.routing.link.Link`."""

    def __init__(self, host: LocalLinkHost, peer: Peer) -> None:
        self.closed = False
        self._host = host
        self._peer = peer
        self._callback: Callable[[], None] | None = None
        self._sent = 0
        host.attach(peer, self._wake)

    def demand(self, device: str, name: str) -> Demand:
        """Who wants the content of this BLOB property now."""
        return self._host.demand(device, name)

    def send(self, message: Routable) -> None:
        """Route a message; it is written in the next turn of the loop, with all that is sent until then."""
        if not self.closed:
            self._host.route(self._peer, message, time.monotonic())

    async def paced(self, device: str, name: str) -> None:
        """Wait until the fastest interested reader has begun to take the newest BLOB, at most 100 ms."""
        pace = self._peer.pace
        if pace is not None and not pace.begun and not self.closed:
            begun = asyncio.Event()
            pace.on_begun = begun.set
            await _in_time(begun)

    async def not_full(self) -> None:
        """Let the others have their turn now and then; wait a moment when all readers are far behind."""
        self._sent += 1
        if self._sent % _TURN:
            return
        await asyncio.sleep(0)
        if self._host.outrun(self._peer):
            route = self._peer.last_route
            assert route is not None
            readers, low = route.readers, asyncio.Event()
            for outbox in readers:
                outbox.when_low(low.set)
            try:
                await _in_time(low)
            finally:
                for outbox in readers:
                    outbox.not_when_low(low.set)

    def take(self) -> Routable | None:
        """The next waiting message for the driver."""
        return None if self.closed else self._peer.outbox.pop()

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Call back when `receive` has something again, and when the link closes."""
        self._callback = callback
        if callback is not None and (self._peer.outbox.pending or self.closed):
            callback()

    def close(self) -> None:
        """Say nothing more and hear nothing more; the driver's devices vanish."""
        if not self.closed:
            self.closed = True
            self._host.remove(self._peer)
            self._wake()

    def _wake(self) -> None:
        if self._callback is not None:
            self._callback()


async def _in_time(event: asyncio.Event) -> None:
    """Wait for it, at most as long as any producer waits for its readers."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FRAME_PAUSE):
            await event.wait()
