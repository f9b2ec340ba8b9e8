"""Requests for definitions to drivers and links, at a bounded rate.

The answer to one client goes to all, so the requests of a crowd are combined: after a few to one driver or link at
once, the others wait, and equal ones are sent as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from indifast.protocol import wire
from indifast.routing.peer import Peer, Peers

ASK_INTERVAL = 20e-6
"""Seconds between further requests, per client and definition of the answer.

An answer goes to everybody, so the cost of answering a crowd grows with the square of its size.
"""


class Asking:
    """Asks drivers and links for definitions, each at a bounded rate.

    Args:
        peers: The peers that take part.
        owners: The owner of each device.
        on_held: Called when a request is held back while none was. Then call `ask_held` after `interval` seconds.
        via: The name of this server. It shows links that a server asks.
    """

    def __init__(self, peers: Peers, owners: Mapping[str, Peer], on_held: Callable[[], None], via: str) -> None:
        self._via = via
        self._peers = peers
        self._owners = owners
        self._on_held = on_held
        self._held: dict[Peer, None] = {}

    def ask(self, owner: Peer, device: str | None, name: str | None, now: float) -> None:
        """Ask for definitions. After many requests in a short time, this one waits and is combined with equal ones."""
        if owner.requests.may_ask(now, self._interval(owner)):
            self.ask_at_once(owner, device, name, now)
            return
        owner.requests.hold(device, name, by_device=owner not in self._peers.drivers)
        first = not self._held
        self._held[owner] = None
        if first:
            self._on_held()

    def ask_everybody(self, asking: Peer, now: float) -> None:
        """Ask all drivers for everything they have, and links for each device that we know they own."""
        drivers = self._peers.drivers
        for driver in drivers:
            if driver is not asking:
                self.ask(driver, None, None, now)
        for device, owner in list(self._owners.items()):
            if owner not in drivers and owner is not asking and owner not in asking.ring_links:
                self.ask(owner, device, None, now)

    @property
    def interval(self) -> float:
        """Seconds until the first peer with held requests may be sent one."""
        return min(map(self._interval, self._held), default=0.0)

    def _interval(self, owner: Peer) -> float:
        """Return the seconds between requests for definitions to one driver or link while there are many."""
        return ASK_INTERVAL * max(len(self._peers.clients), 10) * owner.requests.answer

    def ask_held(self, now: float) -> bool:
        """Send the held requests that are due, and return whether there are more."""
        for owner in list(self._held):
            requests = owner.requests
            while requests.held and requests.may_ask(now, self._interval(owner)):
                self.ask_at_once(owner, *requests.next(), now)
            if not requests.held:
                del self._held[owner]
        return bool(self._held)

    def ask_at_once(self, owner: Peer, device: str | None, name: str | None, now: float) -> None:
        """Ask for definitions, however many requests there were before."""
        if owner.link and device is not None and self._owners.get(device, owner) is not owner:
            return  # it has another owner by now: the link would think that we have lost the device
        owner.requests.begin()
        request = wire.get_properties(device, name, via=self._via if owner.link else None)
        owner.inlet.append_replaceable(request, now)

    def forget(self, owner: Peer) -> None:
        """Forget the held requests to a peer that is gone."""
        owner.requests.held.clear()
        self._held.pop(owner, None)
