"""A tap that shows everything that is put into the queues of peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from indifast.protocol.message import Routable
from indifast.routing.inlet import Inlet
from indifast.routing.peer import Peer

TapFunction: TypeAlias = Callable[[str, Peer, Routable], None]
"""Called with "from" or "to", the peer, and each message that comes from it or goes to it."""


class Tap:
    """An inlet in front of the queue of a peer that reports each message before it is queued."""

    def __init__(self, peer: Peer, tell: TapFunction) -> None:
        self._peer = peer
        self._queue: Inlet = peer.outbox
        self._tell = tell

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Report and queue a message. See `Inlet.append`."""
        self._tell("to", self._peer, message)
        self._queue.append(message, now, begun)

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Report and queue a message. See `Inlet.append_replaceable`."""
        self._tell("to", self._peer, message)
        self._queue.append_replaceable(message, now, begun)

    def expedite(self, message: Routable, now: float) -> None:
        """Report and queue a message. See `Inlet.expedite`."""
        self._tell("to", self._peer, message)
        self._queue.expedite(message, now)
