"""Protocols for what the supervisors of programs and links need from the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from indifast.routing.clientqueue import Outbox
    from indifast.routing.peer import Peer
    from indifast.transport.stream import Stream


class Host(Protocol):
    """Attaches peers to the router as long as they have a stream."""

    def carry(
        self,
        peer: Peer,
        stream: Stream,
        on_lost: Callable[[Exception | None], None],
        *,
        forgiving: bool = False,
        compress: str | None = None,
    ) -> None:
        """Attach the peer unless it is attached already, ask it for its devices, and connect it to the stream.

        Args:
            peer: The peer.
            stream: The stream that carries its messages.
            on_lost: Called once, when the stream has ended.
            forgiving: Whether a BLOB without its descriptor costs only that message, and not the connection.
            compress: How frames are compressed; None for what holds for all connections.
        """
        ...

    def lose(self, peer: Peer) -> None:
        """Note that a driver or link is gone but may return: delete its devices, but remember what it snoops on."""
        ...

    def remove(self, peer: Peer) -> None:
        """Remove the peer for good."""
        ...


class LinkHost(Host, Protocol):
    """What a link needs in addition."""

    def new_outbox(self, *, attached: bool = False) -> Outbox:
        """Return an outbox with the server's limits."""
        ...

    def tell_clients(self, text: str) -> None:
        """Send all clients a message for their users that belongs to no device."""
        ...
