"""Who owns what and who is told what, restated as naively as possible: what everybody has said is read anew each time.

The rules are those of `docs/reference/wire.md` and `server.md`. Nothing here is shared with the router.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from indifast.protocol.message import Routable
from indifast.routing.peer import Kind, Peer

NOT_THE_OWNER = "not the owner"
LINK_DEVICE = "*"  # a libindi server that asks for this device asks for everything


class Wish(NamedTuple):
    """What one getProperties, enableBLOB or command asks for."""

    tag: str
    device: str | None
    name: str | None
    policy: str = ""


class Wishes:
    """What one peer has asked for, in order."""

    def __init__(self, driver: bool, blobs_pass: bool = True) -> None:
        self._driver = driver
        self._blobs_pass = blobs_pass  # over this link
        self._said: list[Wish] = []
        self._known: dict[tuple[object, ...], object] = {}

    def add(self, wish: Wish) -> None:
        if wish in self._said and wish.tag != "enableBLOB":
            return
        self._said.append(wish)
        self._known.clear()

    def clear(self) -> None:
        self._said.clear()
        self._known.clear()

    def __bool__(self) -> bool:
        return bool(self._said)

    @property
    def everything(self) -> bool:
        return any(wish.tag == "getProperties" and wish.device is None for wish in self._said)

    def asks_for(self, device: str, name: str) -> bool:
        """Whether the definition of a property is asked for."""
        return any(
            wish.tag == "getProperties" and wish.device in (None, device) and wish.name in (None, name)
            for wish in self._said
        )

    def covers(self, device: str, name: str | None) -> bool:
        """Whether something about a property, or the whole device, is asked for."""
        for wish in self._said:
            if wish.tag == "enableBLOB" and self._driver:
                continue
            if wish.tag == "getProperties" and wish.device is None:
                return True
            if wish.device == device and wish.name in (None, name):
                return True
        return False

    def touches(self, device: str) -> bool:
        """Whether anything of a device is asked for."""
        return self.everything or any(
            wish.device == device and not (wish.tag == "enableBLOB" and self._driver) for wish in self._said
        )

    def content(self, device: str, name: str | None) -> bool:
        """Whether the BLOBs of a property are asked for."""
        policy = "Never"
        for wish in self._said:
            if wish.tag == "enableBLOB" and wish.device == device and wish.name in (None, name):
                policy = wish.policy
        return policy != "Never" and self._blobs_pass and self.covers(device, name)

    def silent(self, device: str) -> bool:
        """Whether nothing but BLOBs is asked for of a device."""
        policy = "Never"
        for wish in self._said:
            if wish.tag == "enableBLOB" and wish.device == device and wish.name is None:
                policy = wish.policy
        return policy == "Only"

    def ever_silent(self, device: str) -> bool:
        """Whether there was a time when nothing but BLOBs was asked for, so that values were missed."""
        return any(wish.policy == "Only" and wish.device == device and wish.name is None for wish in self._said)

    def want(self, tag: str, device: str, name: str | None, frame: bool) -> bool:
        """Whether a message of the owner of a device is to be told."""
        key = (tag, device, name, frame)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._want(tag, device, name, frame)
        return bool(known)

    def _want(self, tag: str, device: str, name: str | None, frame: bool) -> bool:
        if tag == "delProperty" and name is None:
            return self.touches(device)
        if not self.covers(device, name):
            return False
        if frame:
            return self.content(device, name)
        if tag.startswith("def") or tag in ("delProperty", "setBLOBVector"):
            return True
        return not self.silent(device)


class Verdict(NamedTuple):
    """What is to become of a message about a device."""

    accepted: bool
    receivers: list[Peer]


class Rules:
    """One server's owners, offers and wishes."""

    def __init__(self, identity: str, accept_links: bool) -> None:
        self.identity = identity
        self.accept_links = accept_links
        self.peers: dict[Peer, Wishes] = {}
        self.owners: dict[str, Peer] = {}
        self.offers: dict[Peer, dict[str, bool]] = {}
        """Devices that a peer has defined although another one owns them: nothing of them is told there.

        The values are whether a property of the owner was deleted meanwhile.
        """
        self.withdrawn: list[str] = []
        """Devices that the one who said the last message is to be told are gone, before it is told of them anew."""
        self.links: set[Peer] = set()
        """Peers that have shown to be servers."""
        self.refused: Counter[str] = Counter()
        """Messages that are not to be obeyed, by reason."""

    # Peers

    def attach(self, peer: Peer) -> None:
        if peer not in self.peers:
            self.peers[peer] = Wishes(peer.kind is Kind.DRIVER, peer.blob_enable)
            self.offers[peer] = {}
            if peer.kind is Kind.REMOTE:
                self.links.add(peer)

    def start(self, peer: Peer) -> None:
        """A link is up: it hears of everything, unless it is for one device."""
        if peer.kind is Kind.REMOTE and peer.limit_to is None:
            self.peers[peer].add(Wish("getProperties", None, None))

    def lose(self, peer: Peer, *, gone: bool) -> list[tuple[str, list[Peer]]]:
        """Take a peer's devices away; return each with those who are to be told."""
        lost = []
        if peer not in self.peers:
            return []
        if gone:
            self.peers[peer].clear()
        for device in [device for device, owner in self.owners.items() if owner is peer]:
            lost.append((device, self._receivers(peer, "delProperty", device, None, False)))
            self._release(device)
        self.offers[peer].clear()
        if peer.kind is Kind.REMOTE:
            self.peers[peer].clear()
        if gone:
            del self.peers[peer]
            del self.offers[peer]
            self.links.discard(peer)
        return lost

    def _release(self, device: str) -> None:
        del self.owners[device]
        for offers in self.offers.values():
            offers.pop(device, None)

    def _settle(self, peer: Peer, devices: Iterable[str]) -> None:
        """A peer no longer offers devices; of what was deleted meanwhile, it has not been told."""
        for device in devices:
            outdated = self.offers[peer].pop(device, False)
            hears = self.peers[peer].touches(device) and self.owners.get(device) not in peer.ring_links
            if outdated and hears and peer.kind is not Kind.DRIVER:
                self.withdrawn.append(device)

    # Messages

    def hear(self, peer: Peer, message: Routable, frame: bool) -> Verdict | None:
        """Take a message; return what becomes of it if it is one about a device by somebody who speaks for it."""
        self.withdrawn = []
        tag, device, name = message.tag, message.device or None, message.name or None
        if tag == "getProperties":
            self._asked(peer, message, device, name)
        elif tag == "enableBLOB":
            self._enabled(peer, device, name, message.element().text)
        elif device is None and tag == "message":
            self._told_everybody(peer)
        elif device is not None:
            if tag.startswith(("def", "set")) and name is not None:
                return self._produced(peer, message, device, name, frame)
            if tag == "delProperty":
                return self._deleted(peer, device, message.name)
            if tag == "message":
                owner = self.owners.get(device)
                accepted = owner is peer or (owner is None and peer.kind is Kind.DRIVER)
                if not accepted:
                    self.refused[NOT_THE_OWNER] += 1
                return self._verdict(accepted, peer, tag, device, None, False)
        return None

    def _told_everybody(self, peer: Peer) -> None:
        """Only servers say something that belongs to no device."""
        if peer.kind is Kind.CLIENT:
            if self.accept_links:
                self.links.add(peer)
            else:
                self.refused[NOT_THE_OWNER] += 1

    def _asked(self, peer: Peer, message: Routable, device: str | None, name: str | None) -> None:
        if device is not None and device.startswith(LINK_DEVICE):
            device = name = None
            self.links.add(peer)
        self.peers[peer].add(Wish("getProperties", device, name if device is not None else None))
        if device is None:
            self._settle(peer, list(self.offers[peer]))
            return
        if self.owners.get(device) is peer and peer.kind is not Kind.DRIVER and "via" in message.element().attrs:
            self._release(device)  # it has lost what we have from it
            return
        self._settle(peer, [device])

    def _enabled(self, peer: Peer, device: str | None, name: str | None, policy: str) -> None:
        if device is None or policy not in ("Never", "Also", "Only"):
            return
        if peer.kind is Kind.DRIVER and not self._snoops(peer, device, name):
            return
        self.peers[peer].add(Wish("enableBLOB", device, name, policy))

    def _snoops(self, peer: Peer, device: str, name: str | None) -> bool:
        return self.peers[peer].covers(device, name)

    def _produced(self, peer: Peer, message: Routable, device: str, name: str, frame: bool) -> Verdict:
        defines = message.tag.startswith("def")
        owner = self.owners.get(device)
        if owner not in (None, peer) or (
            owner is None
            and peer.kind is Kind.CLIENT
            and not self._may_own(peer, message, device, defines)
            and not (defines and self._was_here(peer, message))
        ):
            self.refused[NOT_THE_OWNER] += 1
        if owner is None and self._may_own(peer, message, device, defines):
            owner = self.owners[device] = peer
            if peer.kind is Kind.CLIENT:
                self.links.add(peer)
        elif owner not in (None, peer) and defines and (peer.kind is not Kind.CLIENT or self.accept_links):
            self.offers[peer].setdefault(device, False)
            if peer.kind is not Kind.DRIVER:
                self.links.add(peer)
        accepted = owner is peer and not (frame and peer in self.links and not peer.blob_enable)
        if defines and self._was_here(peer, message):
            accepted = False
        return self._verdict(accepted, peer, message.tag, device, name, frame)

    def _was_here(self, peer: Peer, message: Routable) -> bool:
        """Whether a definition has come by this server before."""
        return peer.kind is not Kind.DRIVER and self.identity in message.element().attrs.get("via", "").split()

    def _may_own(self, peer: Peer, message: Routable, device: str, defines: bool) -> bool:
        if peer.kind is Kind.DRIVER:
            return True
        if not defines or self._was_here(peer, message):
            return False
        if peer.kind is Kind.CLIENT:
            return self.accept_links
        return peer.limit_to in (None, device)

    def _deleted(self, peer: Peer, device: str, name: str | None) -> Verdict:
        owner = self.owners.get(device)
        if owner is not peer and (owner is not None or peer.kind is Kind.CLIENT):
            self.refused[NOT_THE_OWNER] += 1
        verdict = self._verdict(owner is peer, peer, "delProperty", device, name, False)
        if name is None:
            if owner is peer:
                self._release(device)
            elif owner is not None:
                self._settle(peer, [device])  # it is told of ours from now on
        elif owner is peer:
            for offers in self.offers.values():
                if device in offers:
                    offers[device] = True
        return verdict

    def command(self, peer: Peer, message: Routable) -> Peer | None:
        """Return who is to be told a command, None if nobody is."""
        device, name = message.device, message.name
        owner = self.owners.get(device or "")
        if owner is None:
            self.refused["unknown device"] += 1
        if not device or not name or owner is None or owner is peer or owner in peer.ring_links:
            return None
        if owner in self.links and message.blob and not owner.blob_enable:
            return None
        if peer.kind is not Kind.DRIVER and not self.peers[peer].covers(device, name):
            self.peers[peer].add(Wish("new", device, name))
        return owner

    # Receivers

    def _verdict(self, accepted: bool, peer: Peer, tag: str, device: str, name: str | None, frame: bool) -> Verdict:
        return Verdict(accepted, self._receivers(peer, tag, device, name, frame) if accepted else [])

    def _receivers(self, speaker: Peer, tag: str, device: str, name: str | None, frame: bool) -> list[Peer]:
        return [
            peer
            for peer, wishes in self.peers.items()
            if peer is not speaker
            and not (peer.kind is not Kind.DRIVER and device in self.offers[peer])
            and speaker not in peer.ring_links
            and wishes.want(tag, device, name, frame)
        ]

    def wanted(self, device: str, name: str, but: Peer | None = None) -> Iterable[Peer]:
        """Return those who want the BLOBs of a property."""
        return [
            peer
            for peer, wishes in self.peers.items()
            if peer is not but
            and but not in peer.ring_links
            and wishes.content(device, name)
            and not (peer.kind is not Kind.DRIVER and device in self.offers[peer])
        ]
