"""Commands that find no room: who is not read while a driver has more waiting for it than it should."""

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
        """A driver has no room for more commands of this peer."""
        driver.waiters.add(peer)
        first = not peer.waits_for
        peer.waits_for.add(driver)
        if first:
            self._listener.on_pause(peer)

    def found(self, driver: Peer) -> None:
        """A driver has room again."""
        waiters, driver.waiters = driver.waiters, set()
        for peer in waiters:
            peer.waits_for.discard(driver)
            if not peer.waits_for:
                self._listener.on_resume(peer)

    def forget(self, peer: Peer) -> None:
        """It is gone: it waits no more, and nobody waits for it."""
        for driver in peer.waits_for:
            driver.waiters.discard(peer)
        peer.waits_for.clear()
        self.found(peer)
