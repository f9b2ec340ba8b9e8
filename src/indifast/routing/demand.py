"""Which BLOBs anybody wants: so that drivers need not encode the others, and links are asked for these only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from indifast.protocol import wire
from indifast.protocol.vocabulary import ALSO, NEVER
from indifast.routing.link import Demand
from indifast.routing.peer import Kind, Peer, Peers

_MAX_KNOWN = 20_000  # properties of which the answer is remembered
_MAX_NAMES = 10_000  # BLOB properties of one device behind a link


class Demands:
    """Who wants the content of BLOB properties, until anything changes; and what links were asked for."""

    def __init__(self, peers: Peers, owners: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._owners = owners
        self._known: dict[tuple[str, str], Demand] = {}
        self._version = -1

    def of(self, device: str, name: str) -> Demand:
        """Which forms of a BLOB anybody wants now."""
        if self._version != self._peers.version:
            self._known.clear()
            self._version = self._peers.version
        key = (device, name)
        demand = self._known.get(key)
        if demand is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            inline = attached = False
            owner = self._owners.get(device)
            for peer in self._peers:
                if peer is not owner and peer.wants_content(device, name):
                    attached = attached or peer.outbox.attached
                    inline = inline or not peer.outbox.attached
            demand = self._known[key] = Demand(inline, attached)
        return demand

    # -- links

    def defined(self, peer: Peer, device: str, name: str, now: float) -> None:
        """A link has defined a BLOB property: it knows of no earlier request."""
        names = peer.blob_names.setdefault(device, set())
        if len(names) < _MAX_NAMES:
            names.add(name)
        peer.asked_blobs.discard((device, name))
        self.update(device, name, now)

    def deleted(self, peer: Peer, device: str, name: str) -> None:
        """A link has deleted a property."""
        names = peer.blob_names.get(device)
        if names is not None:
            names.discard(name)
            peer.asked_blobs.discard((device, name))

    def update(self, device: str, name: str | None, now: float) -> None:
        """Ask the link that has a device for its BLOBs when the first one wants them, and no more after the last one.

        Always with device and name: a libindi server takes anything less for the whole connection.
        """
        owner = self._owners.get(device)
        if owner is None or owner.kind is Kind.DRIVER or not owner.blob_enable:
            return
        known = owner.blob_names.get(device, ())
        names: Iterable[str] = known if name is None else [name] if name in known else []
        for each in names:
            wanted = any(self.of(device, each))
            asked = (device, each) in owner.asked_blobs
            if wanted and not asked:
                owner.asked_blobs.add((device, each))
                owner.inlet.append(wire.enable_blob(device, each, ALSO), now)
            elif asked and not wanted:
                owner.asked_blobs.discard((device, each))
                owner.inlet.append(wire.enable_blob(device, each, NEVER), now)

    def update_all(self, now: float) -> None:
        """Somebody is gone: what was asked for may be wanted no more."""
        for peer in (*self._peers.remotes, *self._peers.clients):
            for device, name in list(peer.asked_blobs):
                self.update(device, name, now)
