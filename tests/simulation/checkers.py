"""The invariants, each a checker of its own. They watch, and share nothing with what they watch.

A checker implements some of these hooks; the site calls those that it has:

* `told(node, peer, entry, message)`: a server has put a message into the queue of a peer;
* `routed(node, routing)`: a server has taken a message, and told all whom it tells;
* `lost(node, peer, message, entry, how)`: a queue has given a message up;
* `gone(node, peer, expected, told)`: a peer is gone, with its devices;
* `arrived(reader, journal, mark, message, entry)`: a server, a driver or a client has received a message;
* `demanded(driver, vector, demand)`: a driver has asked who wants a BLOB;
* `flushed(node)`: a server has written what a turn of the event loop has brought;
* `turn()`: the event loop has done what was due;
* `quiet()`, `served()`, `left()`, `over()`: all faults have ended; all drivers have spoken once more; all clients have
  left; everything has ended.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING

from indifast.protocol.message import FORMS, Instruction, Routable, opened
from indifast.routing.clientqueue import Outbox
from indifast.routing.cutting import Piece
from indifast.routing.dropnotes import DropNote
from indifast.routing.frames import Frame
from indifast.routing.link import Demand
from indifast.routing.losses import LossyQueue
from indifast.routing.peer import Kind, Pace, Peer
from indifast.server.ipyserver import property_text
from tests.simulation.clients import Client
from tests.simulation.drivers import Driver, Vector, holds
from tests.simulation.journal import Entry, Journal, show
from tests.simulation.ledger import Mark
from tests.simulation.nodes import Node, Routing, connection_of
from tests.simulation.script import SHARED

if TYPE_CHECKING:
    from tests.simulation.site import Site

PRODUCED = ("def", "set", "delProperty")


class Checker:
    """One invariant."""

    going_round = False
    """Whether a ring through a foreign server may not have been found yet: until then, messages go round."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.going_round = site.script.foreign and "ring" in site.script.shape

    def fail(self, text: str) -> None:
        self.site.fail(type(self).__name__, text)


class NoFaults(Checker):
    """No exception is raised that nobody expects.

    The site reports those.
    """


class Intact(Checker):
    """What arrives is what was sent, to the last byte of each BLOB, and nothing arrives that nobody has sent."""

    def arrived(self, reader: object, journal: Journal, mark: Mark, message: Routable, entry: Entry | None) -> None:
        if not isinstance(reader, (Client, Driver)) or not mark.what.startswith("#"):
            return
        said = self.site.ledger.find(mark.what)
        if said is None:
            self.fail(f"{reader} hears {show(mark)}, which nobody has said")
            return
        if said.damaged:
            self.fail(f"{reader} hears {said}, which is no message")
            return
        differs = holds(opened(message), said)
        if differs is not None:
            self.fail(f"{reader} hears {said}, but {differs}")


class InOrder(Checker):
    """What is said about a property arrives in the order in which it was said, and never twice."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._heard: dict[Journal, dict[tuple[str, str], dict[str, int]]] = {}
        self._ways = len(site.script.links) >= len(site.script.servers)  # more than one, somewhere

    def arrived(self, reader: object, journal: Journal, mark: Mark, message: Routable, entry: Entry | None) -> None:
        if not isinstance(reader, (Client, Driver)) or mark.device is None or self.going_round:
            return
        heard = self._heard.setdefault(journal, {})
        if mark.tag == "delProperty" and self._ways:
            for device, name in list(heard):
                if device == mark.device and mark.name in (None, name):
                    del heard[(device, name)]
        said = self.site.ledger.find(mark.what)
        if said is None or mark.name is None or mark.tag.startswith("new"):
            return
        numbers = heard.setdefault((mark.device, mark.name), {})
        if said.number <= numbers.get(said.speaker, 0):
            self.fail(f"{reader} hears {said} behind #{numbers[said.speaker]}")
        numbers[said.speaker] = said.number


class NothingLost(Checker):
    """Whoever has asked is told, and all of it arrives, except for what slow readers may lose by the rules."""

    def routed(self, node: Node, routing: Routing) -> None:
        mark, verdict = routing.mark, routing.verdict
        told = Counter(peer for peer, each in routing.told if each == mark)
        if routing.commanded is not None:
            if told != Counter({routing.commanded: 1}):
                self.fail(f"{node} tells {dict(told)} of {show(mark)} from {routing.peer}, not {routing.commanded}")
        elif mark.tag.startswith("new"):
            self._refused(node, routing)
        elif verdict is not None:
            missing = [peer for peer in verdict.receivers if peer not in told]
            if missing:
                self.fail(f"{node} does not tell {missing} of {show(mark)} from {routing.peer}")
        elif mark.tag == "message" and mark.device is None and mark.what.startswith("#"):
            self._everybody(node, routing, told)
        if any(count > 1 for count in told.values()):
            self.fail(f"{node} tells {dict(told)} of {show(mark)} more than once")
        gone = [each.device for peer, each in routing.told if peer is routing.peer and _is_device_gone(each)]
        if gone != routing.withdrawn:
            self.fail(f"{node} tells {routing.peer} upon {show(mark)} that {gone} are gone, not {routing.withdrawn}")

    def _refused(self, node: Node, routing: Routing) -> None:
        """A command that reaches nobody is answered, if it is for a device that is not there."""
        device = routing.mark.device or ""
        owner = node.rules.owners.get(device)
        unreachable = owner is not None and owner in node.rules.links and routing.message.blob and not owner.blob_enable
        answered = any(peer is routing.peer and each.what.startswith("refused") for peer, each in routing.told)
        if (owner is None or (unreachable and owner is not routing.peer)) and not answered:
            self.fail(f"{node} says nothing to {routing.peer} about {show(routing.mark)}, which it refuses")

    def _everybody(self, node: Node, routing: Routing, told: Counter[Peer]) -> None:
        """What belongs to no device is for all clients; what comes by a link does not go on to a link."""
        if not told:
            return
        links = node.rules.links
        for peer in node.rules.peers:
            missed = peer.kind is Kind.CLIENT and peer is not routing.peer and peer not in told
            if missed and not (peer in links and routing.peer in links):
                self.fail(f"{node} does not tell {peer} of {show(routing.mark)} from {routing.peer}")

    def gone(
        self, node: Node, peer: Peer, expected: list[tuple[str, list[Peer]]], told: list[tuple[Peer, Mark]]
    ) -> None:
        for device, receivers in expected:
            heard = [each for each, mark in told if mark.tag == "delProperty" and mark.device == device]
            for receiver in receivers:
                if heard.count(receiver) != 1:
                    self.fail(
                        f"{node} tells {receiver} {heard.count(receiver)} times that {device} is gone with {peer}"
                    )

    def lost(self, node: Node, peer: Peer, message: Routable, entry: Entry, how: str) -> None:
        """Only BLOBs may be lost towards clients and links, and only while too much waits."""
        outbox, newest = peer.outbox, node.outgoing[peer].newest
        if not isinstance(outbox, Outbox):
            self._driver_lost(node, peer, entry, how, newest)
            return
        limits = node.settings.limits
        waiting = sum(each.size for each in outbox.waiting() if each.blob and each.tag == "setBLOBVector")
        assert newest is not None
        newest.made_room += entry.size
        total = waiting + entry.size
        if not entry.frame:
            self.fail(f"{node} loses {show(entry.mark)} to {peer}, which is no BLOB")
        elif newest is entry:
            self.fail(f"{node} loses {show(entry.mark)} to {peer}, the newest of all")
        elif how == "dropped" and total <= limits.queue:
            self.fail(f"{node} drops {show(entry.mark)} to {peer} although only {total} bytes wait")
        elif how == "replaced":
            total = waiting + newest.made_room
            streamed = node.settings.newest_wins or all("stream" in form for form in entry.formats)
            covered = newest.frame and newest.mark[1:3] == entry.mark[1:3] and entry.carried <= newest.carried
            most = limits.stream
            if outbox.piece and node.settings.newest_wins:  # to a slow link, only the newest one
                most = min(most, outbox.whole)
            if not streamed or not covered or total + newest.size <= most:
                self.fail(
                    f"{node} replaces {show(entry.mark)} {entry.formats} by {show(newest.mark)} to {peer}"
                    f" while {total} bytes wait"
                )

    def _driver_lost(self, node: Node, peer: Peer, entry: Entry, how: str, newest: Entry | None) -> None:
        """Towards drivers, commands are never lost, and what they snoop on only while the queue is full."""
        if entry.mark.tag.startswith("new"):
            self.fail(f"{node} loses the command {show(entry.mark)} to {peer}")
        elif how == "replaced":
            assert newest is not None
            if newest.mark[:3] != entry.mark[:3] or newest is entry:
                self.fail(f"{node} replaces {show(entry.mark)} by {show(newest.mark)} to {peer}")
            elif peer.outbox.queued + entry.size <= node.settings.driver_room:
                self.fail(f"{node} replaces {show(entry.mark)} to {peer}, which is not full")
        elif entry.mark.tag != "pingReply" and peer.outbox.queued + entry.size <= 2 * node.settings.driver_room:
            self.fail(f"{node} drops {show(entry.mark)} to {peer}, which is not full")

    def quiet(self) -> None:
        for title, journal in _conversations(self.site):
            missing = journal.missing()
            if missing:
                shown = ", ".join(show(entry.mark) for entry in missing[:3])
                self.fail(f"{len(missing)} messages from {title} have not arrived: {shown}")

    def served(self) -> None:
        self.quiet()


class PassedOn(Checker):
    """A request for a device reaches its owner within a second, or every driver if nobody is known to have it."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._due: deque[tuple[float, Node, Peer, str | None, str | None]] = deque()
        self._asked: weakref.WeakSet[Peer] = weakref.WeakSet()
        """Drivers that were asked for everything once."""

    def told(self, node: Node, peer: Peer, entry: Entry, message: Routable) -> None:
        mark = entry.mark
        if mark.tag != "getProperties":
            return
        if mark.device is None:
            self._asked.add(peer)
        self._due = deque(
            due for due in self._due if due[2] is not peer or not _covers((mark.device, mark.name), due[3:])
        )

    def routed(self, node: Node, routing: Routing) -> None:
        mark, peer = routing.mark, routing.peer
        if mark.tag != "getProperties":
            return
        told = [other for other, each in routing.told if each.tag == "getProperties"]
        everything = mark.device is None or mark.device.startswith("*")
        for other in node.rules.peers:
            if other is peer or other in told or other in peer.ring_links:
                continue
            if other.kind is Kind.DRIVER:
                unknown = mark.device not in node.rules.owners and other not in self._asked
                if everything or unknown:
                    self._due.append((self.site.now + 1.0, node, other, None, None))
            for device, owner in node.rules.owners.items():
                if owner is other and (device == mark.device or (everything and other.kind is not Kind.DRIVER)):
                    self._due.append((self.site.now + 1.0, node, other, device, None if everything else mark.name))

    def turn(self) -> None:
        while self._due and self._due[0][0] < self.site.now:
            _, node, peer, device, name = self._due.popleft()
            here = node.hub is not None and peer in node.hub.router.peers
            if here and (device is None or node.rules.owners.get(device) is peer):
                self.fail(f"{node} has not asked {peer} for {device or 'everything'}{f'.{name}' if name else ''}")


def _is_device_gone(mark: Mark) -> bool:
    return mark.tag == "delProperty" and mark.name is None


def _covers(asked: tuple[str | None, str | None], wanted: tuple[str | None, str | None]) -> bool:
    """Return whether a request for definitions asks for at least as much as another one."""
    return asked[0] is None or (asked[0] == wanted[0] and asked[1] in (None, wanted[1]))


class OnlyWhoAsked(Checker):
    """Nobody is told what they have not asked for, and no link is asked for BLOBs that nobody wants."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._policies: dict[Journal, dict[tuple[str | None, str | None], str]] = {}
        self._defined: dict[Journal, set[tuple[str | None, str | None]]] = {}
        """BLOB properties that a peer of a server has."""

    def told(self, node: Node, peer: Peer, entry: Entry, message: Routable) -> None:
        mark = entry.mark
        if mark.tag == "enableBLOB" and peer.kind is not Kind.DRIVER:
            policies = self._policies.setdefault(node.outgoing[peer], {})
            policies[(mark.device, mark.name)] = message.element().text

    def arrived(self, reader: object, journal: Journal, mark: Mark, message: Routable, entry: Entry | None) -> None:
        if isinstance(reader, Node) and mark.tag == "defBLOBVector":
            self._defined.setdefault(journal, set()).add((mark.device, mark.name))
        elif isinstance(reader, Node) and mark.tag == "delProperty":
            self._defined[journal] = {
                key
                for key in self._defined.get(journal, ())
                if key[0] != mark.device or mark.name not in (None, key[1])
            }

    def quiet(self) -> None:
        for node in self.site.nodes.values():
            for device, owner in node.rules.owners.items():
                policies = self._policies.get(node.outgoing[owner], {})
                for each, name in self._defined.get(node.incoming.get(owner), ()) if policies else ():
                    asked = policies.get((each, name), "Never") != "Never"
                    if each == device and asked and not node.rules.wanted(device, name or "", owner):
                        self.fail(f"{node} wants the BLOBs {device}.{name} of {owner}, and nobody wants them of {node}")

    def routed(self, node: Node, routing: Routing) -> None:
        if routing.verdict is None or not routing.verdict.accepted:
            return
        for peer, mark in routing.told:
            if mark == routing.mark and peer not in routing.verdict.receivers:
                self.fail(f"{node} tells {peer} of {show(mark)} from {routing.peer}, which has not asked for it")

    def gone(
        self, node: Node, peer: Peer, expected: list[tuple[str, list[Peer]]], told: list[tuple[Peer, Mark]]
    ) -> None:
        for receiver, mark in told:
            if mark.tag == "delProperty" and not any(
                device == mark.device and receiver in receivers for device, receivers in expected
            ):
                self.fail(f"{node} tells {receiver} that {mark.device} is gone, which has not asked for it")

    def demanded(self, driver: Driver, vector: Vector, demand: Demand) -> None:
        if not driver.local:
            return
        rules = driver.node.rules
        owner = rules.owners.get(vector.device)
        readers = list(rules.wanted(vector.device, vector.name, owner))
        expected = Demand(*(any(peer.outbox.form == form for peer in readers) for form in FORMS))
        if demand != expected:
            self.fail(f"{driver} is told {demand} of {vector.name}, while {readers} want it")


class OneOwner(Checker):
    """One driver speaks for a device at a time, until it deletes the device or is gone. Nobody else is heard."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._speakers: dict[Journal, dict[str, str]] = {}
        self._unnoticed: dict[Journal, set[str]] = {}
        """Devices whose deletion a full queue of a driver has given up."""

    def lost(self, node: Node, peer: Peer, message: Routable, entry: Entry, how: str) -> None:
        mark = entry.mark
        if _is_device_gone(mark) and mark.device is not None:
            self._unnoticed.setdefault(node.outgoing[peer], set()).add(mark.device)

    def routed(self, node: Node, routing: Routing) -> None:
        verdict = routing.verdict
        if verdict is not None and not verdict.accepted:
            answered = routing.peer if routing.mark.device in routing.withdrawn else None
            told = [peer for peer, mark in routing.told if mark == routing.mark and peer is not answered]
            if told:
                self.fail(f"{node} tells {told} of {show(routing.mark)} from {routing.peer}, which may not say it")

    def arrived(self, reader: object, journal: Journal, mark: Mark, message: Routable, entry: Entry | None) -> None:
        if not isinstance(reader, (Client, Driver)) or mark.device is None or self.going_round:
            return
        speakers = self._speakers.setdefault(journal, {})
        if _is_device_gone(mark):
            speakers.pop(mark.device, None)
            return
        said = self.site.ledger.find(mark.what)
        if said is None or not mark.tag.startswith(("def", "set")):
            return
        if said.forged:
            self.fail(f"{reader} hears {said}, which is forged")
        speaker = speakers.setdefault(mark.device, said.speaker)
        if speaker != said.speaker and mark.device in self._unnoticed.get(journal, ()):
            self._unnoticed[journal].discard(mark.device)
            speakers[mark.device] = said.speaker
        elif speaker != said.speaker:
            self.fail(f"{reader} hears {said}, while {mark.device} is {speaker}'s")

    def quiet(self) -> None:
        for node in self.site.nodes.values():
            if node.hub is not None and node.hub.router.owners != node.rules.owners:
                self.fail(f"{node} knows the owners {node.hub.router.owners}, not {node.rules.owners}")


class Bounded(Checker):
    """What waits in a queue is counted to the byte, and never exceeds the limits."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._turns = 0

    def turn(self) -> None:
        self._turns += 1
        if self._turns % 11 == 0:
            nodes = list(self.site.nodes.values())
            self._look_at(nodes[self._turns // 11 % len(nodes)])

    def _look_at(self, node: Node) -> None:
        if node.hub is None:
            return
        peers = list(node.hub.router.peers)
        if peers:
            peer = peers[self._turns // 11 % len(peers)]
            text = self._wrong(node, peer)
            if text is not None:
                self.fail(f"the queue of {node} to {peer}: {text}")

    def routed(self, node: Node, routing: Routing) -> None:
        """Behind each BLOB that is queued, a queue is tidied up."""
        if routing.frame:
            for peer, _ in routing.told:
                items = len(peer.outbox._items)
                gaps = items - sum(1 for _ in peer.outbox.waiting()) if items > 40 else 0
                if gaps > 40 and 2 * gaps > items:
                    self.fail(f"the queue of {node} to {peer} has {gaps} empty slots, of {items}")

    def quiet(self) -> None:
        for node in self.site.nodes.values():
            if node.hub is None:
                continue
            for peer in node.hub.router.peers:
                text = self._wrong(node, peer)
                if text is None and (peer.outbox.queued or peer.outbox.messages):
                    text = f"{peer.outbox.queued} bytes of {peer.outbox.messages} messages wait although all is read"
                if text is not None:
                    self.fail(f"the queue of {node} to {peer}: {text}")

    def gone(
        self, node: Node, peer: Peer, expected: list[tuple[str, list[Peer]]], told: list[tuple[Peer, Mark]]
    ) -> None:
        """Of what has waited for someone who is gone, nothing is left, in no book: a link uses its queue again."""
        outbox = peer.outbox
        frames = [*outbox._frames, *(outbox._droppable if isinstance(outbox, LossyQueue) else ())]
        if outbox.queued or outbox.messages or frames or any(outbox.waiting()):
            self.fail(
                f"the queue of {node} to {peer}, which is gone, has {outbox.messages} messages, {len(frames)} BLOBs"
            )

    def _wrong(self, node: Node, peer: Peer) -> str | None:
        outbox, settings = peer.outbox, node.settings
        waiting = [*outbox.waiting(), *(each for each in outbox._urgent if isinstance(each, Instruction))]
        started = [outbox._started] if outbox._started is not None else []
        if outbox._cut is not None:
            started.append(outbox._cut.frame)
        begun = [message.cut.frame if isinstance(message, Piece) else message for message in started]
        begun = list(dict.fromkeys(begun))  # a piece of the frame that is cut
        total = sum(message.size for message in (*waiting, *begun))
        if outbox.queued != total:
            return f"{outbox.queued} bytes are counted, {total} wait"
        count = len(waiting) + len(begun)
        if outbox.messages != count:
            return f"{outbox.messages} messages are counted, {count} wait"
        if isinstance(outbox, Outbox):
            frames = [message for message in waiting if message.blob and message.tag == "setBLOBVector"]
            blobs = sum(message.size for message in frames)
            if outbox.blobs != blobs:
                return f"{outbox.blobs} bytes of BLOBs are counted, {blobs} wait"
            if blobs > settings.limits.queue and len(frames) > 1 and not outbox._offer.frames:
                return f"{len(frames)} BLOBs of {blobs} bytes wait"
            small = sum(message.size for message in waiting if not message.blob and not isinstance(message, DropNote))
            small += sum(message.size for message in begun if not isinstance(message, Frame))
            if outbox.small != small:
                return f"{outbox.small} bytes without BLOBs are counted, {small} wait"
            connection = None if node.hub is None else node.hub.connections.get(peer)
            if small > settings.limits.small_queue and connection is not None and not connection.stream.closed:
                return f"{small} bytes without BLOBs wait, and it is not disconnected"
        else:
            snooped = outbox.snooped
            largest = max((message.size for message in waiting), default=0)
            if snooped > 2 * settings.driver_room + largest and not outbox._offer.frames:
                return f"{snooped} bytes of what gives way wait"
        return None


class LittleWork(Checker):
    """The cost of a message depends on how many are told of it, not on how much waits or what has happened before."""

    BASE = 700
    PER_RECEIVER = 150

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.most = 0.0
        self.total = 0
        self.allowed = 0
        site.operations = self._measured

    def _measured(self, node: Node, routing: Routing, counted: int) -> None:
        receivers = len(routing.told)
        allowed = self.BASE + self.PER_RECEIVER * (receivers + routing.lost)
        waiting = sum(peer.outbox.messages for peer in {peer for peer, _ in routing.told})
        self.most = max(self.most, counted / allowed)
        self.total += counted
        self.allowed += allowed
        if counted > allowed + 10 * waiting:  # now and then, a queue is tidied up as a whole
            self.fail(f"{node} takes {counted} steps for {show(routing.mark)}, told {receivers} times")

    def quiet(self) -> None:
        if self.allowed > 20 * self.BASE and self.total > self.allowed / 2:
            self.fail(f"the messages that were looked at took {self.total} steps, of {self.allowed} allowed at most")


class NoCirculation(Checker):
    """Nothing goes round: a server tells each peer each message once at most, and everything comes to rest."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._told: dict[Journal, dict[str | None, set[str]]] = {}

    def told(self, node: Node, peer: Peer, entry: Entry, message: Routable) -> None:
        mark = entry.mark
        if self.going_round:
            return
        told = self._told.setdefault(node.outgoing[peer], {}).setdefault(mark.device, set())
        lost = mark.tag == "getProperties" and mark.device not in node.rules.owners  # a link that was cut is told so
        if _is_device_gone(mark) or lost:
            told.clear()  # by another way the same may come again
        if mark.what.startswith("#"):
            if mark.what in told:
                self.fail(f"{node} tells {peer} of {show(mark)} once more")
            told.add(mark.what)


class EverybodyServed(Checker):
    """When the faults are over, everybody who has asked knows all devices that exist, with their newest values."""

    def quiet(self) -> None:
        self._check(frames=False)

    def served(self) -> None:
        self._check(frames=True)

    def _check(self, *, frames: bool) -> None:
        site = self.site
        for driver in site.drivers.values():
            if driver.wanted and driver.link is None:
                self.fail(f"{driver} does not run, although it should")
        visible = self._visible()
        for client in site.clients.values():
            if not client.wanted:
                continue
            if client.session is None:
                self.fail(f"{client} is not connected, although it should be")
                return
            self._check_one(client, visible[client.node.name], frames)
        for node in site.nodes.values():
            if node.hub is None:
                self.fail(f"{node} does not run")
                return
            for connection in node.hub.connections.values():
                if connection.paused:
                    self.fail(f"{node} does not read from {connection.peer}, for {connection.paused}")
            for peer in node.hub.router.peers:
                if peer.waits_for or peer.waiters:
                    self.fail(f"{peer} of {node} waits for {peer.waits_for}, and {peer.waiters} for it")

    def _check_one(self, client: Client, devices: dict[str, list[Driver]], frames: bool) -> None:
        wishes, known = client.wishes, client.knowledge
        possible: set[tuple[str, str]] = set()
        for device, drivers in devices.items():
            vectors = [vector for driver in drivers for vector in driver.vectors.values() if vector.device == device]
            for vector in vectors:
                key = (device, vector.name)
                if vector.defined:
                    possible.add(key)
                if device == SHARED or not vector.defined or not wishes.covers(*key):
                    continue
                said = known.vectors.get(key)
                if said is None:
                    if not wishes.asks_for(*key):
                        continue  # who asks for BLOBs alone may have missed the definition
                    self.fail(f"{client} does not know {device}.{vector.name}")
                elif said is not vector.newest and (frames or not (self.going_round or wishes.ever_silent(device))):
                    if wishes.silent(device) and vector.kind != "BLOB":
                        continue
                    self.fail(f"{client} knows {said}, not {vector.newest}")
                elif frames and vector.kind == "BLOB":
                    self._check_frame(client, vector, drivers[0])
        self._check_shared(client, devices.get(SHARED, []))
        for key in known.vectors:
            if key not in possible:
                self.fail(f"{client} still knows {key[0]}.{key[1]}")

    def _check_frame(self, client: Client, vector: Vector, driver: Driver) -> None:
        """The last BLOB was small, so that nothing is a reason to lose it."""
        wanted = client.wishes.content(vector.device, vector.name)
        if driver.node is not client.node and not all(link.blobs for link in self.site.script.links):
            wanted = False
        heard = client.knowledge.frames.get((vector.device, vector.name))
        newest = vector.newest_frame if wanted else None
        last = newest is not None and bool(newest.blobs) and newest.blobs[0].format == ".last"
        if wanted and (not last or heard is not newest):
            self.fail(f"{client} has the BLOB {heard}, not {vector.newest_frame}")

    def _check_shared(self, client: Client, drivers: list[Driver]) -> None:
        """A device of several drivers is that of any one of them."""
        known = {key: said for key, said in client.knowledge.vectors.items() if key[0] == SHARED}
        for driver in drivers:
            defined = [key for key, vector in driver.vectors.items() if key[0] == SHARED and vector.defined]
            asked = {key for key in defined if client.wishes.asks_for(*key)}
            if asked <= set(known) <= set(defined) and all(said.speaker == driver.speaker for said in known.values()):
                return
        if drivers:
            self.fail(f"{client} knows {[str(said) for said in known.values()]}, not what one of {drivers} defines")

    def _visible(self) -> dict[str, dict[str, list[Driver]]]:
        """Return for each server the devices that can be reached, with the drivers that offer them."""
        site = self.site
        visible: dict[str, dict[str, list[Driver]]] = {name: {} for name in site.script.servers}
        for driver in site.drivers.values():
            if driver.link is not None:
                for device in driver.devices:
                    visible[driver.node.name].setdefault(device, []).append(driver)
        changed = True
        while changed:
            changed = False
            for link in site.links.values():
                if not link.made:
                    continue
                near, far = link.plan.near, link.plan.far
                ways = [(far, near)]
                if site.script.settings.accept_links and near.isupper() and far.isupper():
                    ways.append((near, far))
                for source, target in ways:
                    for device, drivers in visible[source].items():
                        known = visible[target].setdefault(device, [])
                        more = [driver for driver in drivers if driver not in known]
                        known += more
                        changed = changed or bool(more)
        return visible


class Counted(Checker):
    """What servers count is what happened."""

    def served(self) -> None:
        for node in self.site.nodes.values():
            if node.hub is None or node.server is None:
                continue
            router = node.hub.router
            refused = {reason: router.refused[reason] for reason in ("not the owner", "unknown device")}
            expected = {reason: node.rules.refused[reason] for reason in refused}
            if refused != expected:
                self.fail(f"{node} counts {refused}, not {expected}")
            for peer, stats in zip(list(router.peers), node.server.stats()["peers"], strict=True):
                if peer.received != node.received[peer]:
                    self.fail(f"{node} counts {peer.received} messages of {peer}, not {node.received[peer]}")
                journal = node.outgoing[peer]
                if peer not in node.returned:
                    self._peer(node, peer, journal, stats["sent"], stats["sent_messages"])

    def _peer(self, node: Node, peer: Peer, journal: Journal, sent: dict[str, int], messages: int) -> None:
        arrived = {property_text(*key): count for key, count in journal.counted.items()}
        if sent != arrived:
            differing = {key: (sent.get(key), arrived.get(key)) for key in sent.keys() | arrived.keys()}
            differing = {key: pair for key, pair in differing.items() if pair[0] != pair[1]}
            self.fail(f"{node} counts other messages as sent to {peer} than have arrived: {differing}")
        if messages != journal.messages_arrived:
            self.fail(f"{node} counts {messages} messages as sent to {peer}, {journal.messages_arrived} have arrived")
        outbox = peer.outbox
        for how, counter in (("dropped", outbox.dropped), ("replaced", outbox.replaced)):
            lost = Counter({key[:2]: count for key, count in journal.lost.items() if key[2] == how})
            if +counter != +lost:
                self.fail(f"{node} counts {counter} as {how} to {peer}, not {lost}")
        if isinstance(outbox, Outbox):
            if outbox.frames_sent != journal.frames_arrived:
                self.fail(f"{node} counts {outbox.frames_sent} BLOBs to {peer}, not {journal.frames_arrived}")
            dropped, noted = sum(outbox.dropped.values()), journal.noted
            if not noted <= dropped <= noted + journal.relayed_notes:
                self.fail(f"{node} has told {peer} that {noted} BLOBs were dropped, not {dropped}")


class Answered(Checker):
    """Every ping is answered, at once if the client reads what it gets.

    Clients look at the answers.
    """

    def quiet(self) -> None:
        self._check()

    def served(self) -> None:
        self._check()

    def _check(self) -> None:
        for client in self.site.clients.values():
            if client.session is not None and client.pings:
                self.fail(f"{client} waits for the answers to {list(client.pings)}")


class Paced(Checker):
    """A driver waits for its readers once per BLOB at most, and a client for a driver only if its queue is full."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._waited: dict[Peer, tuple[Pace, float]] = {}

    def flushed(self, node: Node) -> None:
        assert node.hub is not None
        full = any(peer.outbox._was_full for peer in node.hub.router.peers)
        for connection in node.hub.connections.values():
            if "command" in connection.paused and not full:
                self.fail(f"{node} does not read from {connection.peer}, although there is room for its commands")
            pace = connection._pace
            if pace is None or pace.begun or "pace" not in connection.paused:
                self._waited.pop(connection.peer, None)
                continue
            waited, since = self._waited.setdefault(connection.peer, (pace, self.site.now))
            if waited is not pace:
                self._waited[connection.peer] = (pace, self.site.now)
            elif self.site.now - since > pace.patience + 0.001:
                self.fail(f"{node} does not read from {connection.peer} for {self.site.now - since:.3f} s for one BLOB")

    def left(self) -> None:
        self._waited.clear()


class NothingKept(Checker):
    """Nothing is kept of those who are gone: no object, no task, no descriptor.

    The site looks for descriptors.
    """

    def left(self) -> None:
        for node in self.site.nodes.values():
            self._forget_routes(node)
        gc.collect()
        for node in self.site.nodes.values():
            if node.hub is None:
                continue
            clients = [
                connection.peer
                for connection in node.hub.connections.values()
                if isinstance(connection_of(connection.stream).owner, Client)
            ]
            if clients:
                self.fail(f"{node} still has {clients}, although all clients have left")
        alive = [peer for peer in self.site.peers if not self._present(peer)]
        if alive:
            self.fail(f"{alive} are kept, although they are gone")

    def _forget_routes(self, node: Node) -> None:
        """Some know those who are gone until they are used again: the routes, and the list of a server's own links."""
        if node.hub is None or node.server is None:
            return
        for peer in node.hub.router.peers:
            peer.routes.clear()
            peer.last_route = None
        node.server._indifast_open_links = [link for link in node.server._indifast_open_links if not link.closed]

    def _present(self, peer: Peer) -> bool:
        return any(node.hub is not None and peer in node.hub.router.peers for node in self.site.nodes.values())

    def over(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            self.fail(f"{[task.get_coro() for task in tasks]} go on, although everything has ended")
        gc.collect()
        peers = list(self.site.peers)
        if peers:
            self.fail(f"{peers} are kept, although everything has ended")
        messages = list(self.site.blob_messages)
        if messages:
            self.fail(f"{messages} are kept, although everything has ended")


def _conversations(site: Site) -> list[tuple[str, Journal]]:
    """Return the journals of all connections that are in order."""
    found = []
    for node in site.nodes.values():
        for peer, journal in node.outgoing.items():
            known = node.hub is not None and peer in node.hub.router.peers and not journal.broken
            if known and (peer in node.hub.connections or peer.kind is Kind.DRIVER):
                found.append((journal.title, journal))
        for journal in node.incoming.values():
            if not journal.broken:
                found.append((journal.title, journal))
    return found


CHECKERS: tuple[type[Checker], ...] = (
    NoFaults,
    Intact,
    InOrder,
    NothingLost,
    PassedOn,
    OnlyWhoAsked,
    OneOwner,
    Bounded,
    LittleWork,
    NoCirculation,
    EverybodyServed,
    Counted,
    Answered,
    Paced,
    NothingKept,
)
