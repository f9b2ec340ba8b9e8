"""What a queue and the router tell whoever runs them: each has one listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from indifast.protocol.message import Routable
    from indifast.routing.peer import Peer

Loss: TypeAlias = Literal["dropped", "replaced"]
"""How a message is lost: too much waited, or a newer one took its place."""


class QueueListener:
    """Told what happens to a queue, in the middle of the call that brings it about."""

    def on_pending(self) -> None:
        """There is something to write after there was nothing, or after the next message was not ready."""

    def on_room(self) -> None:
        """A queue that was `full` is half empty again."""

    def on_lost(self, message: Routable, how: Loss) -> None:
        """A message is given up."""

    def on_overflow(self) -> None:
        """More waits than the limits allow, and none of it may be given up. Told once: the peer can't be helped."""


class RouterListener:
    """Told what a router decides beside what it puts into the queues of its peers."""

    def on_dirty(self) -> None:
        """A peer has something to be told after none had: see `Router.take_dirty`."""

    def on_held(self) -> None:
        """A request for definitions is held back: `Asking.ask_held` is to be called after `Asking.interval`."""

    def on_pause(self, peer: Peer) -> None:
        """A peer should not be read for a while: a driver has no room for its commands."""

    def on_resume(self, peer: Peer) -> None:
        """The peer may be read again."""

    def on_lost(self, peer: Peer, message: Routable, how: Loss) -> None:
        """A message to a peer that reads too slowly is given up."""

    def on_overflow(self, peer: Peer) -> None:
        """A peer is too far behind to be helped."""


NOBODY = QueueListener()
