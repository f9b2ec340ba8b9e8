"""What the vectors of a client send, and the clock that runs on it."""

from __future__ import annotations

from typing import Any

from indifast.client.link import Link
from indifast.client.notifier import Notifier
from indifast.client.sender import Expected, Sender
from indifast.client.timeouts import Timeouts
from indifast.protocol.message import Wire


class CommandSender(Sender):
    """The sender of a client's vectors."""

    def __init__(self, link: Link, timeouts: Timeouts, notifier: Notifier) -> None:
        self._link = link
        self._timeouts = timeouts
        self._notifier = notifier

    @property
    def can_send(self) -> bool:
        """See `Sender`."""
        return self._link.can_send

    async def transmit(self, message: Wire) -> None:
        """See `Sender`."""
        await self._link.transmit(message)

    def expect(self, vector: Any) -> Expected:
        """See `Sender`."""
        return self._timeouts.expect(vector)

    async def emit(self, event: Any) -> None:
        """See `Sender`."""
        await self._notifier.emit(event)
