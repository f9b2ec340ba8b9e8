"""Rings of servers: the rules one by one, and servers linked in every way, whose links come and go.

There, each link keeps its order, and between links everything happens in any order. When nothing is under way any more,
everybody knows what can be reached, and nothing else.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from indifast.protocol.message import Routable
from indifast.routing.peer import Kind, Peer
from tests.routing.talk import Talk, World, define, short, update, who

SITES = {
    "a line": "AB BC",
    "a ring of two": "AB BA",
    "two links side by side": "AB AB",
    "a ring of three": "AB BC CA",
    "two ways to one server": "AB AC CB",
    "a ring of four": "AB BC CD DA",
    "each with each": "AB AC AD BC BD CD",
}
SHARED = "Shared"  # a device that drivers of several servers offer
CIRCULATING = 20_000  # steps after which nothing can be under way any more


def named(world: World, label: str) -> dict[str, str | None]:
    """What a peer was told since the last time, and by which servers each of it is said to have come."""
    told = {}
    for message in world.messages(label):
        told[short(message)] = message.element().attrs.get("via")
    return told


def by(servers: str, definition: str) -> str:
    return definition.replace(" ", f" via='{servers}' ", 1)


def test_servers_are_told_by_which_servers_a_definition_has_come() -> None:
    world = World()
    world.remote("link")
    own = named(world, "link")["getProperties"]
    assert own
    world.client("server", asks=False)
    world.say("server", "<getProperties version='1.7' via='another'/>")
    world.client("c")
    world.driver("driver", "D")
    assert named(world, "link") == named(world, "server") == {"defNumberVector D P": own}
    assert named(world, "c") == {"defNumberVector D P": None}
    world.say("link", by("one two", define("E")))
    assert named(world, "server") == {"defNumberVector E P": f"one two {own}"}
    assert named(world, "c") == {"defNumberVector E P": None}


def test_a_definition_that_has_come_by_this_server_makes_nobody_an_owner() -> None:
    world = World()
    world.remote("link")
    own = named(world, "link")["getProperties"]
    world.client("c")
    assert who(world, by(f"one {own} two", define("D")), "link") == set()
    assert world.router.owners == {}
    assert world.router.refused == {"circulating definition": 1}
    assert who(world, by("one two", define("D")), "link") == {"c"}


def test_a_link_that_loses_what_it_has_offered_as_well_is_told_of_ours() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("c")
    world.client("link")
    for _ in range(3):
        world.forget()
        world.say("link", define("D"))
        assert who(world, update("D")) == {"c"}
        assert who(world, "<delProperty device='D' name='P'/>", "link") == set()
        assert who(world, update("D")) == {"c"}
        assert who(world, "<delProperty device='D'/>", "link") == {"driver"}
        assert who(world, define("D")) == {"c", "link"}
    assert world.router.owners["D"] is world.peers["driver"]


def test_clients_are_told_once_that_a_link_offers_what_another_has() -> None:
    world = World()
    world.driver("driver", "D")
    world.client("c")
    world.client("link")
    world.forget()
    for _ in range(100):
        world.say("link", define("D") + "<delProperty device='D'/>")
    (told,) = world.heard("c")
    assert "link offers D" in told


def test_a_server_that_asks_for_what_we_have_from_it_has_lost_it() -> None:
    world = World()
    world.remote("link")
    world.say("link", "<getProperties version='1.7' via='one'/>" + by("one", define("D")))
    world.client("c")
    assert who(world, "<getProperties version='1.7' device='D'/>", "link") == set()
    world.say("link", "<getProperties version='1.7' device='D' via='one'/>")
    assert world.heard("c") == ["delProperty D"]
    assert world.router.owners == {}


ENDS = {
    "it deletes its own": "<delProperty device='D'/>",
    "it asks for ours": "<getProperties version='1.7' device='D' via='one'/>",
    "it asks for a part": "<getProperties version='1.7' device='D' name='P'/>",
    "it asks for everything": "<getProperties version='1.7'/>",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_link_is_told_what_was_deleted_while_it_was_cut(end: str) -> None:
    """What we said before may reach it after it has lost its own device, so that it takes the device from us."""
    world = World()
    world.driver("driver", "D", "E")
    world.client("link")
    for deleted, told in (("D", ["delProperty D"]), ("E", [])):
        world.say("driver", define("D", "Q") + define("E", "Q"))
        world.say("link", define("D"))
        world.forget()
        world.say("driver", f"<delProperty device='{deleted}' name='Q'/>")
        assert "delProperty D Q" not in world.heard("link")
        world.forget()
        world.say("link", end)
        assert world.heard("link") == told
        assert not told or {"getProperties", "getProperties D"} & set(world.heard("driver")), "all of it is told anew"
        world.say("link", end)
        assert world.heard("link") == []


def test_a_libindi_server_in_a_ring_is_not_told_what_was_deleted_while_it_was_cut() -> None:
    """The deletion would come back by the link, as if from the owner."""
    world = World()
    world.remote("link")
    world.client("server", asks=False)
    world.say("server", "<getProperties device='*' version='1.7'/>")
    world.say("link", define("D") + define("D", "Q"))
    world.peers["server"].ring_links.add(world.peers["link"])
    world.say("server", define("D"))
    world.say("link", "<delProperty device='D' name='Q'/>")
    world.forget()
    world.say("server", "<delProperty device='D'/>")
    assert world.heard("server") == []


def many_requests(world: World, device: str) -> None:
    """A crowd asks for a device until its owner gets no further requests for now."""
    while not world.router.asking.interval:
        world.say("c", f"<getProperties version='1.7' device='{device}'/>")


def test_a_link_is_not_asked_for_what_has_a_new_owner_when_the_request_is_due() -> None:
    """It would take this server for one that has lost the device."""
    world = World()
    world.remote("link")
    world.client("c")
    world.say("link", define("D") + define("E"))
    many_requests(world, "E")
    world.say("c", "<getProperties version='1.7' device='D'/>")
    world.say("link", "<delProperty device='D'/>")
    world.driver("driver", "D")
    world.forget()
    world.router.asking.ask_held(world.now + 1000)
    assert world.heard("link") == ["getProperties E"]


def test_a_link_learns_at_once_that_this_server_has_lost_what_both_offered() -> None:
    """When a held request is due, this server may have the device again."""
    world = World()
    world.remote("link")
    world.driver("driver", "D")
    world.client("c")
    world.say("link", define("D") + define("E"))
    many_requests(world, "E")
    world.forget()
    world.router.lose(world.peers["driver"], world.now)
    assert world.heard("link") == ["getProperties D"]


class Server(Talk):
    def __init__(self, name: str, site: Site) -> None:
        super().__init__()
        self.name, self.site = name, site
        self.devices: dict[str, set[str]] = {}  # the properties of each
        self.known: dict[str, set[str]] = {}
        self.updates: list[str] = []
        self.join("client", Kind.CLIENT)
        self.driver = self.join("driver", Kind.DRIVER)
        self.say("client", "<getProperties version='1.7'/>")

    def drive(self, *devices: str) -> None:
        """The driver ends, and starts again with these devices."""
        self.devices = {device: {"P", "Q"} for device in devices}
        self.router.lose(self.driver, self.site.now)
        self.router.start(self.driver, self.site.now)

    def define(self, device: str) -> None:
        for name in sorted(self.devices[device]):
            self.say("driver", define(device, name))

    def change(self, device: str) -> None:
        """One of two properties of a device comes or goes."""
        self.devices[device] ^= {"Q"}
        if "Q" in self.devices[device]:
            self.say("driver", define(device, "Q"))
        else:
            self.say("driver", f"<delProperty device='{device}' name='Q'/>")

    def answer(self) -> None:
        """The driver reads its next message."""
        message = self.driver.outbox.pop()
        if message is not None and message.tag == "getProperties":
            for device in sorted(self.devices):
                if message.device in (None, device):
                    self.define(device)

    def read(self) -> None:
        """The client reads all that it is told, in no time."""
        for message in self.messages("client"):
            assert message.device is None or "via" not in message.element().attrs
            device, name = message.device or "", message.name
            if message.tag.startswith("def"):
                self.known.setdefault(device, set()).add(name or "")
            elif message.tag == "delProperty" and name is None:
                self.known.pop(device, None)
            elif message.tag == "delProperty":
                self.known[device].discard(name)
            elif message.tag.startswith("set"):
                self.updates.append(device)


class Connection:
    """One life of a link. Either end notices the loss sooner or later, and reads more or less before it does."""

    def __init__(self, near: Server, remote: Peer, far: Server) -> None:
        self.near, self.remote, self.far = near, remote, far
        self.to_near: deque[Routable] = deque()
        self.to_far: deque[Routable] = deque()
        self.client: Peer | None = None  # as soon as it is accepted
        self.up = True
        self.near_ended = self.far_ended = False
        near.router.start(remote, near.site.now)

    def ways_on(self) -> Iterator[Callable[[], object]]:
        """What can happen next."""
        if not self.near_ended:
            move(self.remote, self.to_far)
        if self.client is not None and not self.far_ended:
            move(self.client, self.to_near)
        if not self.near_ended:
            if self.to_near:
                yield lambda: self.near.router.receive(self.remote, self.to_near.popleft(), self.near.site.now)
            if not self.up:
                yield self.end_near
        if self.client is None:
            yield self.accept
        elif not self.far_ended:
            client = self.client
            if self.to_far:
                yield lambda: self.far.router.receive(client, self.to_far.popleft(), self.far.site.now)
            if not self.up:
                yield self.end_far

    def accept(self) -> None:
        self.client = self.far.join(f"link from {self.near.name}", Kind.CLIENT)

    def end_near(self) -> None:
        self.near_ended = True
        self.near.router.lose(self.remote, self.near.site.now)

    def end_far(self) -> None:
        assert self.client is not None
        self.far_ended = True
        self.far.router.detach(self.client, self.far.site.now)


def move(peer: Peer, queue: deque[Routable]) -> None:
    while (message := peer.outbox.pop()) is not None:
        queue.append(message)


class Link:
    def __init__(self, near: Server, far: Server) -> None:
        self.near, self.far = near, far
        self.remote = near.join(f"link to {far.name}", Kind.REMOTE)
        self.connection: Connection | None = None


class Site:
    """Servers and links; `seed` decides what happens when."""

    def __init__(self, links: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.servers = {name: Server(name, self) for name in sorted(set(links) - {" "})}
        self.links = [Link(self.servers[near], self.servers[far]) for near, far in links.split()]
        self.connections: list[Connection] = []

    def ways_on(self) -> Iterator[Callable[[], object]]:
        for connection in self.connections:
            yield from connection.ways_on()
        for server in self.servers.values():
            if server.driver.outbox.pending:
                yield server.answer
            if server.router.asking.interval:
                yield lambda server=server: server.router.asking.ask_held(self.now)  # type: ignore[misc]

    def step(self) -> bool:
        """Let something happen that is due; False when nothing is."""
        ways = list(self.ways_on())
        if not ways:
            return False
        self.now += self.random.choice([0.0, 0.0, 1e-4])
        for server in self.servers.values():
            server.now = self.now
        self.random.choice(ways)()
        for server in self.servers.values():
            server.read()
        self.connections = [each for each in self.connections if not (each.near_ended and each.far_ended)]
        return True

    def some_steps(self) -> None:
        for _ in range(self.random.choice([0, 3, 10, 40])):
            self.step()

    def settle(self) -> None:
        for _ in range(CIRCULATING):
            if not self.step():
                break
        else:
            pytest.fail("something circulates")
        for server in self.servers.values():
            server.read()

    def connect(self, link: Link) -> None:
        link.connection = Connection(link.near, link.remote, link.far)
        self.connections.append(link.connection)

    def disturb(self) -> None:
        """Something happens that nobody has expected."""
        link, server = self.random.choice(self.links), self.random.choice(list(self.servers.values()))
        match self.random.randrange(7):
            case 0 | 1 | 2:
                if link.connection is None or link.connection.near_ended:
                    self.connect(link)
                elif self.random.random() < 0.5:
                    link.connection.up = False
            case 3:
                server.drive(*self.random.choice([[], [server.name], [server.name, SHARED]]))
            case 4:
                device = self.random.choice([*self.servers, SHARED])
                server.say("client", f"<getProperties version='1.7' device='{device}'/>")
            case 5 if server.devices:
                device = self.random.choice(sorted(server.devices))
                server.say("driver", f"<delProperty device='{device}'/>")
                server.define(device)
            case 6 if server.devices:
                server.change(self.random.choice(sorted(server.devices)))

    def reached(self, server: Server) -> set[str]:
        """The names of the servers that are linked to one by now, itself included."""
        reached = {server.name}
        while True:
            more = set(reached)
            for link in self.links:
                ends = {link.near.name, link.far.name}
                if link.connection is not None and link.connection.up and ends & more:
                    more |= ends
            if more == reached:
                return reached
            reached = more

    def check(self) -> None:
        for server in self.servers.values():
            reached = [self.servers[name].devices for name in self.reached(server)]
            devices = set().union(*reached)
            assert (server.name, set(server.router.owners)) == (server.name, devices)
            assert (server.name, set(server.known)) == (server.name, devices)
            for device, known in server.known.items():
                possible = [each[device] for each in reached if device in each]  # several only if it is shared
                assert known in possible, (server.name, device)
        for server in self.servers.values():
            for device in sorted(server.devices.keys() - {SHARED}):
                server.say("driver", update(device))
        self.settle()
        for server in self.servers.values():
            assert sorted(server.updates) == sorted(server.known.keys() - {SHARED}), "each update is heard once"
            server.updates.clear()


@pytest.mark.parametrize("name", SITES)
def test_everybody_knows_what_can_be_reached_whatever_happens_in_between(name: str) -> None:
    for seed in range(40):
        try:
            site = Site(SITES[name], seed)
            for server in site.servers.values():
                server.drive(server.name)
            for link in site.links:
                site.connect(link)
                site.some_steps()
            for _ in range(2):
                site.settle()
                site.check()
                for _ in range(site.random.randrange(1, 8)):
                    site.disturb()
                    site.some_steps()
            site.settle()
            site.check()
        except BaseException as failure:
            failure.add_note(f"seed {seed}")
            raise
