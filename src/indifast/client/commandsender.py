"""Sender of commands for a client's vectors, which also starts their timeouts."""

from __future__ import annotations

from typing import Any

from indifast.client.hooks import Hooks
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.notifier import Notifier
from indifast.client.sender import Expected, Sender
from indifast.client.timeouts import Timeouts
from indifast.protocol.message import Routable


class CommandSender(Sender):
    """The `Sender` that a client gives to its vectors."""

    def __init__(self, lifecycle: Lifecycle, link: Link, hooks: Hooks, timeouts: Timeouts, notifier: Notifier) -> None:
        self.home = lifecycle.home
        self._link = link
        self._hooks = hooks
        self._timeouts = timeouts
        self._notifier = notifier

    @property
    def can_send(self) -> bool:
        """Whether the client is connected and not stopping."""
        return self._link.can_send

    @property
    def raw(self) -> bool:
        """Whether BLOBs are sent as raw bytes."""
        return self._link.raw and self._hooks.send() is None

    async def transmit(self, message: Routable) -> None:
        """Queue a message for the server, and wait while the server is far behind in reading."""
        await self._hooks.transmit(message)

    def expect(self, vector: Any) -> Expected:
        """Start the timeout of a command to a vector."""
        return self._timeouts.expect(vector)

    async def emit(self, event: Any) -> None:
        """Pass an event that the program created to `rxevent`."""
        await self._notifier.emit(event)
