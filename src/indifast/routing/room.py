"""Peers whose commands find no room: they are not read while a driver has too much waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indifast.routing.peer import Peer
    from indifast.routing.routerlistener import RouterListener


class Room:
    """Peers that wait for room in the outboxes of drivers (`Peer.waits_for`, `Peer.waiters`)."""

    def __init__(self, listener: RouterListener) -> None:
        self._listener = listener

    def wait(self, peer: Peer, driver: Peer) -> None:
        """Pause a peer because a driver has no room for more of its commands."""
        driver.waiters[peer] = None
        first = not peer.waits_for
        peer.waits_for[driver] = None
        if first:
            self._listener.on_pause(peer)

    def found(self, driver: Peer) -> None:
        """Resume the peers that waited only for this driver, which has room again."""
        waiters, driver.waiters = driver.waiters, {}
        for peer in waiters:
            peer.waits_for.pop(driver, None)
            if not peer.waits_for:
                self._listener.on_resume(peer)

    def forget(self, peer: Peer) -> None:
        """Forget a peer that is gone: it no longer waits, and no peer waits for it."""
        for driver in peer.waits_for:
            driver.waiters.pop(peer, None)
        peer.waits_for.clear()
        self.found(peer)
