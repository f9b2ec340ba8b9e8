"""Requests for definitions that drivers and links are sent, and how fast.

What one client asks for is told to all, so requests of a crowd are put together: after a few to one driver or link at
once the others wait, and equal ones are sent as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from indifast.protocol import wire
from indifast.routing.peer import Peer, Peers

ASK_INTERVAL = 20e-6
"""Seconds between those beyond, per client and definition of the answer: it goes to everybody, so the answers to a
crowd cost its square."""


class Asking:
    """Asks drivers and links for definitions, at a bounded rate each.

    `on_held` is called when a request is held back while none was: `ask_held` is to be called after `interval`.
    `via` is the name of this server: requests to links show by it that a server asks.
    """

    def __init__(self, peers: Peers, owners: Mapping[str, Peer], on_held: Callable[[], None], via: str) -> None:
        self._via = via
        self._peers = peers
        self._owners = owners
        self._on_held = on_held
        self._held: dict[Peer, None] = {}

    def ask(self, owner: Peer, device: str | None, name: str | None, now: float) -> None:
        """Ask for definitions; after many such requests in a short time this one waits, and equal ones with it."""
        if owner.requests.may_ask(now, self._interval(owner)):
            self._ask_now(owner, device, name, now)
            return
        owner.requests.hold(device, name, by_device=owner not in self._peers.drivers)
        first = not self._held
        self._held[owner] = None
        if first:
            self._on_held()

    def ask_everybody(self, asking: Peer, now: float) -> None:
        """Ask all drivers for all they have, and links for each device of theirs that we know."""
        drivers = self._peers.drivers
        for driver in drivers:
            if driver is not asking:
                self.ask(driver, None, None, now)
        for device, owner in list(self._owners.items()):
            if owner not in drivers and owner is not asking and owner not in asking.ring_links:
                self.ask(owner, device, None, now)

    @property
    def interval(self) -> float:
        """Seconds until the first of those to whom requests are held back may be sent one."""
        return min(map(self._interval, self._held), default=0.0)

    def _interval(self, owner: Peer) -> float:
        """Seconds between requests for definitions to one driver or link while there are many."""
        return ASK_INTERVAL * max(len(self._peers.clients), 10) * owner.requests.answer

    def ask_held(self, now: float) -> bool:
        """Send what was held back, as far as it is time; whether there is more."""
        for owner in list(self._held):
            requests = owner.requests
            while requests.held and requests.may_ask(now, self._interval(owner)):
                self._ask_now(owner, *requests.next(), now)
            if not requests.held:
                del self._held[owner]
        return bool(self._held)

    def _ask_now(self, owner: Peer, device: str | None, name: str | None, now: float) -> None:
        if owner.link and device is not None and self._owners.get(device, owner) is not owner:
            return  # it has another owner by now: the link would take us for one who has lost it
        owner.requests.begin()
        request = wire.get_properties(device, name, via=self._via if owner.link else None)
        owner.inlet.append_replaceable(request, now)

    def forget(self, owner: Peer) -> None:
        """It is gone: nothing is asked of it any more."""
        owner.requests.held.clear()
        self._held.pop(owner, None)
