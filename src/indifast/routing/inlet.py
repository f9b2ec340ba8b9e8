"""The way into the queue of a peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from indifast.protocol.message import Routable


class Inlet(Protocol):
    """Where messages for a peer are put in."""

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Behind the others."""
        ...

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Behind the others; a newer one may stand for it, where the rules of the queue allow that."""
        ...

    def expedite(self, message: Routable, now: float) -> None:
        """Ahead of everything that is not begun."""
        ...
