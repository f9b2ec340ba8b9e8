"""Who gets what: devices and their owners, interests, BLOB policies, snoops, links between servers.

The router takes messages from peers and puts them into the outboxes of other peers. It knows no socket and no clock.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

from indifast.protocol import wire
from indifast.protocol.complaints import Complaints
from indifast.protocol.message import Routable
from indifast.protocol.selection import selected, speaker
from indifast.protocol.shown import shown
from indifast.protocol.via import via_of, with_via
from indifast.protocol.vocabulary import ALSO, BLOB_POLICIES, DEF_VECTORS, NEVER, NEW_VECTORS, SET_VECTORS
from indifast.routing.link import Demand
from indifast.routing.outbox import DriverOutbox, Outbox, Property
from indifast.routing.peer import MAX_LOGGED, Kind, Pace, Peer, Route, RouteKey

logger = logging.getLogger(__name__)

RING_CHECK = "indifast ring check"
"""The device of the deletions by which a server finds out whether what it tells a libindi server comes back to it."""

MAX_DEVICES = 10_000
"""Devices that one peer may own."""

ASK_BURST = 10
"""Requests for definitions that are passed on to a driver or link at once, however many clients there are."""

ASK_INTERVAL = 20e-6
"""Seconds between those beyond, per client and definition of the answer: it goes to everybody, so the answers to a
crowd cost its square."""

_MAX_HELD = 100  # requests held back for one driver or link before one for everything, or its device, stands for them
_FORGETTING = 0.9  # of how long an answer was, with each later one that is shorter
_MAX_ROUTES = 20_000  # kinds of message remembered per peer
_RECENT = 256  # messages without device remembered, so that none circulates
_RECENT_SECONDS = 60.0
_PROBE_INTERVAL = 0.5  # seconds between ring checks of one libindi server
_SMALL_BACKLOG = 1 << 20  # bytes of messages without BLOBs at which a reader counts as outrun
_REPLY_BACKLOG = 1 << 20  # bytes at which a peer gets no more refusals in writing


class Router:
    """Takes messages from peers, decides who gets them.

    `accept_links` lets those who connect to us own devices (a link between servers works in both directions).
    `on_pause` and `on_resume` are told which peers should not be read for a while, because a driver has no room for
    their commands.
    """

    def __init__(
        self,
        *,
        accept_links: bool = True,
        on_pause: Callable[[Peer], None] = lambda peer: None,
        on_resume: Callable[[Peer], None] = lambda peer: None,
        on_dirty: Callable[[], None] | None = None,
    ) -> None:
        self.accept_links = accept_links
        self.on_pause = on_pause
        self.on_resume = on_resume
        self.on_dirty = on_dirty
        """Called when a peer has something new after none had."""
        self.on_held: Callable[[], None] | None = None
        """Called when a request for definitions is held back: `ask_held` is to be called after `ask_interval`."""
        self.owners: dict[str, Peer] = {}
        self.peers: dict[Peer, None] = {}
        self.refused: Counter[str] = Counter()
        """Messages that were not obeyed, by reason."""
        self._complaints = Complaints(logger)
        self._clients: dict[Peer, None] = {}
        self._drivers: dict[Peer, None] = {}
        self._remotes: dict[Peer, None] = {}
        self._dirty: dict[Peer, None] = {}
        self._held: dict[Peer, None] = {}
        self._version = 0
        self._demand: dict[tuple[str, str], Demand] = {}
        self._demand_version = -1
        self._passed: Counter[Property] = Counter()
        self._id = os.urandom(6).hex()  # `secrets` takes longer to import than the rest of the router
        """The name of this server in `via`."""
        self._probes: OrderedDict[str, Peer | None] = OrderedDict()
        self._recent: OrderedDict[tuple[str | None, str | None], float] = OrderedDict()
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

    # -- peers

    def attach(self, peer: Peer) -> None:
        """A new peer; it is told nothing yet."""
        self.peers[peer] = None
        self._side(peer)[peer] = None
        peer.outbox.on_pending = lambda: self._mark_dirty(peer)
        peer.outbox.on_room = lambda: self._room(peer)
        if peer.outbox.pending:
            self._mark_dirty(peer)
        self._version += 1

    def detach(self, peer: Peer, now: float) -> None:
        """A peer is gone for good: its devices vanish with it."""
        if peer not in self.peers:
            return
        del self.peers[peer]
        del self._side(peer)[peer]
        peer.interests.clear()
        peer.blobs.clear()
        self.lose(peer, now)
        self._dirty.pop(peer, None)
        peer.outbox.on_pending = peer.outbox.on_room = None

    def lose(self, peer: Peer, now: float) -> None:
        """A driver or link is gone but may come back: its devices vanish, what it snoops on is remembered."""
        for device in list(peer.devices):
            self._announce(peer, wire.del_property(device), now)
            self._release(peer, device, now)
        for message in peer.outbox.waiting():
            if message.tag != "getProperties" and not (message.blob and isinstance(peer.outbox, Outbox)):
                peer.told[(message.device, message.name)] -= 1
        peer.outbox.clear()
        peer.conflicts.clear()
        peer.told_conflicts.clear()
        peer.blob_names.clear()
        peer.asked_blobs.clear()
        peer.held_asks.clear()
        self._held.pop(peer, None)
        self._forget_routes(peer)
        peer.last_route = peer.pace = peer.pace_before = None
        for driver in list(peer.waits_for):
            driver.waiters.discard(peer)
        peer.waits_for.clear()
        self._room(peer)
        for other in self._clients:
            other.rings.discard(peer)
        if peer.kind is Kind.REMOTE:
            peer.interests.clear()
            peer.blobs.clear()
        self._version += 1
        self._update_all_demand(now)

    def start(self, peer: Peer, now: float) -> None:
        """A driver or link is there (again): ask for its devices, and tell a link of ours."""
        if peer.kind is Kind.REMOTE:
            peer.outbox.append(wire.get_properties(peer.limit_to, via=self._id), now)
            if peer.limit_to is None:
                self._widen(peer, None, None, now)
                self._ask_everybody(peer, now)
        else:
            self._ask(peer, None, None, now)

    def claim(self, peer: Peer, device: str) -> bool:
        """Make a peer the owner of a device, from before its definition on. False when somebody else has it.

        Nobody owns the device without a name: what is said of it is refused.
        """
        if not device:
            return False
        owner = self.owners.setdefault(device, peer)
        if owner is peer:
            peer.devices[device] = None
            self._version += 1
        return owner is peer

    def take_dirty(self) -> list[Peer]:
        """The peers that have had something new to be told since the last call."""
        dirty = list(self._dirty)
        self._dirty.clear()
        return dirty

    def demand(self, device: str, name: str) -> Demand:
        """Which forms of a BLOB anybody wants now."""
        if self._demand_version != self._version:
            self._demand.clear()
            self._demand_version = self._version
        key = (device, name)
        demand = self._demand.get(key)
        if demand is None:
            if len(self._demand) >= _MAX_ROUTES:
                self._demand.clear()
            inline = attached = False
            owner = self.owners.get(device)
            for peer in self.peers:
                if peer is not owner and peer.wants_content(device, name):
                    attached = attached or peer.outbox.attached
                    inline = inline or not peer.outbox.attached
            demand = self._demand[key] = Demand(inline, attached)
        return demand

    def tell_clients(self, text: str, now: float, timestamp: str | None = None) -> None:
        """A message from the server itself to everybody who is connected."""
        self._to_clients(wire.message(text, timestamp), now)

    def tell_link(self, peer: Peer, message: Routable, now: float) -> None:
        """A message without device from the server itself to one that it is linked to; known, should it come back."""
        self._remember(message, now)
        peer.outbox.append(message, now)

    def traffic(self) -> Counter[Property]:
        """How many updates without BLOB content were passed on, by device and name. Brings `Peer.told` up to date."""
        for peer in self.peers:
            for key, route in peer.routes.items():
                self._add_up(key, route)
        return self._passed.copy()

    def _add_up(self, key: RouteKey, route: Route) -> None:
        """Count what went along a route for those who received it: once in a while instead of for each message."""
        if route.count:
            about = key[1:]
            if about in self._passed or len(self._passed) < _MAX_ROUTES:
                self._passed[about] += route.count
            for receiver in route.receivers:
                receiver.note(about, route.count)
            route.count = 0

    def _forget_routes(self, peer: Peer) -> None:
        for key, route in peer.routes.items():
            self._add_up(key, route)
        peer.routes.clear()

    def outrun(self, peer: Peer) -> bool:
        """All who read this producer's small messages are far behind."""
        route = peer.last_route
        if route is None or route.version != self._version or not route.readers:
            return False
        return all(outbox.small > _SMALL_BACKLOG for outbox in route.readers)

    # -- messages

    def receive(self, peer: Peer, message: Routable, now: float) -> None:
        """One message from a peer."""
        peer.received += 1
        tag = message.tag
        route = peer.routes.get((tag, message.device, message.name))
        if route is not None and route.version == self._version and not message.blob:
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
        if peer.kind is Kind.CLIENT and not peer.interests and _is_libindi_server(message, device):
            peer.chained = True
        if device is not None and device.startswith("*"):
            device = name = None
            peer.link = peer.link or peer.kind is Kind.CLIENT
        elif peer.kind is Kind.CLIENT and not peer.knows_via:
            peer.knows_via = bool(via_of(message))
        known = peer.interests.everything or (device is not None and peer.interests.exactly(device, name))
        if not self._widen(peer, device, name, now):
            return
        if peer.kind is Kind.DRIVER and not known:
            self._complaints.say(logging.INFO, now, "%s: snooping on %s.%s", peer.label, shown(device), shown(name))
        if device is None:
            peer.conflicts.clear()
            self._ask_everybody(peer, now)
            return
        owner = self.owners.get(device)
        if owner is peer and peer.kind is not Kind.DRIVER and via_of(message):
            self._lost_by_owner(peer, device, now)
            return
        if device in peer.conflicts:
            del peer.conflicts[device]
            self._version += 1
        if owner is not None:
            if owner is not peer and owner not in peer.rings:
                self._ask(owner, device, name, now)
        elif peer.kind is Kind.DRIVER:
            for chained in self._clients:
                if chained.chained:
                    chained.outbox.append(wire.get_properties(device, name), now)

    def _widen(self, peer: Peer, device: str | None, name: str | None, now: float) -> bool:
        """Remember what a peer wants to hear; False when it has asked for too much."""
        if not peer.interests.add(device, name):
            self._refuse(peer, "too many interests", None, f"more than {MAX_DEVICES} devices and properties", now)
            return False
        self._version += 1
        return True

    def _ask_everybody(self, asking: Peer, now: float) -> None:
        """Ask all drivers for all they have, and links for each device of theirs that we know."""
        for driver in self._drivers:
            if driver is not asking:
                self._ask(driver, None, None, now)
        for device, owner in list(self.owners.items()):
            if owner.kind is not Kind.DRIVER and owner is not asking and owner not in asking.rings:
                self._ask(owner, device, None, now)

    def _ask(self, owner: Peer, device: str | None, name: str | None, now: float) -> None:
        """Ask for definitions; after many such requests in a short time this one waits, and equal ones with it."""
        if self._may_ask(owner, now):
            self._ask_now(owner, device, name, now)
            return
        held = owner.held_asks
        held[(device, name)] = None
        if len(held) > _MAX_HELD:
            scopes = {(None if owner.kind is Kind.DRIVER else each, None) for each, _ in held}
            held.clear()
            held.update(dict.fromkeys(scopes))
        self._held[owner] = None
        if len(self._held) == 1 and self.on_held is not None:
            self.on_held()

    @property
    def ask_interval(self) -> float:
        """Seconds until the first of those to whom requests are held back may be sent one."""
        return min(map(self._interval, self._held), default=0.0)

    def _interval(self, owner: Peer) -> float:
        """Seconds between requests for definitions to one driver or link while there are many."""
        return ASK_INTERVAL * max(len(self._clients), 10) * owner.answer

    def _may_ask(self, owner: Peer, now: float) -> bool:
        """Take one of the requests that an owner may be sent now, if there is one."""
        owner.asks = min(float(ASK_BURST), owner.asks + max(now - owner.asked, 0.0) / self._interval(owner))
        owner.asked = now
        if owner.asks < 1:
            return False
        owner.asks -= 1
        return True

    def ask_held(self, now: float) -> bool:
        """Send what was held back, as far as it is time; whether there is more."""
        for owner in list(self._held):
            held = owner.held_asks
            while held and self._may_ask(owner, now):
                device, name = next(iter(held))
                if device is None:
                    held.clear()  # one for everything answers them all
                else:
                    del held[(device, name)]
                self._ask_now(owner, device, name, now)
            if not held:
                del self._held[owner]
        return bool(self._held)

    def _ask_now(self, owner: Peer, device: str | None, name: str | None, now: float) -> None:
        if owner.link and device is not None and self.owners.get(device, owner) is not owner:
            return  # it has another owner by now: the link would take us for one who has lost it
        owner.answer = max(float(owner.defined), owner.answer * _FORGETTING, 1.0)
        owner.defined = 0
        request = wire.get_properties(device, name, via=self._id if owner.link else None)
        if isinstance(owner.outbox, DriverOutbox):
            owner.outbox.append_replaceable(request, now)
        else:
            owner.outbox.append(request, now)

    def _enable_blob(self, peer: Peer, message: Routable, now: float) -> None:
        device, name = selected(message)
        if device is None:
            self._refuse(peer, "no device or name", None, "an enableBLOB without device", now)
            return
        if peer.kind is Kind.DRIVER:
            if not peer.interests.exactly(device, name) and not peer.interests.everything:
                return  # nothing that it snoops on (libindi)
        elif not self._widen(peer, device, name, now):
            return
        policy = message.element().text
        if policy not in BLOB_POLICIES:
            text = f"an enableBLOB of {shown(device)} with '{shown(policy, 40)}', not one of {', '.join(BLOB_POLICIES)}"
            self._refuse(peer, "unknown BLOB policy", device, text, now)
            return
        if not peer.blobs.set(device, name, policy):
            self._refuse(peer, "too many interests", None, f"more than {MAX_DEVICES} enableBLOB settings", now)
            return
        self._version += 1
        self._update_demand(device, name, now)

    def _definition(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device or not message.name:
            self._refuse(peer, "no device or name", None, f"a {message.tag} without device or name", now)
            return
        via = via_of(message) if peer.kind is not Kind.DRIVER else ()
        if self._id in via and self.owners.get(device) in (None, peer):
            self.refused["circulating definition"] += 1  # the link has the device from nobody but us, who lost it
            return
        if not self._own(peer, device, now, defined=True):
            return
        peer.defined += 1
        self._announce_definition(peer, message, via, now)
        if message.tag == "defBLOBVector" and peer.kind is not Kind.DRIVER:
            names = peer.blob_names.setdefault(device, set())
            if len(names) < MAX_DEVICES:
                names.add(message.name)
            peer.asked_blobs.discard((device, message.name))  # a new definition knows of no earlier request
            self._update_demand(device, message.name, now)
        if peer.kind is not Kind.DRIVER:
            self._check_rings(now)

    def _update(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device or not message.name:
            self._refuse(peer, "no device or name", None, f"a {message.tag} without device or name", now)
            return
        if not self._own(peer, device, now, defined=False):
            return
        if message.blob:
            self._frame(peer, message, now)
            return
        route = self._route(peer, message)
        route.count += 1
        peer.last_route = route
        for append in route.appends:
            append(message, now)

    def _frame(self, peer: Peer, message: Routable, now: float) -> None:
        """A set with BLOB content; it is kept apart as its readers set the pace of its producer."""
        if peer.link and not peer.blob_enable:
            self._refuse(peer, "BLOB not enabled", message.device, "a BLOB over a link without blob_enable", now)
            return
        pace: Pace | None = None
        for reader, append in self._receivers(peer, message):
            if reader.kind is Kind.DRIVER:
                append(message, now)
                reader.note((message.device, message.name))
                continue
            if pace is None:
                pace = Pace()
            reader.outbox.append(message, now, pace.begin)
        if pace is not None:
            peer.pace_before, peer.pace = peer.pace, pace

    def _message(self, peer: Peer, message: Routable, now: float) -> None:
        device = speaker(message)
        if device is not None:
            owner = self.owners.get(device)
            if owner is peer or (owner is None and peer.kind is Kind.DRIVER):
                self._announce(peer, message, now)
            else:
                self._refuse(
                    peer, "not the owner", device, f"a message of {shown(device)}, which is not its device", now
                )
            return
        if peer.kind is Kind.CLIENT and not self.accept_links:
            self._refuse(peer, "not the owner", None, "a message although links are not accepted", now)
            return
        if message.device is not None:  # an empty one: not every client takes that for none
            attrs = message.element().attrs
            message = wire.message(attrs.get("message"), attrs.get("timestamp"))
        if not self._is_new(peer, message, now):
            return
        if peer.kind is Kind.CLIENT:
            peer.link = True
        self._to_clients(message, now, source=peer)
        for driver in self._drivers:
            if driver is not peer and driver.interests.everything:
                self._replaceable(driver)(message, now)

    def _is_new(self, peer: Peer, message: Routable, now: float) -> bool:
        """False for a message without device that a link brings although it has been here already."""
        seen = self._remember(message, now)
        if peer.kind is Kind.DRIVER or seen is None or now - seen > _RECENT_SECONDS:
            return True
        self.refused["circulating message"] += 1
        return False

    def _remember(self, message: Routable, now: float) -> float | None:
        """Note a message without device; when it was noted before."""
        attrs = message.element().attrs
        key = (attrs.get("timestamp"), attrs.get("message"))
        recent = self._recent
        seen = recent.pop(key, None)
        recent[key] = now
        if len(recent) > _RECENT:
            recent.popitem(last=False)
        return seen

    def _to_clients(self, message: Routable, now: float, source: Peer | None = None) -> None:
        """A message without device: for all clients; what a link brings does not go on to a link."""
        linked = source is not None and source.link
        for client in self._clients:
            if client is not source and not (linked and client.link):
                client.outbox.append(message, now)

    def _del_property(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device:
            self._refuse(peer, "no device or name", None, "a delProperty without device", now)
            return
        if device == RING_CHECK:
            self._ring_check(peer, message, now)
            return
        owner = self.owners.get(device)
        if owner is not peer:
            if owner is None and peer.kind is not Kind.CLIENT:
                return  # gone already
            self._refuse(
                peer, "not the owner", device, f"a delProperty of {shown(device)}, which is not its device", now
            )
            if owner is not None and message.name is None and device in peer.conflicts:
                self._offers_no_more(peer, owner, device, now)
            return
        self._announce(peer, message, now)
        if message.name is None:
            self._release(peer, device, now)
        elif (names := peer.blob_names.get(device)) is not None:
            names.discard(message.name)
            peer.asked_blobs.discard((device, message.name))

    def _command(self, peer: Peer, message: Routable, now: float) -> None:
        device = message.device
        if not device or not message.name:
            self._refuse(peer, "no device or name", None, f"a {message.tag} without device or name", now)
            return
        owner = self.owners.get(device)
        if owner is peer or owner in peer.rings:
            return  # a libindi server echoes the commands of its other clients
        if owner is None:
            text = f"a command for {shown(device)}, which is not here"
            self._refuse(peer, "unknown device", device, text, now, tell=True)
            return
        if owner.link and message.blob and not owner.blob_enable:
            text = f"a BLOB for {shown(device)}, which is behind a link without blob_enable"
            self._refuse(peer, "BLOB not enabled", device, text, now, tell=True)
            return
        if peer.kind is not Kind.DRIVER and not peer.interests.wants(device, message.name):
            self._widen(peer, device, message.name, now)  # who commands a property hears what becomes of it
        owner.outbox.append(message, now)
        if not (message.blob and isinstance(owner.outbox, Outbox)):
            owner.note((device, message.name))
        if peer.kind is not Kind.DRIVER and owner.outbox.full:
            self._wait(peer, owner)

    def _ping(self, peer: Peer, message: Routable, now: float) -> None:
        peer.outbox.expedite(wire.ping_reply(message.element().attrs.get("uid", "")), now)

    # -- owners

    def _own(self, peer: Peer, device: str, now: float, *, defined: bool) -> bool:
        """Whether a peer may speak for a device; the first who defines one owns it."""
        owner = self.owners.get(device)
        if owner is peer:
            return True
        if owner is not None:
            self._conflict(peer, owner, device, now, defined)
            return False
        if peer.kind is Kind.CLIENT and not (self.accept_links and defined):
            self._refuse(peer, "not the owner", device, f"something of {shown(device)}, which is not its device", now)
            return False
        if peer.kind is Kind.REMOTE and not defined:
            self.refused["not yet defined"] += 1
            return False
        if peer.limit_to is not None and peer.limit_to != device:
            self.refused["another device than the link is for"] += 1
            return False
        if len(peer.devices) >= MAX_DEVICES:
            self._refuse(peer, "too many devices", None, f"more than {MAX_DEVICES} devices", now)
            return False
        if peer.kind is Kind.CLIENT:
            peer.link = True
        return self.claim(peer, device)

    def _conflict(self, peer: Peer, owner: Peer, device: str, now: float, defined: bool) -> None:
        """A device has one owner. A link that offers it as well is cut for this device, which ends every ring."""
        self._refuse(
            peer, "not the owner", device, f"something of {shown(device)}, which belongs to {owner.label}", now
        )
        if not defined or device in peer.conflicts:
            return
        if peer.kind is not Kind.DRIVER:
            if peer.kind is Kind.CLIENT and not self.accept_links:
                return
            if len(peer.conflicts) < MAX_DEVICES:
                peer.conflicts[device] = None
            peer.link = True
            self._version += 1
        elif len(peer.conflicts) < MAX_DEVICES:
            peer.conflicts[device] = None
        if device in peer.told_conflicts or len(peer.told_conflicts) >= MAX_DEVICES:
            return
        peer.told_conflicts.add(device)
        self.tell_clients(f"{peer.label} offers {shown(device)}, which {owner.label} has already: ignored there", now)

    def _release(self, peer: Peer, device: str, now: float) -> None:
        """A device has no owner any more; links that offered it as well are asked for it."""
        if self.owners.get(device) is not peer:
            return
        del self.owners[device]
        peer.devices.pop(device, None)
        for name in peer.blob_names.pop(device, ()):
            peer.asked_blobs.discard((device, name))
        self._version += 1
        for other in self.peers:
            if other is not peer and device in other.conflicts:
                del other.conflicts[device]
                self._ask(other, device, None, now)

    def _lost_by_owner(self, peer: Peer, device: str, now: float) -> None:
        """A server asks us for a device that we have from it: it has none, and what it said before was overtaken.

        That happens when it had cut the link for this device, so that we are not told of the end by a deletion.
        """
        self._announce(peer, wire.del_property(device), now)
        self._release(peer, device, now)

    def _offers_no_more(self, peer: Peer, owner: Peer, device: str, now: float) -> None:
        """A link has lost a device that it offered as well: from now on it is told of the one that we have.

        It need not know that we have it, and then won't ask: our offer was never made when its own came first.
        """
        del peer.conflicts[device]
        self._version += 1
        if peer.kind is not Kind.DRIVER and owner not in peer.rings and peer.interests.touches(device):
            self._ask(owner, device, None, now)

    # -- rings with libindi servers, which know no owners

    def _check_rings(self, now: float) -> None:
        """Ask, by a deletion of what nobody has, whether what libindi servers are told comes back by a link."""
        for peer in self._clients:
            if peer.chained and now - peer.probed >= _PROBE_INTERVAL:
                peer.probed = now
                token = os.urandom(8).hex()
                self._remember_probe(token, peer)
                peer.outbox.append(wire.del_property(RING_CHECK, token), now)

    def _remember_probe(self, token: str, peer: Peer | None) -> None:
        self._probes[token] = peer
        if len(self._probes) > _RECENT:
            self._probes.popitem(last=False)

    def _ring_check(self, peer: Peer, message: Routable, now: float) -> None:
        """A check has arrived: one of ours shows a ring, which is cut; another server's goes on, once."""
        token = message.name or ""
        if token not in self._probes:
            if peer.link:
                self._remember_probe(token, None)
                for other in (*self._clients, *self._remotes):
                    if other.link and other is not peer:
                        other.outbox.append(message, now)
            return
        origin = self._probes[token]
        if origin is None or origin not in self.peers or origin is peer or peer in origin.rings:
            return
        origin.rings.add(peer)
        self._version += 1
        text = f"{peer.label} leads back to {origin.label}: what is behind the one is not shown to the other"
        logger.warning("%s", text)
        self.tell_clients(text, now)

    # -- receivers

    def _receivers(self, peer: Peer, message: Routable) -> Iterator[tuple[Peer, Callable[[Routable, float], None]]]:
        """Who is told what a peer says about its device, and how."""
        device = message.device
        assert device is not None
        for others in (self._clients, self._remotes):
            for other in others:
                if other is peer or device in other.conflicts or peer in other.rings:
                    continue
                if other.wants(message):
                    yield other, other.outbox.append
        for driver in self._drivers:
            if driver is not peer and driver.wants(message):
                yield driver, self._replaceable(driver)

    @staticmethod
    def _replaceable(driver: Peer) -> Callable[[Routable, float], None]:
        outbox = driver.outbox
        return outbox.append_replaceable if isinstance(outbox, DriverOutbox) else outbox.append

    def _announce(self, peer: Peer, message: Routable, now: float) -> None:
        """A rare message about a device: straight to all who want it."""
        about = (message.device, message.name)
        for other, append in self._receivers(peer, message):
            append(message, now)
            other.note(about)

    def _announce_definition(self, peer: Peer, message: Routable, via: Sequence[str], now: float) -> None:
        """To all who want it; servers are told by which it has come, others are not."""
        about = (message.device, message.name)
        plain = with_via(message, ()) if via else message
        onward: Routable | None = None
        for other, append in self._receivers(peer, message):
            if other.link or other.knows_via:
                if onward is None:
                    onward = with_via(message, (*via, self._id))
                append(onward, now)
            else:
                append(plain, now)
            other.note(about)

    def _route(self, peer: Peer, message: Routable) -> Route:
        """Find out where updates like this one go, and remember it."""
        key: RouteKey = (message.tag, message.device, message.name)
        route = peer.routes.get(key)
        if route is None:
            if len(peer.routes) >= _MAX_ROUTES:
                self._forget_routes(peer)
            route = peer.routes[key] = Route()
        self._add_up(key, route)
        receivers = list(self._receivers(peer, message))
        route.receivers = tuple(other for other, _ in receivers)
        route.appends = tuple(append for _, append in receivers)
        route.readers = tuple(other.outbox for other, _ in receivers if isinstance(other.outbox, Outbox))
        route.version = self._version
        return route

    # -- BLOBs over links

    def _update_demand(self, device: str, name: str | None, now: float) -> None:
        """Ask the link that has a device for its BLOBs when the first one wants them, and no more after the last one.

        Always with device and name: a libindi server takes anything less for the whole connection.
        """
        owner = self.owners.get(device)
        if owner is None or owner.kind is Kind.DRIVER or not owner.blob_enable:
            return
        known = owner.blob_names.get(device, ())
        names: Iterable[str] = known if name is None else [name] if name in known else []
        for each in names:
            wanted = any(self.demand(device, each))
            asked = (device, each) in owner.asked_blobs
            if wanted and not asked:
                owner.asked_blobs.add((device, each))
                owner.outbox.append(wire.enable_blob(device, each, ALSO), now)
            elif asked and not wanted:
                owner.asked_blobs.discard((device, each))
                owner.outbox.append(wire.enable_blob(device, each, NEVER), now)

    def _update_all_demand(self, now: float) -> None:
        """Somebody is gone: what was asked for may be wanted no more."""
        for peer in [*self._remotes, *self._clients]:
            for device, name in list(peer.asked_blobs):
                self._update_demand(device, name, now)

    # -- waiting for room

    def _wait(self, peer: Peer, driver: Peer) -> None:
        driver.waiters.add(peer)
        if not peer.waits_for:
            peer.waits_for.add(driver)
            self.on_pause(peer)
        else:
            peer.waits_for.add(driver)

    def _room(self, driver: Peer) -> None:
        waiters, driver.waiters = driver.waiters, set()
        for peer in waiters:
            peer.waits_for.discard(driver)
            if not peer.waits_for:
                self.on_resume(peer)

    # -- refusals

    def refuse(self, peer: Peer, reason: str, device: str | None, text: str, now: float) -> None:
        """A message was refused before it came here: count it, log it, and tell the peer if it is a client."""
        self._refuse(peer, reason, device, text, now, tell=peer.kind is Kind.CLIENT)

    def _refuse(
        self, peer: Peer, reason: str, device: str | None, text: str, now: float, *, tell: bool = False
    ) -> None:
        """Count what is not obeyed, log it once per peer and device; with `tell` let the sender know as well."""
        self.refused[reason] += 1
        peer.refused[reason] += 1
        key = (reason, device)
        if key not in peer.logged and len(peer.logged) < MAX_LOGGED:
            peer.logged.add(key)
            self._complaints.say(logging.WARNING, now, "%s sent %s: refused", peer.label, text)
        if tell and peer.outbox.queued < _REPLY_BACKLOG:
            peer.outbox.append(wire.message(f"refused: {text}", None, device), now)

    def _side(self, peer: Peer) -> dict[Peer, None]:
        return {Kind.CLIENT: self._clients, Kind.DRIVER: self._drivers, Kind.REMOTE: self._remotes}[peer.kind]

    def _mark_dirty(self, peer: Peer) -> None:
        if not self._dirty and self.on_dirty is not None:
            self._dirty[peer] = None
            self.on_dirty()
        else:
            self._dirty[peer] = None


def _is_libindi_server(message: Routable, device: str | None) -> bool:
    """A libindi server that reads from us begins with a getProperties whose device stands before the version.

    Libindi's clients write them the other way round, and never ask for the device "*".
    """
    return device is not None and (device.startswith("*") or list(message.element().attrs) == ["device", "version"])
