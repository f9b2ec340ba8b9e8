"""What the router tells the one who runs it."""

from __future__ import annotations

from indifast.protocol.message import Routable
from indifast.routing.peer import Peer
from indifast.routing.queuelistener import Loss


class RouterListener:
    """Told what a router decides beside what it puts into the queues of its peers."""

    def on_dirty(self) -> None:
        """A peer has something to be told after none had: see `Router.take_dirty`."""

    def on_held(self) -> None:
        """Something is held back, a request for definitions or a ring check: see `Router.send_held`."""

    def on_pause(self, peer: Peer) -> None:
        """A peer should not be read for a while: a driver has no room for its commands."""

    def on_resume(self, peer: Peer) -> None:
        """The peer may be read again."""

    def on_lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        """A message to a peer that reads too slowly is given up."""

    def on_overflow(self, peer: Peer) -> None:
        """A peer is too far behind to be helped."""
