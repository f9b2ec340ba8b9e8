"""Listener for the events of an outgoing queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from indifast.protocol.message import Routable

Loss: TypeAlias = Literal["dropped", "replaced"]
"""How a message is lost: dropped because too much waits, or replaced by a newer one."""


class QueueListener:
    """Receives the events of a queue, in the middle of the call that causes them."""

    def on_pending(self) -> None:
        """Called when there is something to write after there was nothing, or the next message was not ready."""

    def on_room(self) -> None:
        """Called when a queue that was `full` is half empty again."""

    def on_lost(self, message: Routable, how: Loss) -> None:
        """Called when a message is dropped or replaced."""

    def on_overflow(self) -> None:
        """Called once when more waits than the limits allow and none of it may be dropped: the peer can't catch up."""


NOBODY = QueueListener()
