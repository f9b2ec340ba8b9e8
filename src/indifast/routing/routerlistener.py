"""Listener for the decisions of the router."""

from __future__ import annotations

from indifast.protocol.message import Routable
from indifast.routing.peer import Peer
from indifast.routing.queuelistener import Loss


class RouterListener:
    """Receives what a router decides, apart from the messages that it puts into the queues of its peers."""

    def on_dirty(self) -> None:
        """Called when a peer has something to be sent after none had. See `Router.take_dirty`."""

    def on_held(self) -> None:
        """Called when a request for definitions or a ring check is held back. See `Router.send_held`."""

    def on_pause(self, peer: Peer) -> None:
        """Called when a peer should not be read for a while, because a driver has no room for its commands."""

    def on_resume(self, peer: Peer) -> None:
        """Called when the peer may be read again."""

    def on_lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        """Called when a message to a peer that reads too slowly is dropped or replaced."""

    def on_overflow(self, peer: Peer) -> None:
        """Called when a peer is too far behind to catch up."""
