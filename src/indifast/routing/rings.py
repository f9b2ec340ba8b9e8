"""Links that lead back to where they come from: what circulates is stopped, and rings through libindi are found.

A libindi server knows no owners of devices: what it is told as "driver" it tells as server, so a ring through it brings
back what seems to come from the owner. Such a ring is found by the deletion of a device that nobody has, which goes to
the libindi servers that read from us and comes back by a link.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from indifast.protocol import wire
from indifast.protocol.message import Routable
from indifast.routing.peer import Kind, Peer, Peers

RING_CHECK = "indifast ring check"
"""The device of the deletions by which a server finds out whether what it tells a libindi server comes back to it."""

PROBE_INTERVAL = 0.5
"""Seconds between ring checks of one libindi server."""

_RECENT = 256  # messages without device remembered, so that none circulates
_RECENT_SECONDS = 60.0


def is_libindi_server(message: Routable, device: str | None) -> bool:
    """A libindi server that reads from us begins with a getProperties whose device stands before the version.

    Libindi's clients write them the other way round, and never ask for the device "*".
    """
    return device is not None and (device.startswith("*") or list(message.element().attrs) == ["device", "version"])


class Rings:
    """Ring checks that are under way, and messages without device that were here lately.

    `on_held` is called when a check is put off while none was: `check_held` is to be called a little later.
    """

    def __init__(self, peers: Peers, on_held: Callable[[], None]) -> None:
        self.id = os.urandom(6).hex()  # `secrets` takes longer to import than the rest of the router
        """The name of this server in `via`."""
        self._peers = peers
        self._on_held = on_held
        self._held: dict[Peer, None] = {}  # those whose check is put off
        self._probes: OrderedDict[str, Peer | None] = OrderedDict()
        self._recent: OrderedDict[tuple[str | None, str | None], float] = OrderedDict()

    # -- messages without device

    def is_new(self, peer: Peer, message: Routable, now: float) -> bool:
        """False for a message without device that a link brings although it has been here already."""
        seen = self.remember(message, now)
        return peer.kind is Kind.DRIVER or seen is None or now - seen > _RECENT_SECONDS

    def remember(self, message: Routable, now: float) -> float | None:
        """Note a message without device; when it was noted before."""
        attrs = message.element().attrs
        key = (attrs.get("timestamp"), attrs.get("message"))
        recent = self._recent
        seen = recent.pop(key, None)
        recent[key] = now
        if len(recent) > _RECENT:
            recent.popitem(last=False)
        return seen

    # -- libindi servers

    def check(self, now: float) -> None:
        """Ask whether what the libindi servers that read from us are told comes back by a link.

        Not often, but the last time counts: a check that was on its way before the ring was closed has found nothing.
        """
        for peer in self._peers.clients:
            if peer.libindi_server:
                if now - peer.probed >= PROBE_INTERVAL:
                    self._probe(peer, now)
                elif peer not in self._held:
                    first = not self._held
                    self._held[peer] = None
                    if first:
                        self._on_held()

    def check_held(self, now: float) -> bool:
        """Send the checks that were put off, as far as it is time; whether there are more."""
        for peer in list(self._held):
            if peer not in self._peers:
                del self._held[peer]
            elif now - peer.probed >= PROBE_INTERVAL:
                self._probe(peer, now)
        return bool(self._held)

    def _probe(self, peer: Peer, now: float) -> None:
        self._held.pop(peer, None)
        peer.probed = now
        token = os.urandom(8).hex()
        self._remember_probe(token, peer)
        peer.inlet.append(wire.del_property(RING_CHECK, token), now)

    def _remember_probe(self, token: str, peer: Peer | None) -> None:
        self._probes[token] = peer
        if len(self._probes) > _RECENT:
            self._probes.popitem(last=False)

    def arrived(self, peer: Peer, message: Routable, now: float) -> Peer | None:
        """A check has arrived. Another server's goes on, once; one of ours shows a ring: where that begins, if new."""
        token = message.name or ""
        if token not in self._probes:
            if peer.link:
                self._remember_probe(token, None)
                for other in (*self._peers.clients, *self._peers.remotes):
                    if other.link and other is not peer:
                        other.inlet.append(message, now)
            return None
        origin = self._probes[token]
        if origin is None or origin not in self._peers or origin is peer or peer in origin.ring_links:
            return None
        origin.ring_links.add(peer)
        self._peers.changed()
        return origin

    def forget(self, peer: Peer) -> None:
        """It is gone, and with it the rings that it closed."""
        for other in self._peers.clients:
            other.ring_links.discard(peer)
