"""What the router knows of one connection, driver or link, and which of them there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import count
from typing import TypeAlias

from indifast.protocol.message import Routable
from indifast.protocol.vocabulary import ALSO, NEVER
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.frames import Property
from indifast.routing.inlet import Inlet
from indifast.routing.interest import BlobPolicies, Interests
from indifast.routing.requests import Requests

RouteKey: TypeAlias = tuple[str, str | None, str | None]
"""Tag, device, name."""

Append: TypeAlias = Callable[[Routable, float], None]
"""Puts a message into the queue of a receiver."""

_MAX_TOLD = 5000  # properties per peer of which messages are counted

MAX_LOGGED = 100
"""Kinds of refusals and losses of one peer that are logged, once each; more are counted only."""

_numbers = count(1)


class Kind(Enum):
    """On which side of the server a peer stands."""

    CLIENT = "client"
    """It connected to us. It may be a server that shares its devices with us."""
    DRIVER = "driver"
    """In this process or a child process."""
    REMOTE = "remote"
    """A server that we connected to."""


class Pace:
    """Whether any reader has begun to take the newest frame of a producer."""

    __slots__ = ("begun", "on_begun")

    def __init__(self) -> None:
        self.begun = False
        self.on_begun: Callable[[], None] | None = None

    def begin(self) -> None:
        """A reader has taken its first byte."""
        if not self.begun:
            self.begun = True
            if self.on_begun is not None:
                self.on_begun()


class Route:
    """Where messages of one kind about one property go, while `Peers.version` is what it was."""

    __slots__ = ("appends", "count", "readers", "receivers", "version")

    def __init__(self) -> None:
        self.version = -1
        self.appends: tuple[Append, ...] = ()
        self.readers: tuple[Outbox, ...] = ()
        """The outboxes of the clients and links among the receivers."""
        self.count = 0
        """Messages since the receivers were found out."""
        self.receivers: tuple[Peer, ...] = ()


class Peer:
    """One connection, driver or link; `outbox` holds what it is to be told, and `inlet` is where that is put in.

    `limit_to` restricts a link to one device; `blob_enable` says whether BLOBs may cross it; `blobs_by_default` is for
    drivers that get the BLOBs they snoop on without asking for them by enableBLOB.
    """

    def __init__(
        self,
        kind: Kind,
        label: str,
        outbox: Outbox | DriverOutbox | None = None,
        *,
        blob_enable: bool = True,
        blobs_by_default: bool = False,
        limit_to: str | None = None,
    ) -> None:
        self.kind = kind
        self.label = label
        self.number = next(_numbers)
        self.outbox = outbox or (DriverOutbox() if kind is Kind.DRIVER else Outbox())
        self.inlet: Inlet = self.outbox
        self.blob_enable = blob_enable
        self.limit_to = limit_to
        self.interests = Interests()
        """What it asked for by getProperties; of a driver, what it snoops on."""
        self.blobs = BlobPolicies(ALSO if blobs_by_default else NEVER)
        self.devices: dict[str, None] = {}
        """The devices that it owns, in the order of their definition."""
        self.link = kind is Kind.REMOTE
        """It is a server: it shares devices with us, and messages without a device do not cross from link to link."""
        self.knows_via = False
        """It has said that it is a server, and wants to know by which servers definitions have come."""
        self.libindi_server = False
        """A libindi server that reads from us: it hears the snoop requests of our drivers, and knows no owners."""
        self.ring_links: set[Peer] = set()
        """Links that lead back to this libindi server: it is told nothing of what they own."""
        self.probed = -math.inf
        """When it was last checked for rings."""
        self.conflicts: dict[str, None] = {}
        """Devices that it offered although they have an owner: nothing about them crosses this link."""
        self.told_conflicts: set[str] = set()
        """Those of which clients were told that it offers them as well; once, however often it does."""
        self.blob_names: dict[str, set[str]] = {}
        """BLOB properties of its devices, known where BLOBs have to be asked for."""
        self.asked_blobs: set[tuple[str, str]] = set()
        """BLOB properties that it was asked for by enableBLOB."""
        self.requests = Requests()
        """The requests for definitions that it is sent."""
        self.routes: dict[RouteKey, Route] = {}
        self.last_route: Route | None = None
        self.pace: Pace | None = None
        """Of the newest frame that somebody else was to get."""
        self.pace_before: Pace | None = None
        """Of the frame before that one."""
        self.waits_for: set[Peer] = set()
        """Drivers that have no room for its commands; it is not read meanwhile."""
        self.waiters: set[Peer] = set()
        """Peers that wait for room in its outbox."""
        self.received = 0
        """Messages."""
        self.told: Counter[Property] = Counter()
        """Messages about a property that were put into its outbox, without requests for definitions, and without sets
        with content for clients and links: of those the outbox counts what was sent. The routes of others hold what is
        not yet added here."""
        self.refused: Counter[str] = Counter()
        """Messages that were not obeyed, by reason."""
        self.logged: set[tuple[str, str | None]] = set()

    def __repr__(self) -> str:
        return f"<{self.kind.value} {self.label}>"

    def note(self, key: Property, count: int = 1) -> None:
        """Count what it was told about a property."""
        if key in self.told or len(self.told) < _MAX_TOLD:
            self.told[key] += count

    def counts(self, message: Routable) -> bool:
        """Whether `told` is to count a message that is put into the outbox."""
        return message.tag != "getProperties" and not (message.blob and isinstance(self.outbox, Outbox))

    def to_be_logged(self, what: str, device: str | None) -> bool:
        """Whether something about it is to be logged: each kind once per device, and a hundred in all."""
        key = (what, device)
        if key in self.logged or len(self.logged) >= MAX_LOGGED:
            return False
        self.logged.add(key)
        return True

    def wants(self, message: Routable) -> bool:
        """Whether to tell this peer something about a device (the filter of enableBLOB and getProperties)."""
        device, name = message.device, message.name
        assert device is not None
        if message.tag == "delProperty":
            return self.interests.wants(device, name) if name is not None else self.interests.touches(device)
        if not self.interests.wants(device, name):
            return False
        return self.blobs.passes(message) and not (message.blob and self._cut_off(device))

    def wants_content(self, device: str, name: str | None) -> bool:
        """Whether this peer wants the content of a BLOB property."""
        wanted = self.interests.wants(device, name) and self.blobs.content(device, name)
        return wanted and not self._cut_off(device)

    def _cut_off(self, device: str) -> bool:
        """No BLOBs of this device cross the link."""
        return (self.link and not self.blob_enable) or device in self.conflicts


class Peers:
    """Those that take part."""

    def __init__(self) -> None:
        self.version = 0
        """Another one whenever something has changed that decides who gets what."""
        self.clients: dict[Peer, None] = {}
        self.drivers: dict[Peer, None] = {}
        self.remotes: dict[Peer, None] = {}
        self._all: dict[Peer, None] = {}
        self._sides = {Kind.CLIENT: self.clients, Kind.DRIVER: self.drivers, Kind.REMOTE: self.remotes}

    def changed(self) -> None:
        """Routes have to be found out anew."""
        self.version += 1

    def add(self, peer: Peer) -> None:
        """One more."""
        self._all[peer] = None
        self._sides[peer.kind][peer] = None
        self.changed()

    def remove(self, peer: Peer) -> None:
        """One is gone for good."""
        del self._all[peer]
        del self._sides[peer.kind][peer]
        self.changed()

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._all

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._all)
