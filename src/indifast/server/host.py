"""What looks after a program or a link needs of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from indifast.routing.clientqueue import Outbox
    from indifast.routing.peer import Peer
    from indifast.transport.stream import Stream


class Host(Protocol):
    """Gives a peer a place among the others, for as long as it has a stream."""

    def carry(
        self, peer: Peer, stream: Stream, on_lost: Callable[[Exception | None], None], *, forgiving: bool = False
    ) -> None:
        """Attach the peer unless it is already, ask it for its devices, and move bytes between it and the stream.

        `on_lost` is called once, when the stream has ended. `forgiving`: a BLOB that comes without its descriptor costs
        that message, not the connection.
        """
        ...

    def lose(self, peer: Peer) -> None:
        """The driver or link is gone but may come back: its devices vanish, what it snoops on is remembered."""
        ...

    def remove(self, peer: Peer) -> None:
        """The peer is gone for good."""
        ...


class LinkHost(Host, Protocol):
    """What a link needs as well."""

    def new_outbox(self, *, attached: bool = False) -> Outbox:
        """An outbox with the server's limits."""
        ...

    def tell_clients(self, text: str) -> None:
        """Tell the users of all clients something that belongs to no device."""
        ...
