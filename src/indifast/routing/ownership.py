"""Who speaks for which device: the first who defines it, until it deletes it or is gone."""

from __future__ import annotations

from indifast.protocol.escape import for_log
from indifast.routing.peer import Kind, Peer, Peers
from indifast.routing.refusals import Refusal

MAX_DEVICES = 10_000
"""Devices that one peer may own."""


class Ownership:
    """The owners of devices, and who offers as well what another one has (`Peer.conflicts`).

    A device has one owner. A link that offers it too is cut for this device, which ends every ring, until the owner is
    gone, or the other side asks for the device or deletes it. `accept_links` lets those who connect to us own devices.
    """

    def __init__(self, peers: Peers, *, accept_links: bool) -> None:
        self.owners: dict[str, Peer] = {}
        self._peers = peers
        self.accept_links = accept_links

    def claim(self, peer: Peer, device: str) -> bool:
        """Make a peer the owner of a device. False when another one has it.

        Nobody owns the device without a name: what is said of it is refused.
        """
        if not device:
            return False
        owner = self.owners.setdefault(device, peer)
        if owner is peer:
            peer.devices[device] = None
            self._peers.changed()
        return owner is peer

    def obtain(self, peer: Peer, device: str, *, defined: bool) -> Refusal | None:
        """A peer says something of a device that nobody owns, perhaps a definition: it is the owner now, or why not."""
        if peer.kind is Kind.CLIENT and not (self.accept_links and defined):
            return Refusal("not the owner", device, f"something of {for_log(device)}, which is not its device")
        if peer.kind is Kind.REMOTE and not defined:
            return Refusal("not yet defined")
        if peer.limit_to is not None and peer.limit_to != device:
            return Refusal("another device than the link is for")
        if len(peer.devices) >= MAX_DEVICES:
            return Refusal("too many devices", None, f"more than {MAX_DEVICES} devices")
        if peer.kind is Kind.CLIENT:
            peer.link = True
        self.claim(peer, device)
        return None

    def contest(self, peer: Peer, device: str) -> bool:
        """A peer defines a device that another one owns; True when clients are to be told: once."""
        if device in peer.conflicts or (peer.kind is Kind.CLIENT and not self.accept_links):
            return False
        if len(peer.conflicts) < MAX_DEVICES:
            peer.conflicts[device] = None
        if peer.kind is not Kind.DRIVER:
            peer.link = True
            self._peers.changed()
        if device in peer.told_conflicts or len(peer.told_conflicts) >= MAX_DEVICES:
            return False
        peer.told_conflicts.add(device)
        return True

    def settle(self, peer: Peer, device: str | None) -> None:
        """A peer asks for a device, or for everything, or has lost the device: it may hear of ours."""
        if device is None:
            peer.conflicts.clear()
        elif device in peer.conflicts:
            del peer.conflicts[device]
        else:
            return
        self._peers.changed()

    def release(self, peer: Peer, device: str) -> list[Peer]:
        """A device has no owner any more; those who offered it as well, and are to be asked for it."""
        if self.owners.get(device) is not peer:
            return []
        del self.owners[device]
        peer.devices.pop(device, None)
        for name in peer.blob_names.pop(device, ()):
            peer.asked_blobs.discard((device, name))
        self._peers.changed()
        others = [other for other in self._peers if other is not peer and device in other.conflicts]
        for other in others:
            del other.conflicts[device]
        return others
