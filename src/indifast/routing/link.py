"""What a driver sees of the world, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from indifast.protocol.message import opened

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Opened, Routable


class Demand(NamedTuple):
    """Which forms of a BLOB somebody wants at this moment."""

    inline: bool
    attached: bool


class Link(Protocol):
    """The two directions between one driver and its peer: stdin/stdout, one TCP client, or a server in this process."""

    closed: bool

    def demand(self, device: str, name: str) -> Demand:
        """Who wants the content of this BLOB property now; neither: it need not be encoded at all."""
        ...

    def send(self, message: Routable) -> None:
        """Queue a message behind those sent before. Never blocks; dropped silently when the link is closed."""
        ...

    async def paced(self, device: str, name: str) -> None:
        """Wait until the fastest interested reader has taken this BLOB, at most 100 ms."""
        ...

    async def not_full(self) -> None:
        """Wait while the readers are very far behind, and let the other coroutines have their turn now and then."""
        ...

    def take(self) -> Routable | None:
        """The next waiting message for the driver, None when there is none. Its BLOBs may be in files: see `opened`."""
        ...

    def receive(self) -> Element | Opened | None:
        """As `take`, with all of its content in memory. Large BLOBs in files are read at once, while the loop waits.

        OSError or ValueError when such a file is not what it was any more: that message is lost.
        """
        message = self.take()
        return None if message is None else opened(message)

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` whenever `take` may have something after it had nothing, and when the link closes."""
        ...

    def close(self) -> None:
        """Say nothing more and hear nothing more."""
        ...
