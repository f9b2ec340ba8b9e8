"""What a queue tells the one who runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from indifast.protocol.message import Routable

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


NOBODY = QueueListener()
