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
from indifast.routing.link import FRAME_PAUSE, Demand, Link
from indifast.routing.peer import Peer

_TURN = 64  # messages that a driver may send before the others get their turn


class LocalLinkHost(Protocol):
    """What a local link needs from the server."""

    def attach(self, peer: Peer, wake: Callable[[], None]) -> None:
        """Attach a peer to the router. `wake` is called when there is something in its outbox."""
        ...

    def remove(self, peer: Peer) -> None:
        """Remove a peer for good."""
        ...

    def route(self, peer: Peer, message: Routable, now: float, /) -> None:
        """Route a message from the peer."""
        ...

    def demand(self, device: str, name: str) -> Demand:
        """Return which forms of a BLOB property are wanted now."""
        ...

    def outrun(self, peer: Peer) -> bool:
        """Return whether all readers of the peer are far behind."""
        ...


class LocalOutbox(DriverOutbox):
    """Outgoing queue for a driver in this process, which takes whole messages: BLOBs are read, never written."""

    def _ask(self, frame: Frame) -> None:
        """Do nothing: no form is needed."""


class LocalLink(Link):
    """A `Link` to a server in the same process."""

    def __init__(self, host: LocalLinkHost, peer: Peer) -> None:
        self.closed = False
        self._host = host
        self._peer = peer
        self._callback: Callable[[], None] | None = None
        self._sent = 0
        host.attach(peer, self._wake)

    def demand(self, device: str, name: str) -> Demand:
        """Return which forms of a BLOB property are wanted now."""
        return self._host.demand(device, name)

    def send(self, message: Routable) -> None:
        """Route a message. It is written in the next iteration of the loop, with all that is sent until then."""
        if not self.closed:
            self._host.route(self._peer, message, time.monotonic())

    async def paced(self, device: str, name: str) -> None:
        """Wait until the fastest interested reader has begun to take the newest BLOB. See `Link.paced`."""
        pace = self._peer.pace
        if pace is not None and not pace.begun and not self.closed:
            begun = asyncio.Event()
            pace.on_begun = begun.set
            await _in_time(begun, pace.patience)

    async def not_full(self) -> None:
        """Let other coroutines run now and then, and wait a moment if all readers are far behind."""
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
                await _in_time(low, FRAME_PAUSE)
            finally:
                for outbox in readers:
                    outbox.not_when_low(low.set)

    def take(self) -> Routable | None:
        """Return the next waiting message for the driver; None if there is none."""
        return None if self.closed else self._peer.outbox.pop()

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` when `receive` has something again, and when the link closes."""
        self._callback = callback
        if callback is not None and (self._peer.outbox.pending or self.closed):
            callback()

    def close(self) -> None:
        """Stop sending and receiving, and delete the driver's devices."""
        if not self.closed:
            self.closed = True
            self._host.remove(self._peer)
            self._wake()

    def _wake(self) -> None:
        if self._callback is not None:
            self._callback()


async def _in_time(event: asyncio.Event, patience: float) -> None:
    """Wait for an event, for at most `patience` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await event.wait()
