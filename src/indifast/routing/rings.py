"""Rings: links that lead back to where they come from.

Messages that circulate are stopped, and rings through libindi servers are found. A libindi server knows no owners of
devices: what it hears as a "driver" it repeats as a server, so a ring through it brings back messages that seem to come
from the owner. To find such a ring, we send the libindi servers that read from us the deletion of a device that nobody
has, and see whether it comes back by a link.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from indifast.protocol import wire
from indifast.protocol.message import Routable
from indifast.routing.peer import Kind, Peer, Peers

RING_CHECK = "indifast ring check"
"""The device of the deletions by which a server finds out whether what it sends to a libindi server comes back."""

PROBE_INTERVAL = 0.5
"""Seconds between ring checks of one libindi server."""

_RECENT = 256  # messages without a device that are remembered, so that none circulates
_RECENT_SECONDS = 60.0


def is_libindi_server(message: Routable, device: str | None) -> bool:
    """Return whether the first getProperties of a peer comes from a libindi server that reads from us.

    Such a server writes the device before the version, or asks for the device "*". libindi's clients write them the
    other way round, and never ask for "*".
    """
    return device is not None and (device.startswith("*") or list(message.element().attrs) == ["device", "version"])


class Rings:
    """Ring checks that are under way, and recent messages without a device.

    Args:
        peers: The peers that take part.
        on_held: Called when a check is put off while none was. Then call `check_held` a little later.
    """

    def __init__(self, peers: Peers, on_held: Callable[[], None]) -> None:
        self.id = os.urandom(6).hex()  # `secrets` takes longer to import than the rest of the router
        """The name of this server in `via`."""
        self._peers = peers
        self._on_held = on_held
        self._held: dict[Peer, None] = {}  # peers whose check is put off
        self._probes: OrderedDict[str, Peer | None] = OrderedDict()
        self._recent: OrderedDict[tuple[str | None, str | None], float] = OrderedDict()

    # -- Messages without a device

    def is_new(self, peer: Peer, message: Routable, now: float) -> bool:
        """Return False if a link brings a message without a device that was here shortly before."""
        seen = self.remember(message, now)
        return peer.kind is Kind.DRIVER or seen is None or now - seen > _RECENT_SECONDS

    def remember(self, message: Routable, now: float) -> float | None:
        """Remember a message without a device; return when it was last remembered, or None."""
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
        """Check whether what we send to the libindi servers that read from us comes back by a link.

        The rate of checks is limited, but the last one is always sent: a check that was sent before the ring was closed
        has found nothing.
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
        """Send the postponed checks that are due, and return whether there are more."""
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
        """Handle a check that has arrived. One of another server is passed on, once; one of ours shows a ring.

        Returns:
            The libindi server where the ring begins, if the ring is new; otherwise None.
        """
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
        """Forget a peer that is gone, the rings that it closed, and whom its checks were for."""
        for other in self._peers.clients:
            other.ring_links.discard(peer)
        self._held.pop(peer, None)
        if peer.libindi_server:
            for token, origin in self._probes.items():
                if origin is peer:
                    self._probes[token] = None  # still known, so that it goes on nowhere
