"""Which BLOBs are wanted, so that drivers need not encode the others, and links are asked only for these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from indifast.protocol import wire
from indifast.protocol.message import FORMS
from indifast.protocol.vocabulary import ALSO, NEVER
from indifast.routing.link import Demand
from indifast.routing.peer import Kind, Peer, Peers

_MAX_KNOWN = 20_000  # properties for which the answer is remembered
_MAX_NAMES = 10_000  # BLOB properties of one device behind a link
_MAX_ASKED = 20_000  # requests for BLOBs to one link that are remembered


class Demands:
    """Who wants the content of BLOB properties, remembered until anything changes, and what links were asked for.

    What a libindi server wants of a link that leads back to it does not count: it would be our own request, gone round.
    """

    def __init__(self, peers: Peers, owners: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._owners = owners
        self._known: dict[tuple[str, str], Demand] = {}
        self._version = -1

    def of(self, device: str, name: str) -> Demand:
        """Return which forms of a BLOB are wanted now."""
        if self._version != self._peers.version:
            self._known.clear()
            self._version = self._peers.version
        key = (device, name)
        demand = self._known.get(key)
        if demand is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            forms = set()
            owner = self._owners.get(device)
            for peer in self._peers:
                if peer is not owner and owner not in peer.ring_links and peer.wants_content(device, name):
                    forms.add(peer.outbox.form)
            demand = self._known[key] = Demand(*(form in forms for form in FORMS))
        return demand

    # -- Links

    def defined(self, peer: Peer, device: str, name: str, now: float) -> None:
        """Handle the definition of a BLOB property by a link.

        A link may or may not remember what it was asked for before it deleted the property.
        """
        names = peer.blob_names.setdefault(device, {})
        if len(names) < _MAX_NAMES:
            names[name] = None
        asked = (device, name) in peer.asked_blobs
        peer.asked_blobs.pop((device, name), None)
        self.update(device, name, now)
        if asked and (device, name) not in peer.asked_blobs:
            peer.inlet.append(wire.enable_blob(device, name, NEVER), now)

    def contested(self, peer: Peer, device: str, name: str, now: float) -> None:
        """Handle the definition of a BLOB property by a link, of a device that has another owner by now.

        If the link was asked for its BLOBs before, it would go on sending them.
        """
        if (device, name) in peer.asked_blobs:
            del peer.asked_blobs[(device, name)]
            peer.inlet.append(wire.enable_blob(device, name, NEVER), now)

    def deleted(self, peer: Peer, device: str, name: str) -> None:
        """Handle the deletion of a property by a link."""
        names = peer.blob_names.get(device)
        if names is not None:
            names.pop(name, None)

    def update(self, device: str, name: str | None, now: float) -> None:
        """Ask the link that owns a device for its BLOBs if any peer wants them, and stop that once none does.

        Requests always have a device and a name: a libindi server applies anything less to the whole connection.
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
                if len(owner.asked_blobs) >= _MAX_ASKED:
                    del owner.asked_blobs[next(iter(owner.asked_blobs))]
                owner.asked_blobs[(device, each)] = None
                owner.inlet.append(wire.enable_blob(device, each, ALSO), now)
            elif asked and not wanted:
                del owner.asked_blobs[(device, each)]
                owner.inlet.append(wire.enable_blob(device, each, NEVER), now)

    def update_all(self, now: float) -> None:
        """Tell links which BLOBs are no longer wanted after a peer has gone."""
        for peer in (*self._peers.remotes, *self._peers.clients):
            for device, name in list(peer.asked_blobs):
                self.update(device, name, now)
