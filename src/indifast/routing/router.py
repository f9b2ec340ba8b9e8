"""The router: takes messages from peers and puts them into the queues of those that should get them.

The router knows neither sockets nor clocks. Its decisions appear in the outboxes of its peers (`Peer.outbox`); its
listener is told everything else. What the decisions depend on is kept in other modules: owners of devices
(`ownership`), interests and BLOB policies (`interest`, held by `peer`), demand for BLOBs (`demand`), requests for
definitions (`asking`), rings (`rings`), clients that have to wait for drivers (`room`), and known routes (`routes`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from indifast.protocol import wire
from indifast.protocol.complaints import Complaints
from indifast.protocol.escape import for_log
from indifast.protocol.message import Routable
from indifast.protocol.selection import selected, speaker
from indifast.protocol.via import via_of, with_via
from indifast.protocol.vocabulary import BLOB_POLICIES, DEF_VECTORS, NEW_VECTORS, SET_VECTORS
from indifast.routing.asking import Asking
from indifast.routing.clientqueue import Outbox
from indifast.routing.demand import Demands
from indifast.routing.frames import Property
from indifast.routing.interest import MAX_ENTRIES
from indifast.routing.link import Demand
from indifast.routing.ownership import Ownership
from indifast.routing.peer import Append, Kind, Pace, Peer, Peers
from indifast.routing.queuelistener import NOBODY, Loss, QueueListener
from indifast.routing.refusals import Refusals
from indifast.routing.rings import PROBE_INTERVAL, RING_CHECK, Rings, is_libindi_server
from indifast.routing.room import Room
from indifast.routing.routerlistener import RouterListener
from indifast.routing.routes import Routes
from indifast.routing.tap import Tap, TapFunction

logger = logging.getLogger(__name__)

CLIENT, DRIVER, REMOTE = Kind  # plain names are found faster than the attributes of an enum


class _Hearers(NamedTuple):
    """Who gets the definitions of a device from a peer, as long as `Peers.version` stays the same."""

    peer: Peer
    device: str
    version: int
    receivers: Sequence[tuple[Peer, Append]]


class Router:
    """Takes messages from peers and decides who gets them.

    Args:
        listener: Receives the decisions that are not messages to peers; None for no listener.
        accept_links: Whether peers that connect to us may own devices, as a link between servers works both ways.
        tap: Called with every message that is sent to a peer.
    """

    def __init__(
        self, listener: RouterListener | None = None, *, accept_links: bool = True, tap: TapFunction | None = None
    ) -> None:
        self.listener = listener or RouterListener()
        self.peers = Peers()
        self._tap = tap
        self._complaints = Complaints(logger)
        refusals = Refusals(self._complaints)
        self._refuse = refusals.refuse
        self.refused = refusals.counts
        """Messages that were refused, by reason."""
        self._ownership = Ownership(self.peers, accept_links=accept_links)
        self.owners = self._ownership.owners
        """The owner of each device, which speaks for it."""
        self._demands = Demands(self.peers, self.owners)
        self._rings = Rings(self.peers, self.listener.on_held)
        self._id = self._rings.id
        self.asking = Asking(self.peers, self.owners, self.listener.on_held, self._id)
        """Requests for definitions."""
        self.room = Room(self.listener)
        """Peers that wait for drivers."""
        self._routes = Routes(self.peers)
        self.outrun = self._routes.outrun
        """Function that returns whether all readers of a producer's small messages are far behind."""
        self._last_hearers: _Hearers | None = None
        self._dirty: dict[Peer, None] = {}
        self._unasked: dict[Peer, None] = {}  # new drivers, as long as no peer has asked for anything
        self._handlers: dict[str, Callable[[Peer, Routable, float], None]] = {
            "getProperties": self._get_properties,
            "enableBLOB": self._enable_blob,
            "message": self._message,
            "delProperty": self._del_property,
            "pingRequest": self._ping,
            "pingReply": lambda peer, message, now: None,
        }
        self._handlers |= dict.fromkeys(DEF_VECTORS, self._definition)
        self._handlers |= dict.fromkeys(SET_VECTORS, self._update)
        self._handlers |= dict.fromkeys(NEW_VECTORS, self._command)

    # -- Peers

    def attach(self, peer: Peer) -> None:
        """Add a peer. Nothing is sent to it yet."""
        self.peers.add(peer)
        if self._tap is not None:
            peer.inlet = Tap(peer, self._tap)
        peer.outbox.listener = listener = _PeerListener(self, peer)
        if peer.outbox.pending:
            listener.on_pending()

    def detach(self, peer: Peer, now: float) -> None:
        """Remove a peer that is gone for good. Its devices vanish with it."""
        if peer not in self.peers:
            return
        self.peers.remove(peer)
        peer.interests.clear()
        peer.blobs.clear()
        self.lose(peer, now)
        self._dirty.pop(peer, None)
        peer.outbox.listener = NOBODY  # routes may refer to the outbox for a while

    def lose(self, peer: Peer, now: float) -> None:
        """Handle a driver or link that is gone but may come back.

        Its devices vanish. What a driver snoops on is remembered.
        """
        for device in list(peer.devices):
            self._announce(peer, wire.del_property(device), now)
            self._release(peer, device, now)
        for message in peer.outbox.waiting():
            if peer.counts(message):
                peer.told[(message.device, message.name)] -= 1
        peer.outbox.clear()
        peer.conflicts.clear()
        peer.told_conflicts.clear()
        peer.blob_names.clear()
        peer.asked_blobs.clear()
        self.asking.forget(peer)
        self._unasked.pop(peer, None)
        self._routes.forget(peer)
        self._last_hearers = None
        self._rings.forget(peer)
        peer.last_route = peer.pace = peer.awaited = None
        self.room.forget(peer)
        if peer.kind is REMOTE:
            peer.interests.clear()
            peer.blobs.clear()
        self.peers.changed()
        self._demands.update_all(now)

    def start(self, peer: Peer, now: float) -> None:
        """Ask a driver or link that has appeared or returned for its devices, and tell a link about ours."""
        if peer.kind is REMOTE:
            peer.inlet.append(wire.get_properties(peer.limit_to, via=self._id), now)
            if peer.limit_to is None:
                self._widen(peer, None, None, now)
                self._ask_everybody(peer, now)
        else:
            self.asking.ask(peer, None, None, now)

    def claim(self, peer: Peer, device: str) -> bool:
        """Make a peer the owner of a device before it is defined; return False if another peer owns it."""
        return self._ownership.claim(peer, device)

    def take_dirty(self) -> list[Peer]:
        """Return the peers for which something new was queued since the last call."""
        dirty, self._dirty = self._dirty, {}
        return list(dirty)

    def introduce(self, driver: Peer, now: float) -> None:
        """Ask a new driver for its devices, which it does not define unasked, as soon as any peer has asked."""
        if any(peer is not driver and peer.interests for peer in self.peers):
            self.asking.ask(driver, None, None, now)
        else:
            self._unasked[driver] = None

    @property
    def held_for(self) -> float:
        """Seconds after which to call `send_held`. See `RouterListener.on_held`."""
        return self.asking.interval or PROBE_INTERVAL

    def send_held(self, now: float) -> bool:
        """Send the held messages that are due; return whether there are more, which need another call."""
        asks, checks = self.asking.ask_held(now), self._rings.check_held(now)
        return asks or checks

    def mark_dirty(self, peer: Peer) -> None:
        """Note that a peer has something to be sent after it had nothing."""
        first = not self._dirty
        self._dirty[peer] = None
        if first:
            self.listener.on_dirty()

    # -- Messages and questions of the server itself

    def tell(self, peer: Peer, message: Routable, now: float) -> None:
        """Send one peer a message without a device from the server, which recognizes it if a link brings it back."""
        if peer.link:
            self._rings.remember(message, now)
        peer.inlet.append(message, now)

    def tell_clients(self, text: str, now: float, timestamp: str | None = None) -> None:
        """Send all clients a message from the server itself."""
        self._to_clients(wire.message(text, timestamp), now)

    def demand(self, device: str, name: str) -> Demand:
        """Return which forms of a BLOB are wanted now."""
        return self._demands.of(device, name)

    def traffic(self) -> Counter[Property]:
        """Return how many updates without BLOB content were passed on, by property. Brings `Peer.told` up to date."""
        return self._routes.traffic()

    # -- Messages

    def receive(self, peer: Peer, message: Routable, now: float) -> None:
        """Take one message from a peer."""
        peer.received += 1
        tag = message.tag
        route = peer.routes.get((tag, message.device, message.name))
        if route is not None and route.version == self.peers.version and not message.blob:
            route.count += 1
            peer.last_route = route
            for append in route.appends:
                append(message, now)
            return
        handler = self._handlers.get(tag)
        if handler is not None:
            handler(peer, message, now)

    def _get_properties(self, peer: Peer, message: Routable, now: float) -> None:
        device, name = selected(message)
        if peer.kind is CLIENT and not peer.interests and is_libindi_server(message, device):
            peer.libindi_server = True
        if device is not None and device.startswith("*"):
            device = name = None
            peer.link = peer.link or peer.kind is CLIENT
        elif peer.kind is CLIENT and not peer.knows_via:
            peer.knows_via = bool(via_of(message))
        known = peer.interests.everything or (device is not None and peer.interests.exactly(device, name))
        if not self._widen(peer, device, name, now):
            return
        if peer.kind is DRIVER and not known:
            self._complaints.say(logging.INFO, now, "%s: snooping on %s.%s", peer.label, for_log(device), for_log(name))
        owner = None if device is None else self.owners.get(device)
        if device is not None and owner is peer and peer.kind is not DRIVER and via_of(message):
            self._lost_by_owner(peer, device, now)
            return
        if self._settle(peer, device, now):
            name = None
        if device is None:
            self._ask_everybody(peer, now)
            return
        if owner is not None:
            if owner is not peer and owner not in peer.ring_links:
                self.asking.ask(owner, device, name, now)
            return
        self._ask_unasked(peer, now)
        if peer.kind is DRIVER:
            for client in self.peers.clients:
                if client.libindi_server:
                    client.inlet.append(wire.get_properties(device, name), now)

    def _widen(self, peer: Peer, device: str | None, name: str | None, now: float) -> bool:
        """Remember what a peer wants to hear; return False if it has asked for too much."""
        if not peer.interests.add(device, name):
            self._refuse(peer, "too many interests", None, f"more than {MAX_ENTRIES} devices and properties", now)
            return False
        self.peers.changed()
        return True

    def _ask_everybody(self, peer: Peer, now: float) -> None:
        """Ask all drivers and links for what they have, because a peer wants to hear of everything."""
        for driver in [driver for driver in self._unasked if driver is not peer]:
            del self._unasked[driver]
        self.asking.ask_everybody(peer, now)

    def _ask_unasked(self, peer: Peer, now: float) -> None:
        """Ask the drivers that have not been asked yet: the device that a peer asks for may be theirs."""
        for driver in [driver for driver in self._unasked if driver is not peer]:
            del self._unasked[driver]
            self.asking.ask(driver, None, None, now)

    def _enable_blob(self, peer: Peer, message: Routable, now: float) -> None:
        device, name = selected(message)
        if device is None:
            self._refuse(peer, "no device or name", None, "an enableBLOB without a device", now)
            return
        if peer.kind is DRIVER:
            if not peer.interests.exactly(device, name) and not peer.interests.everything:
                return  # not something that it snoops on; libindi does the same
        elif not self._widen(peer, device, name, now):
            return
        policy = message.element().text
        if policy not in BLOB_POLICIES:
            given = f"an enableBLOB for {for_log(device)} with '{for_log(policy, 40)}'"
            text = f"{given}, not one of {', '.join(BLOB_POLICIES)}"
            self._refuse(peer, "unknown BLOB policy", device, text, now)
            return
        if not peer.blobs.set(device, name, policy):
            self._refuse(peer, "too many interests", None, f"more than {MAX_ENTRIES} enableBLOB settings", now)
            return
        self.peers.changed()
        self._demands.update(device, name, now)

    def _definition(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device or not message.name:
            self._refuse(peer, "no device or name", None, f"a {message.tag} without a device or name", now)
            return
        via = via_of(message) if peer.kind is not DRIVER else ()
        if self._id in via and self.owners.get(device) in (None, peer):
            self.refused["circulating definition"] += 1  # the link has the device only from us, and we have lost it
            return
        if not self._own(peer, device, now, defined=True):
            if message.tag == "defBLOBVector":
                self._demands.contested(peer, device, message.name, now)
            return
        peer.requests.defined += 1
        self._announce_definition(peer, message, via, now)
        if message.tag == "defBLOBVector" and peer.kind is not DRIVER:
            self._demands.defined(peer, device, message.name, now)
        if peer.kind is not DRIVER:
            self._rings.check(now)

    def _update(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device or not message.name:
            self._refuse(peer, "no device or name", None, f"a {message.tag} without a device or name", now)
            return
        if not self._own(peer, device, now, defined=False):
            return
        if message.blob:
            self._frame(peer, message, now)
            return
        route = self._routes.renew(peer, message, self._receivers(peer, message))
        route.count += 1
        peer.last_route = route
        for append in route.appends:
            append(message, now)

    def _frame(self, peer: Peer, message: Routable, now: float) -> None:
        """Route a set with BLOB content, whose readers set the pace of its producer."""
        if peer.link and not peer.blob_enable:
            self._refuse(peer, "BLOB not enabled", message.device, "a BLOB over a link without blob_enable", now)
            return
        pace: Pace | None = None
        begin: Callable[[], None] | None = None
        for reader, append in self._routes.of_frame(peer, message, self._receivers):
            if reader.kind is DRIVER:
                append(message, now)
                reader.note((message.device, message.name))
                continue
            if pace is None:
                pace = Pace(message.size, peer.pace)
                begin = pace.begin
            if pace.large:
                assert isinstance(reader.outbox, Outbox)
                pace.add(reader.outbox)
            append(message, now, begin)
        if pace is not None:
            if peer.pace is not None:
                peer.pace.before = None  # two are enough
            peer.awaited, peer.pace = pace if pace.large else peer.pace, pace

    def _message(self, peer: Peer, message: Routable, now: float) -> None:
        device = speaker(message)
        if device is not None:
            owner = self.owners.get(device)
            if owner is peer or (owner is None and peer.kind is DRIVER):
                self._announce(peer, message, now)
            else:
                text = f"a message from {for_log(device)}, which is not its device"
                self._refuse(peer, "not the owner", device, text, now)
            return
        if peer.kind is CLIENT and not self._ownership.accept_links:
            self._refuse(peer, "not the owner", None, "a message without a device, but links are not accepted", now)
            return
        if message.device is not None:  # it is empty, which not every client understands as absent
            attrs = message.element().attrs
            message = wire.message(attrs.get("message"), attrs.get("timestamp"))
        if not self._rings.is_new(peer, message, now):
            self.refused["circulating message"] += 1
            return
        if peer.kind is CLIENT:
            peer.link = True
        self._to_clients(message, now, source=peer)
        for driver in self.peers.drivers:
            if driver is not peer and driver.interests.everything:
                driver.inlet.append_replaceable(message, now)

    def _to_clients(self, message: Routable, now: float, source: Peer | None = None) -> None:
        """Send a message without a device to all clients, but not from one link to another."""
        linked = source is not None and source.link
        for client in self.peers.clients:
            if client is not source and not (linked and client.link):
                client.inlet.append(message, now)

    def _del_property(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device:
            self._refuse(peer, "no device or name", None, "a delProperty without a device", now)
            return
        if device == RING_CHECK:
            self._ring_check(peer, message, now)
            return
        owner = self.owners.get(device)
        if owner is not peer:
            if owner is None and peer.kind is not CLIENT:
                return  # already gone
            text = f"a delProperty for {for_log(device)}, which is not its device"
            self._refuse(peer, "not the owner", device, text, now)
            if owner is not None and message.name is None and device in peer.conflicts:
                self._offer_ended(peer, owner, device, now)
            return
        self._announce(peer, message, now)
        if message.name is None:
            self._release(peer, device, now)
        else:
            self._ownership.withhold(device)
            self._demands.deleted(peer, device, message.name)

    def _ring_check(self, peer: Peer, message: Routable, now: float) -> None:
        origin = self._rings.arrived(peer, message, now)
        if origin is not None:
            self._demands.update_all(now)
            text = f"{peer.label} leads back to {origin.label}: devices behind the former are not shown to the latter"
            logger.warning("%s", text)
            self.tell_clients(text, now)

    def _command(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device or not message.name:
            self._refuse(peer, "no device or name", None, f"a {message.tag} without a device or name", now)
            return
        owner = self.owners.get(device)
        if owner is peer or owner in peer.ring_links:
            return  # a libindi server echoes the commands of its other clients
        if owner is None:
            text = f"a command for {for_log(device)}, which is not here"
            self._refuse(peer, "unknown device", device, text, now, tell=True)
            return
        if owner.link and message.blob and not owner.blob_enable:
            text = f"a BLOB for {for_log(device)}, which is behind a link without blob_enable"
            self._refuse(peer, "BLOB not enabled", device, text, now, tell=True)
            return
        if peer.kind is not DRIVER and not peer.interests.wants(device, message.name):
            self._widen(peer, device, message.name, now)  # a peer that commands a property hears of the result
        owner.inlet.append(message, now)
        if owner.counts(message):
            owner.note((device, message.name))
        if peer.kind is not DRIVER and owner.outbox.full:
            self.room.wait(peer, owner)

    def _ping(self, peer: Peer, message: Routable, now: float) -> None:
        peer.inlet.expedite(wire.ping_reply(message.element().attrs.get("uid", "")), now)

    # -- Owners

    def _own(self, peer: Peer, device: str, now: float, *, defined: bool) -> bool:
        """Return whether a peer may speak for a device. The first that defines the device owns it."""
        owner = self.owners.get(device)
        if owner is peer:
            return True
        if owner is None:
            refusal = self._ownership.obtain(peer, device, defined=defined)
            if refusal is None:
                return True
            self._refuse(peer, *refusal, now)
            return False
        text = f"something about {for_log(device)}, which belongs to {owner.label}"
        self._refuse(peer, "not the owner", device, text, now)
        if defined and self._ownership.contest(peer, device):
            text = f"{peer.label} offers {for_log(device)}, which {owner.label} has already: ignored there"
            self.tell_clients(text, now)
        return False

    def _release(self, peer: Peer, device: str, now: float) -> None:
        """Take a device from its owner, and ask the other peers that offered it.

        The request tells a server that we have lost the device, so it must not wait until the device is here again.
        """
        for other in self._ownership.release(peer, device):
            self.asking.ask_at_once(other, device, None, now)

    def _settle(self, peer: Peer, device: str | None, now: float) -> bool:
        """End conflicts, as `Ownership.settle` does.

        Returns:
            Whether the peer was told that devices are gone, because what it knows of them may be out of date. All that
            is still there is to be defined anew.
        """
        gone = [each for each in self._ownership.settle(peer, device) if self._may_hear(peer, each)]
        for each in gone:
            peer.inlet.append(wire.del_property(each), now)
            peer.note((each, None))
        return bool(gone)

    def _may_hear(self, peer: Peer, device: str) -> bool:
        """Return whether a client or link is told of another peer's device, unless it is cut for the device."""
        owner = self.owners.get(device)
        return peer.kind is not DRIVER and owner not in peer.ring_links and peer.interests.touches(device)

    def _lost_by_owner(self, peer: Peer, device: str, now: float) -> None:
        """Remove a device that a server asks us for although we have it from that server.

        The server no longer has the device, so what it said before is out of date. This happens if it had cut the link
        for the device: then no deletion tells us that the device is gone.
        """
        self._announce(peer, wire.del_property(device), now)
        self._release(peer, device, now)

    def _offer_ended(self, peer: Peer, owner: Peer, device: str, now: float) -> None:
        """Tell a link about the device of an owner, after it has lost the one that it offered itself.

        The link may not know that we have the device, and then won't ask: if its own offer came first, we never made
        ours.
        """
        self._settle(peer, device, now)
        if self._may_hear(peer, device):
            self.asking.ask(owner, device, None, now)

    # -- Receivers

    def _receivers(self, peer: Peer, message: Routable) -> Iterator[tuple[Peer, Append]]:
        """Yield the peers that are to get a message about a device of `peer`, and how to queue it for each."""
        device = message.device
        assert device is not None
        for others in (self.peers.clients, self.peers.remotes):
            for other in others:
                if other is peer or device in other.conflicts or peer in other.ring_links:
                    continue
                if other.wants(message):
                    yield other, other.inlet.append
        for driver in self.peers.drivers:
            if driver is not peer and driver.wants(message):
                yield driver, driver.inlet.append_replaceable

    def _announce(self, peer: Peer, message: Routable, now: float) -> None:
        """Send a message about a device to all who want it, without a route, because such messages are rare."""
        about = (message.device, message.name)
        for other, append in self._receivers(peer, message):
            append(message, now)
            other.note(about)

    def _announce_definition(self, peer: Peer, message: Routable, via: Sequence[str], now: float) -> None:
        """Send a definition to all who want it. Only servers are told which servers it has passed."""
        about = (message.device, message.name)
        plain = with_via(message, ()) if via else message
        onward: Routable | None = None
        for other, append in self._hearers(peer, message):
            if other.link or other.knows_via:
                if onward is None:
                    onward = with_via(message, (*via, self._id))
                append(onward, now)
            else:
                append(plain, now)
            other.note(about)

    def _hearers(self, peer: Peer, message: Routable) -> Sequence[tuple[Peer, Append]]:
        """Return the receivers of a definition. They are remembered, as it usually comes with others of its device."""
        device, version = message.device, self.peers.version
        assert device is not None
        last = self._last_hearers
        if last is not None and last.peer is peer and last.device == device and last.version == version:
            return last.receivers
        receivers = list(self._receivers(peer, message))
        by_name = any(other.interests.only_parts(device) for other in self.peers)
        self._last_hearers = None if by_name else _Hearers(peer, device, version, receivers)
        return receivers

    # -- Refusals

    def refuse(self, peer: Peer, reason: str, device: str | None, text: str, now: float) -> None:
        """Count and log a message that was refused before it came here, and tell the peer if it is a client.

        See `Refusals.refuse`.
        """
        self._refuse(peer, reason, device, text, now, tell=peer.kind is CLIENT)


class _PeerListener(QueueListener):
    """Listens to the queue of one peer, for the router and its listener."""

    def __init__(self, router: Router, peer: Peer) -> None:
        self._router = router
        self._peer = peer

    def on_pending(self) -> None:
        self._router.mark_dirty(self._peer)

    def on_room(self) -> None:
        self._router.room.found(self._peer)

    def on_lost(self, message: Routable, how: Loss) -> None:
        self._router.listener.on_lost(self._peer, message, how)

    def on_overflow(self) -> None:
        self._router.listener.on_overflow(self._peer)
