"""The link of a driver that runs in the server's own process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from indifast.protocol.message import Routable
from indifast.protocol.shown import shown
from indifast.routing.link import Demand
from indifast.routing.outbox import Outbox
from indifast.routing.peer import Pace, Peer
from indifast.server.connections import FRAME_PAUSE

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.server.core import Core

_TURN = 64  # messages that a driver may send before the others have their turn


class LocalLink:
    """See `indifast.routing.link.Link`."""

    def __init__(self, core: Core, peer: Peer) -> None:
        self.closed = False
        self._core = core
        self._peer = peer
        self._callback: Callable[[], None] | None = None
        self._sent = 0
        core.attach(peer, self._wake)

    def demand(self, device: str, name: str) -> Demand:
        """Who wants the content of this BLOB property now."""
        return self._core.router.demand(device, name)

    def send(self, message: Routable) -> None:
        """Route a message; it is written in the next turn of the loop, with all that is sent until then."""
        if not self.closed:
            core = self._core
            if core.tap is not None:
                core.tap("from", self._peer, message)
            core.router.receive(self._peer, message, time.monotonic())

    async def paced(self, device: str, name: str) -> None:
        """Wait until the fastest interested reader has begun to take the newest BLOB, at most 100 ms."""
        pace = self._peer.pace
        if pace is not None and not pace.begun and not self.closed:
            await self._until(lambda wake: _on_begun(pace, wake))

    async def not_full(self) -> None:
        """Let the others have their turn now and then; wait a moment when all readers are far behind."""
        self._sent += 1
        if self._sent % _TURN:
            return
        await asyncio.sleep(0)
        if self._core.router.outrun(self._peer):
            route = self._peer.last_route
            assert route is not None
            readers = route.readers
            await self._until(lambda wake: _on_low(readers, wake))

    def receive(self) -> Element | None:
        """The next waiting message for the driver, but for those for which there is no memory."""
        while not self.closed and (message := self._peer.outbox.pop()) is not None:
            try:
                return message.element()
            except MemoryError:
                self._peer.refused["out of memory"] += 1
                text = "%s is not told %s of %s.%s: there is no memory for it"
                names = self._peer.label, message.tag, shown(message.device), shown(message.name)
                self._core.complaints.say(logging.WARNING, time.monotonic(), text, *names)
        return None

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Call back when `receive` has something again, and when the link closes."""
        self._callback = callback
        if callback is not None and (self._peer.outbox.pending or self.closed):
            callback()

    def close(self) -> None:
        """Say nothing more and hear nothing more; the driver's devices vanish."""
        if not self.closed:
            self.closed = True
            self._core.remove(self._peer)
            self._wake()

    def _wake(self) -> None:
        if self._callback is not None:
            self._callback()

    @staticmethod
    async def _until(ask: Callable[[Callable[[], None]], None]) -> None:
        """Wait for a call back, at most as long as any producer waits for its readers."""
        called = asyncio.Event()
        ask(called.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FRAME_PAUSE):
                await called.wait()


def _on_begun(pace: Pace, wake: Callable[[], None]) -> None:
    pace.on_begun = wake


def _on_low(outboxes: tuple[Outbox, ...], wake: Callable[[], None]) -> None:
    for outbox in outboxes:
        outbox.on_low = wake
