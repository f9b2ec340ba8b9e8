"""What happens in a run: the site, and a list of steps, both made from the seed before anything runs.

Each step has its own time and names who does what. A step whose actor can't do it at that moment does nothing, so a
run with fewer steps is a run as well: that is how failures are shrunk.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from indifast.protocol.limits import DEFAULT_LIMITS
from tests.simulation.network import Conditions
from tests.simulation.nodes import Settings

SHARED = "Shared"
"""A device that several drivers offer."""

ONE = "A"
FOREIGN_RING = "a ring through a foreign server"
SITES = {
    "one server": ONE,
    "one link": "AB",
    "a line": "AB BC",
    "a star": "AB AC AD",
    "a ring of two": "AB BA",
    "two links side by side": "AB AB",
    "a ring of three": "AB BC CA",
    "two ways to one server": "AB AC CB",
    "a ring of four": "AB BC CD DA",
    "each with each": "AB AC AD BC BD CD",
    "a foreign server between": "Af fB",
    FOREIGN_RING: "Af fA fB",
}
"""Servers, by one letter each, and links: the first one connects to the second. Small letters are foreign servers."""

FORMS = (".fits", ".stream", ".stream.z", ".bin")
KINDS = ("Number", "Text", "Switch", "Light", "BLOB")


class Theme(NamedTuple):
    """What happens more often than otherwise."""

    more: Mapping[str, float] = MappingProxyType({})
    """By how much, for each kind of step."""
    faults: tuple[float, ...] = (0, 1, 1, 2)
    """How many faults there may be for ten things that drivers do and five that clients do."""
    series: tuple[int, ...] = (1, 1, 3, 10)
    """BLOBs in a row."""
    bursts: tuple[int, ...] = (3, 10, 30, 100)
    """Updates of each property in a row."""
    forms: tuple[str, ...] = FORMS
    snoops: tuple[int, ...] = (0, 0, 1)
    """What a driver asks for when it starts."""
    rooms: tuple[int, ...] = (2 << 10, 4 << 10, 32 << 10)
    """Bytes that may wait for a driver."""
    choosy: bool = False
    """Whether clients only ask for single devices and properties."""
    shared: float = 0.25
    """Share of drivers that offer the device that all may offer."""
    threads: float = 0.3
    """Share of a server's connections to which a thread writes."""


MIXED = "a bit of everything"
THEMES = {
    MIXED: Theme(),
    "slow readers of BLOBs": Theme(
        {"frame": 3, "enable": 2, "stall": 4, "link": 2}, series=(3, 10, 40), forms=(".stream", ".stream.z", "varied")
    ),
    "busy snoopers": Theme(
        {"define": 4, "delete": 4, "burst": 2, "snoop": 3, "driver stalls": 8, "driver": 4},
        (2, 4),
        snoops=(1, 2, 4),
        rooms=(2 << 10,),
    ),
    "choosy clients": Theme({"ask": 4, "enable": 4, "connect": 3, "leave": 3, "driver": 3, "crowd": 6}, choosy=True),
    "many commands": Theme({"command": 2, "flood": 8, "driver stalls": 8, "link": 4}, (2, 4), rooms=(2 << 10, 4 << 10)),
    "failing links": Theme(
        {"define": 3, "delete": 3, "burst": 4, "link": 5, "partition": 6, "server": 2}, (3, 6), bursts=(10, 100, 200)
    ),
    "stalled links": Theme(
        {"burst": 4, "frame": 4, "enable": 3, "partition": 30, "link": 6, "server": 0.2},
        (6,),
        series=(10, 40),
        bursts=(100, 200),
        forms=(".stream",),
        threads=0.8,
    ),
    "brief devices": Theme({"define": 6, "delete": 9, "driver": 4, "link": 2}, (1, 3)),
    "changing minds": Theme({"snoop": 12, "enable": 12, "delete": 8, "define": 3, "leave": 2}, (0,), snoops=(1, 2)),
    "rivals": Theme({"delete": 6, "define": 3, "driver": 6}, (1, 3), shared=0.8),
}
"""What seeds are about; half of them mixed."""


class Step(NamedTuple):
    """One thing that happens."""

    at: float
    who: str
    does: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        args = ", ".join(map(repr, self.args))
        return f"{self.at:8.4f}  {self.who:8} {self.does}({args})"


class DriverPlan(NamedTuple):
    """A driver to be."""

    name: str
    server: str
    local: bool
    pipes: bool
    forgiving: bool
    asks_again: bool
    vectors: tuple[tuple[str, str, str, tuple[str, ...]], ...]
    """Device, name, kind, members."""


class ClientPlan(NamedTuple):
    """A client to be."""

    name: str
    server: str
    local: bool


class LinkPlan(NamedTuple):
    """A link to be."""

    near: str
    far: str
    blobs: bool
    device: str | None

    @property
    def name(self) -> str:
        return f"{self.near}>{self.far}"


@dataclass(frozen=True)
class Script:
    """A site, and what happens there."""

    seed: int
    shape: str
    servers: tuple[str, ...]
    links: tuple[LinkPlan, ...]
    drivers: tuple[DriverPlan, ...]
    clients: tuple[ClientPlan, ...]
    settings: Settings
    steps: tuple[Step, ...]
    style: str
    """What its network is like."""
    theme: str

    @property
    def foreign(self) -> bool:
        """Whether there are servers that know no owners."""
        return any(server.islower() for server in self.servers)

    @property
    def duration(self) -> float:
        return max((step.at for step in self.steps), default=0.0) + 1.0

    def describe(self) -> str:
        """Return the site in a few lines."""
        lines = [f"seed {self.seed}: {self.shape} ({self.style} network), {self.theme}, {len(self.steps)} steps"]
        lines.append(f"  {self.settings}")
        for driver in self.drivers:
            kind = "in the server" if driver.local else "pipes" if driver.pipes else "a socket"
            vectors = ", ".join(f"{device}.{name} ({kind})" for device, name, kind, _ in driver.vectors)
            lines.append(f"  driver {driver.name} of {driver.server}, {kind}: {vectors}")
        for client in self.clients:
            lines.append(f"  client {client.name} of {client.server}, {'local' if client.local else 'TCP'}")
        for link in self.links:
            blobs = "with BLOBs" if link.blobs else "without BLOBs"
            lines.append(f"  link {link.name}, {blobs}{f', for {link.device} only' if link.device else ''}")
        return "\n".join(lines)

    def listing(self, chosen: Iterable[int]) -> str:
        """Return some of the steps as lines with their numbers."""
        return "\n".join(f"  {number:4}  {self.steps[number]}" for number in chosen)


def make(seed: int, shape: str | None = None, theme: str | None = None) -> Script:
    """Make the script of a seed, with another shape or theme than the seed chooses."""
    return _Author(seed, shape, theme).write()


STYLES: dict[str, tuple[Conditions, ...]] = {
    "fast": (Conditions(), Conditions(latency=0.0002)),
    "slow": (
        Conditions(latency=0.02),
        Conditions(latency=0.05, bandwidth=40_000, capacity=8 << 10),
        Conditions(latency=0.005, capacity=4 << 10, short_writes=0.3),
    ),
    "choppy": (
        Conditions(pieces=(1, 3, 40, 900), capacity=16 << 10, short_writes=0.3),
        Conditions(pieces=(100, 2000), jitter=20.0),
        Conditions(capacity=3 << 10, pieces=(50, 5000), short_writes=0.5),
    ),
}


class _Author:
    """Writes a script; `rng` decides."""

    def __init__(self, seed: int, shape: str | None, theme: str | None) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        weights = [len(THEMES) - 1 if each == MIXED else 1 for each in THEMES]
        self.title = theme or random.Random(f"{seed}/theme").choices(list(THEMES), weights)[0]
        self.theme = THEMES[self.title]
        shapes = list(SITES)
        chosen = rng.choices(shapes, [8, 2, 4, 2, 2, 2, 2, 1, 1, 1, 1, 1])[0]
        self.shape = shape or chosen
        plan = SITES[self.shape]
        self.servers = tuple(sorted(set(plan) - {" "}))
        self.steps: list[Step] = []
        self.style = rng.choices(list(STYLES), [3, 2, 2])[0]
        blobs = rng.random() < 0.85
        self.links: list[LinkPlan] = []
        for pair in plan.split() if len(plan) > 1 else ():
            self.links.append(LinkPlan(pair[0], pair[1], blobs, None))
        self.drivers: list[DriverPlan] = []
        self.clients: list[ClientPlan] = []
        self._snooped: dict[str, list[tuple[str, str | None]]] = {}

    def write(self) -> Script:
        for server in self.servers:
            if server.isupper():
                self._people(server)
        settings = self._settings()
        self._beginning()
        self._middle()
        self.steps.sort(key=lambda step: step.at)
        return Script(
            self.seed,
            self.shape,
            self.servers,
            tuple(self.links),
            tuple(self.drivers),
            tuple(self.clients),
            settings,
            tuple(self.steps),
            self.style,
            self.title,
        )

    def _choose(self, kinds: Mapping[str, float]) -> str:
        """Choose a kind of step, by what usually happens and what the theme is."""
        weights = [weight * self.theme.more.get(kind, 1) for kind, weight in kinds.items()]
        return self.rng.choices(list(kinds), weights)[0]

    def _settings(self) -> Settings:
        rng = self.rng
        queue, stream, small = rng.choice(
            (
                (24 << 10, 6 << 10, 48 << 10),
                (12 << 10, 4 << 10, 32 << 10),
                (60 << 10, 0, 32 << 10),
                (6 << 10, 1 << 10, 64 << 10),
            )
        )
        limits = replace(DEFAULT_LIMITS, queue=queue, stream=stream, small_queue=small, stall=8.0, partial_memory=1e-9)
        return Settings(
            limits,
            driver_room=rng.choice(self.theme.rooms),
            newest_wins=rng.random() < 0.25,
            accept_links=len(self.servers) == 1 or rng.random() < 0.9,
            keepalive=rng.choice((0.0, 0.0, 7.0)),
        )

    def _people(self, server: str) -> None:
        """Drivers and clients of one server."""
        rng = self.rng
        alone = len(self.servers) == 1
        for number in range(rng.choice((1, 2, 2, 3) if alone else (0, 1, 1, 2))):
            name = f"{server}d{number}"
            devices = [f"{name}.{each}" for each in "xy"[: rng.choice((1, 1, 2))]]
            if rng.random() < self.theme.shared:
                devices.append(SHARED)
            vectors = []
            for device in devices:
                for at in range(rng.choice((1, 2, 3))):
                    kind = rng.choices(KINDS, (3, 1, 1, 1, 4))[0]
                    members = ("m0", "m1", "m2")[: rng.choice((1, 2, 3))]
                    vectors.append((device, f"{kind[0]}{at}", kind, members))
            local = rng.random() < 0.35
            self.drivers.append(
                DriverPlan(
                    name, server, local, rng.random() < 0.2, rng.random() < 0.6, rng.random() < 0.6, tuple(vectors)
                )
            )
        for number in range(rng.choice((2, 3, 4) if alone else (1, 1, 2))):
            self.clients.append(ClientPlan(f"{server}c{number}", server, rng.random() < 0.5))

    def _add(self, at: float, who: str, does: str, *args: Any) -> None:
        self.steps.append(Step(round(at, 4), who, does, args))

    def _beginning(self) -> None:
        """Everybody comes, in any order."""
        rng = self.rng
        spread = rng.choice((0.0, 0.3, 1.5))
        for driver in self.drivers:
            if rng.random() < 0.95:
                self._add(rng.random() * spread, driver.name, "start")
            for _ in range(rng.choice(self.theme.snoops)):
                self._snoop_step(rng.random() * spread, driver.name)
        for number, _link in enumerate(self.links):
            self._add(rng.random() * spread, f"link{number}", "make")
        for client in self.clients:
            at = rng.random() * spread
            self._add(at, client.name, "connect")
            self._wishes(client.name, at)

    def _wishes(self, client: str, at: float) -> None:
        rng = self.rng
        for _ in range(rng.choice((1, 1, 1, 2))):
            device, name, _ = self._any_vector()
            self._add(at, client, "ask", *self._wish(device, name, (2, 1, 1)))
        for _ in range(rng.choice((0, 1, 2, 3))):
            device, name, _ = self._any_vector("BLOB")
            self._add(at, client, "enable", device, rng.choice((None, name)), rng.choice(("Also", "Also", "Only")))

    def _wish(self, device: str, name: str, weights: tuple[int, int, int]) -> tuple[str | None, str | None]:
        """Choose what to ask for: everything, a device, or a property."""
        everything, *less = weights
        wishes = ((None, None), (device, None), (device, name))
        return self.rng.choices(wishes, (0 if self.theme.choosy else everything, *less))[0]

    def _any_vector(self, kind: str | None = None) -> tuple[str, str, str]:
        rng = self.rng
        vectors = [vector for driver in self.drivers for vector in driver.vectors if kind in (None, vector[2])]
        if not vectors or rng.random() < 0.03:
            return "Nobody", "N0", "Number"
        device, name, found, _ = rng.choice(vectors)
        return device, name, found

    def _middle(self) -> None:
        rng = self.rng
        now = 0.5
        faults = rng.choice(self.theme.faults)
        for _ in range(rng.choice((30, 60, 100, 160))):
            now += rng.choice((0.0, 0.0, 0.001, 0.02, 0.1, 0.3))
            group = rng.choices(("driver", "client", "fault"), (10, 5, faults))[0]
            if group == "driver" and self.drivers:
                self._driver_step(now)
            elif group == "client":
                self._client_step(now)
            elif group == "fault":
                self._fault_step(now)

    def _driver_step(self, now: float) -> None:
        rng = self.rng
        driver = rng.choice(self.drivers)
        device, name, _kind, _ = rng.choice(driver.vectors)
        blobs = [vector for vector in driver.vectors if vector[2] == "BLOB"]
        kinds = {"update": 6, "burst": 1.5, "define": 1, "delete": 1, "tell": 1, "forge": 0.7, "snoop": 0.7}
        does = self._choose(kinds | {"frame": 8, "damage": 0.7} if blobs else kinds)
        if does == "update":
            self._add(now, driver.name, "update", device, name)
        elif does == "burst":
            self._add(now, driver.name, "burst", device, rng.choice(self.theme.bursts))
        elif does == "frame":
            device, name, _, _ = rng.choice(blobs)
            size = rng.choice((40, 300, 1500, 1900, 3000, 9000))
            form, count = rng.choice(self.theme.forms), rng.choice(self.theme.series)
            self._add(now, driver.name, "frame", device, name, size, form, count)
        elif does == "define":
            self._add(now, driver.name, "define", device, name)
        elif does == "delete":
            whole = rng.random() < 0.4
            self._add(now, driver.name, "delete", device, None if whole else name)
            if rng.random() < 0.8:
                self._add(now + rng.choice((0.0, 0.01, 0.5)), driver.name, "define", device, name)
        elif does == "tell":
            self._add(now, driver.name, "tell", rng.choice((None, device)))
        elif does == "forge":
            device, name, _ = self._any_vector()
            self._add(now, driver.name, "forge", device, name, rng.choice(("set", "del", "def")))
        elif does == "snoop":
            self._snoop_step(now, driver.name)
        else:
            device, name, _, _ = rng.choice(blobs)
            self._add(now, driver.name, "damage", device, name)

    def _snoop_step(self, now: float, driver: str) -> None:
        """Let a driver ask for a device or a property of another one, or change its mind about the BLOBs."""
        rng = self.rng
        snooped = self._snooped.setdefault(driver, [])
        if snooped and rng.random() < 0.5:
            what = rng.choice(snooped)
        else:
            others = [vector for each in self.drivers if each.name != driver for vector in each.vectors]
            device, name, *_ = rng.choice(others) if others else self._any_vector()
            what = (device, rng.choice((None, name)))
            snooped.append(what)
        self._add(now, driver, "snoop", *what, rng.choice(("Never", "Also", "Only")))

    def _client_step(self, now: float) -> None:
        rng = self.rng
        client = rng.choice(self.clients).name
        device, name, kind = self._any_vector()
        kinds = {"ping": 4, "command": 4, "enable": 3, "ask": 2, "connect": 3, "leave": 1, "stall": 2}
        does = self._choose(kinds | {"forge": 0.7, "crowd": 0.7, "upload": 1, "flood": 0.5})
        if does in ("ping", "connect", "leave"):
            self._add(now, client, does)
        elif does == "command":
            self._add(now, client, "command", device, name, "Number" if kind == "Light" else kind, rng.choice((1, 2)))
        elif does == "enable":
            device, name, _ = self._any_vector("BLOB")
            policy = rng.choice(("Never", "Also", "Only"))
            self._add(now, client, "enable", device, rng.choice((None, name)), policy)
        elif does == "ask":
            self._add(now, client, "ask", *self._wish(device, name, (1, 1, 1)))
        elif does == "stall":
            self._add(now, client, "stall", rng.choice((0.05, 0.5, 3.0, 25.0)))
        elif does == "forge":
            self._add(now, client, "forge", device, name, rng.choice(("set", "del", "message")))
        elif does == "crowd":
            self._add(now, client, "crowd", rng.choice((None, device)), rng.choice((5, 30)))
            other = rng.choice(self.clients).name
            self._add(now, other, "connect")
            self._add(now + rng.choice((0.0, 0.0005, 0.002)), other, "ask", *self._wish(device, name, (0, 1, 1)))
        elif does == "upload":
            device, name, _ = self._any_vector("BLOB")
            self._add(now, client, "upload", device, name, rng.choice((50, 900, 2500, 5000)))
        else:
            kind = "Number" if kind in ("Light", "BLOB") else kind
            self._add(now, client, "command", device, name, kind, rng.choice((20, 60)))

    def _fault_step(self, now: float) -> None:
        rng = self.rng
        kinds = {"driver": 1, "driver stalls": 1, "client": 1, "partition": 1}
        if self.links and self.shape != FOREIGN_RING:
            kinds |= {"link": 3, "server": 1}
        does = self._choose(kinds)
        if does == "driver" and self.drivers:
            driver = rng.choice(self.drivers).name
            self._add(now, driver, rng.choice(("die", "cut", "retire")))
            if rng.random() < 0.7:
                self._add(now + rng.choice((0.0, 0.4, 2.0)), driver, "start")
        elif does == "driver stalls" and self.drivers:
            self._add(now, rng.choice(self.drivers).name, "stall", rng.choice((0.2, 2.0, 9.0)))
        elif does == "client":
            client = rng.choice(self.clients).name
            self._add(now, client, "cut")
            if rng.random() < 0.7:
                self._add(now + rng.choice((0.0, 0.4, 2.0)), client, "connect")
        elif does == "partition":
            # A foreign server does not know owners: at a partition it would take the devices of all away.
            links = range(len(self.links) if self.shape != FOREIGN_RING else 0)
            who = rng.choice([each.name for each in self.clients] + [f"link{each}" for each in links])
            self._add(now, who, "partition", rng.choice((0.1, 1.0, 12.0)))
        elif does == "link":
            self._add(now, f"link{rng.randrange(len(self.links))}", "cut")
        elif does == "server":
            server = rng.choice([each for each in self.servers if each.isupper()])
            self._add(now, server, "crash")
            self._add(now + rng.choice((0.1, 1.0, 4.0)), server, "start")


def parse_steps(text: str, count: int) -> list[int]:
    """Return the numbers in a text such as "0-5,9,12-".

    Raises:
        ValueError: It is no such text.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = int(first)
        end = int(last) if last else (count - 1 if dash else begin)
        found += range(begin, min(end, count - 1) + 1)
    return found


def write_steps(numbers: Sequence[int]) -> str:
    """Return numbers as a text that `parse_steps` reads."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
