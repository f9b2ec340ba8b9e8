"""The way into the queue of a peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from indifast.protocol.message import Routable


class Inlet(Protocol):
    """Accepts messages for a peer."""

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message after the others.

        Args:
            message: The message.
            now: The time in monotonic seconds.
            begun: Called when the first byte of a BLOB message is written.
        """
        ...

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message after the others. A newer one may replace it if the rules of the queue allow that."""
        ...

    def expedite(self, message: Routable, now: float) -> None:
        """Queue a message ahead of all that have not been started."""
        ...
