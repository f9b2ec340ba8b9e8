"""Owners of devices: the first peer that defines a device speaks for it, until it deletes the device or is gone."""

from __future__ import annotations

from indifast.protocol.escape import for_log
from indifast.routing.peer import Kind, Peer, Peers
from indifast.routing.refusals import Refusal

MAX_DEVICES = 10_000
"""Devices that one peer may own."""


class Ownership:
    """The owners of devices, and the peers that offer a device of another owner (`Peer.conflicts`).

    A device has one owner. A link that offers it too is cut for this device, which breaks every ring, until the owner
    is gone, or the other side asks for the device or deletes it.

    Args:
        peers: The peers that take part.
        accept_links: Whether peers that connect to us may own devices.
    """

    def __init__(self, peers: Peers, *, accept_links: bool) -> None:
        self.owners: dict[str, Peer] = {}
        self._peers = peers
        self.accept_links = accept_links

    def claim(self, peer: Peer, device: str) -> bool:
        """Make a peer the owner of a device; return False if another peer owns it.

        No peer can own a device without a name: messages about one are refused.
        """
        if not device:
            return False
        owner = self.owners.setdefault(device, peer)
        if owner is peer:
            peer.devices[device] = None
            self._peers.changed()
        return owner is peer

    def obtain(self, peer: Peer, device: str, *, defined: bool) -> Refusal | None:
        """Make a peer the owner of a device that has none, if it may be.

        Args:
            peer: The peer, which speaks for the device.
            device: The device.
            defined: Whether the peer defines the device.

        Returns:
            None, or why the peer can't own the device.
        """
        if peer.kind is Kind.CLIENT and not (self.accept_links and defined):
            return Refusal("not the owner", device, f"something about {for_log(device)}, which is not its device")
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
        """Note that a peer defines a device of another owner; return whether to tell clients, which is done once."""
        if device in peer.conflicts or (peer.kind is Kind.CLIENT and not self.accept_links):
            return False
        if len(peer.conflicts) < MAX_DEVICES:
            peer.conflicts[device] = False
        if peer.kind is not Kind.DRIVER:
            peer.link = True
            self._peers.changed()
        if device in peer.told_conflicts or len(peer.told_conflicts) >= MAX_DEVICES:
            return False
        peer.told_conflicts.add(device)
        return True

    def withhold(self, device: str) -> None:
        """Note the deletion of a property, of which the links that are cut for the device are not told."""
        for other in self._peers:
            if device in other.conflicts:
                other.conflicts[device] = True

    def settle(self, peer: Peer, device: str | None) -> list[str]:
        """End the conflict of a peer that asks for a device, or has lost it, so that it may hear of ours.

        Without `device`, the peer asks for everything, which ends all of its conflicts.

        Returns:
            Devices of which a property was deleted during the conflict. What the peer was told before the conflict may
            have reached it only after it had lost its own device, so that it knows the property from us.
        """
        if device is None:
            ended, peer.conflicts = peer.conflicts, {}
        elif device in peer.conflicts:
            ended = {device: peer.conflicts.pop(device)}
        else:
            return []
        self._peers.changed()
        return [each for each, outdated in ended.items() if outdated]

    def release(self, peer: Peer, device: str) -> list[Peer]:
        """Take a device from its owner, and return the other peers that offered it: they are to be asked for it."""
        if self.owners.get(device) is not peer:
            return []
        del self.owners[device]
        peer.devices.pop(device, None)
        peer.blob_names.pop(device, None)
        self._peers.changed()
        others = [other for other in self._peers if other is not peer and device in other.conflicts]
        for other in others:
            del other.conflicts[device]
        return others
