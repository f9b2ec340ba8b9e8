"""What one WebSocket has subscribed to, and what it is still to be told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Set
from typing import NamedTuple

from indifast.protocol.jsonform import Plain
from indifast.web.bounds import MESSAGES, SUBSCRIPTIONS
from indifast.web.rights import EVERYTHING, Rights

Subscription = tuple[str | None, str | None]
"""Device and property; None stands for all."""


def covers(subscriptions: Set[Subscription], device: str, name: str) -> bool:
    """Return whether any of these subscriptions is about a property."""
    return not subscriptions.isdisjoint(((device, name), (device, None), (None, name), (None, None)))


class Property(NamedTuple):
    """The state of a property is to be told, or that it is gone."""

    device: str
    name: str
    missed: int
    """How many states it has replaced that were not told."""


class Message(NamedTuple):
    """A message is to be told."""

    content: Plain
    missed: int
    """How many messages before it were dropped."""


class Link(NamedTuple):
    """It is to be told whether there is a connection to the server."""


class TooManySubscriptions(ValueError):
    """A viewer has as many subscriptions as it may have."""


class Viewer:
    """A queue that cannot grow: of each property only the newest state waits, and of messages only the newest ones."""

    def __init__(self, rights: Rights = EVERYTHING) -> None:
        self._rights = rights
        self._subscriptions: set[Subscription] = set()
        self._link = False
        self._properties: dict[tuple[str, str], int] = {}
        self._messages: deque[Plain] = deque()
        self._dropped = 0
        self._new = asyncio.Event()

    # -- Subscriptions

    def subscribe(self, *subscriptions: Subscription) -> None:
        """Add subscriptions.

        Raises:
            TooManySubscriptions: There would be too many; none is added.
        """
        wanted = self._subscriptions.union(subscriptions)
        if len(wanted) > SUBSCRIPTIONS:
            raise TooManySubscriptions(f"a connection may have {SUBSCRIPTIONS} subscriptions")
        self._subscriptions = wanted

    def unsubscribe(self, *subscriptions: Subscription) -> None:
        """Remove subscriptions, and what waits only because of them."""
        self._subscriptions.difference_update(subscriptions)
        self._properties = {key: missed for key, missed in self._properties.items() if self.wants(*key)}

    def wants(self, device: str, name: str) -> bool:
        """Return whether the viewer has subscribed to a property, and may see it."""
        return bool(self._subscriptions) and self._rights.sees(device) and covers(self._subscriptions, device, name)

    def hears(self, device: str | None) -> bool:
        """Return whether the viewer has subscribed to anything of a device, and may see it.

        All who may see everything hear messages that name no device: nobody knows what they are about.
        """
        wanted = self._subscriptions
        if self._rights.limited and (device is None or not self._rights.sees(device)):
            return False
        return bool(wanted) and (device is None or any(each in (None, device) for each, _ in wanted))

    # -- What is new

    def changed(self, device: str, name: str) -> None:
        """Note that a property has changed or is gone, if the viewer has subscribed to it."""
        if self.wants(device, name):
            key = device, name
            waits = self._properties.get(key)
            self._properties[key] = 0 if waits is None else waits + 1
            self._new.set()

    def untold(self, device: str, name: str) -> None:
        """Note that the viewer is to be told of a property that has not changed."""
        if self.wants(device, name):
            self._properties.setdefault((device, name), 0)
            self._new.set()

    def said(self, message: Plain) -> None:
        """Note a message, if the viewer has subscribed to anything of its device."""
        if not self.hears(message["device"]):
            return
        if len(self._messages) >= MESSAGES:
            self._messages.popleft()
            self._dropped += 1
        self._messages.append(message)
        self._new.set()

    def relinked(self) -> None:
        """Note that the connection to the server was made or lost: what waits about properties is void."""
        self._properties.clear()
        self._link = True
        self._new.set()

    # -- What is told

    def take(self) -> Property | Message | Link | None:
        """Return what is to be told next, if anything: the connection first, then properties, then messages."""
        if self._link:
            self._link = False
            return Link()
        if self._properties:
            key = next(iter(self._properties))
            return Property(*key, self._properties.pop(key))
        if self._messages:
            dropped, self._dropped = self._dropped, 0
            return Message(self._messages.popleft(), dropped)
        return None

    async def next(self) -> Property | Message | Link:
        """Wait for something to tell, and return it."""
        while (item := self.take()) is None:
            self._new.clear()
            await self._new.wait()
        return item
