"""Peers: what the router knows about each connection, driver and link."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import count
from typing import NamedTuple, Protocol, TypeAlias

from indifast.protocol.message import Routable
from indifast.protocol.vocabulary import ALSO, NEVER
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.frames import Property
from indifast.routing.inlet import Inlet
from indifast.routing.interest import BlobPolicies, Interests
from indifast.routing.link import COURTESY, FRAME_PAUSE, LEAD, frame_pause
from indifast.routing.requests import Requests

RouteKey: TypeAlias = tuple[str, str | None, str | None]
"""Tag, device, name."""


class Append(Protocol):
    """Puts a message into the queue of a receiver."""

    def __call__(self, message: Routable, now: float, begun: Callable[[], None] | None = None, /) -> None: ...


_MAX_TOLD = 5000  # properties per peer whose messages are counted

MAX_LOGGED = 100
"""Kinds of refusals and losses of one peer that are logged, once each; further ones are only counted."""

_numbers = count(1)


class Kind(Enum):
    """Which side of the server a peer is on."""

    CLIENT = "client"
    """A program that connected to us. It may be a server that shares its devices with us."""
    DRIVER = "driver"
    """A driver in this process or a child process."""
    REMOTE = "remote"
    """A server that we connected to."""


class Headroom(NamedTuple):
    """How far the next large frame of a producer may arrive."""

    part: float
    """The part that may arrive now: 1 or more for all of it."""
    waits: bool
    """Whether a reader has taken all of the frame before it, and waits for slower ones if this part is not all."""
    readers: tuple[Outbox, ...]
    """The queues by which the part may become more."""


class Courtesy:
    """The time for which the fastest readers of a producer's large frames may be made to wait for slower ones.

    It is a share of all time, so readers of about the same speed are kept together, and one that is clearly slower is
    soon a whole frame behind and counts no more. The methods take the time in monotonic seconds.
    """

    __slots__ = ("_left", "_since")

    def __init__(self) -> None:
        self._left = FRAME_PAUSE
        self._since = 0.0

    def left(self, now: float) -> float:
        """Return for how many seconds readers may wait now; 0 or less if they may not."""
        self._left = min(FRAME_PAUSE, self._left + (now - self._since) * COURTESY)
        self._since = now
        return self._left

    def spend(self, seconds: float) -> None:
        """Note that readers have waited."""
        self._left -= seconds


class Pace:
    """Whether any reader has started to take the newest frame of a producer, or a later one.

    Args:
        nbytes: The size of the frame on the wire.
        before: The pace of the producer's frame before this one.
    """

    __slots__ = ("before", "begun", "large", "on_begun", "patience", "readers", "size")

    def __init__(self, nbytes: int, before: Pace | None = None) -> None:
        self.size = nbytes
        self.begun = False
        self.before = before
        self.patience = frame_pause(nbytes)
        """Seconds that the producer waits at most."""
        self.large = self.patience > FRAME_PAUSE
        """Whether memory matters more than having the next frame at hand early."""
        self.on_begun: Callable[[], None] | None = None
        self.readers: list[Outbox] = []
        """Of a large frame: the queues of those readers whose progress counts in `room`."""

    def add(self, reader: Outbox) -> None:
        """Add the queue of a reader, which is about to get the large frame.

        Who has not begun the frame before this one is too slow to be waited for.
        """
        if not reader.blobs:
            self.readers.append(reader)

    def room(self) -> Headroom:
        """Return which part of the next frame may arrive before the readers have taken more of this one.

        Readers of about the same speed are thus kept close together, and pieces of this frame are freed as those of the
        next one come.
        """
        left = [reader.frames_left(self.size) for reader in self.readers]
        most = max(left, default=0.0)
        if not most:
            return Headroom(1.0, False, ())
        least = min(left)
        return Headroom(1 + LEAD - most, not least, (self.readers[left.index(least)], self.readers[left.index(most)]))

    def begin(self) -> None:
        """Note that a reader has taken the first byte of the frame, or that it was waited for long enough.

        The frame before it may have been dropped or replaced, so nobody is to wait for that one any more.
        """
        before, self.before = self.before, None
        if before is not None:
            before.begin()
        if not self.begun:
            self.begun = True
            if self.on_begun is not None:
                self.on_begun()


class Route:
    """Where messages of one kind about one property go, as long as `Peers.version` stays the same."""

    __slots__ = ("appends", "count", "readers", "receivers", "version")

    def __init__(self) -> None:
        self.version = -1
        self.appends: tuple[Append, ...] = ()
        self.readers: tuple[Outbox, ...] = ()
        """The outboxes of the clients and links among the receivers."""
        self.count = 0
        """Messages that took the route and are not yet added to the counts of the receivers."""
        self.receivers: tuple[Peer, ...] = ()


class Peer:
    """One connection, driver or link. Messages to it are put into `inlet`, and wait in `outbox`.

    Args:
        kind: Which side of the server the peer is on.
        label: The name of the peer in messages and in the log.
        outbox: The queue of messages to the peer; None for a new one that suits its kind.
        blob_enable: Whether BLOBs may cross a link.
        blobs_by_default: Whether a driver gets the BLOBs that it snoops on without asking for them by enableBLOB.
        limit_to: The only device that a link is for; None for all devices.
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
        """What the peer asked for by getProperties; for a driver, what it snoops on."""
        self.blobs = BlobPolicies(ALSO if blobs_by_default else NEVER)
        self.devices: dict[str, None] = {}
        """Devices that the peer owns, in the order of their definitions."""
        self.link = kind is Kind.REMOTE
        """Whether the peer is a server that shares devices with us.

        Messages without a device do not cross from link to link.
        """
        self.knows_via = False
        """Whether the peer has said that it is a server that wants to know which servers definitions have passed."""
        self.libindi_server = False
        """Whether the peer is a libindi server that reads from us.

        Such a server gets the snoop requests of our drivers, and knows no owners.
        """
        self.ring_links: set[Peer] = set()
        """Links that lead back to this libindi server, which is told nothing about the devices that they own."""
        self.probed = -math.inf
        """When the peer was last checked for rings."""
        self.conflicts: dict[str, bool] = {}
        """Devices that the peer offered although another one owns them. Nothing about them crosses this link.

        The values are whether a property was deleted in the meantime, which the other side may still take from us.
        """
        self.told_conflicts: set[str] = set()
        """Conflicts that clients were told about: once each, however often the peer offers the device."""
        self.blob_names: dict[str, dict[str, None]] = {}
        """BLOB properties of the peer's devices, if it has to be asked for BLOBs."""
        self.asked_blobs: dict[tuple[str, str], None] = {}
        """BLOB properties that the peer was last asked for by enableBLOB, also those that it has deleted since."""
        self.requests = Requests()
        """The requests for definitions to the peer."""
        self.routes: dict[RouteKey, Route] = {}
        self.last_route: Route | None = None
        self.pace: Pace | None = None
        """The pace of the newest frame from the peer that clients or links were to get."""
        self.awaited: Pace | None = None
        """The pace of the frame that a reader has to begin before more is read from the peer."""
        self.waits_for: dict[Peer, None] = {}
        """Drivers that have no room for the peer's commands. The peer is not read in the meantime."""
        self.waiters: dict[Peer, None] = {}
        """Peers that wait for room in this peer's outbox."""
        self.received = 0
        """Messages received from the peer."""
        self.told: Counter[Property] = Counter()
        """Messages put into the outbox, by property.

        Requests for definitions are not counted, and neither are sets with content for clients and links: the outbox
        counts those that it sends. Routes of other peers may have counts that are not yet added here.
        """
        self.refused: Counter[str] = Counter()
        """Messages that were refused, by reason."""
        self.logged: set[tuple[str, str | None]] = set()

    def __repr__(self) -> str:
        return f"<{self.kind.value} {self.label}>"

    def note(self, key: Property, count: int = 1) -> None:
        """Count messages to the peer about a property."""
        told = self.told
        before = told.get(key)
        if before is not None:
            told[key] = before + count
        elif len(told) < _MAX_TOLD:
            told[key] = count

    def counts(self, message: Routable) -> bool:
        """Return whether `told` counts a message that is put into the outbox."""
        return message.tag != "getProperties" and not (message.blob and isinstance(self.outbox, Outbox))

    def to_be_logged(self, what: str, device: str | None) -> bool:
        """Return whether to log something about the peer: each kind once per device, and a hundred lines in all."""
        key = (what, device)
        if key in self.logged or len(self.logged) >= MAX_LOGGED:
            return False
        self.logged.add(key)
        return True

    def wants(self, message: Routable) -> bool:
        """Return whether this peer wants a message about a device, according to its getProperties and enableBLOB."""
        device, name = message.device, message.name
        assert device is not None
        if message.tag == "delProperty":
            return self.interests.wants(device, name) if name is not None else self.interests.touches(device)
        if not self.interests.wants(device, name):
            return False
        return self.blobs.passes(message) and not (message.blob and self._cut_off(device))

    def wants_content(self, device: str, name: str | None) -> bool:
        """Return whether this peer wants the content of a BLOB property."""
        wanted = self.interests.wants(device, name) and self.blobs.content(device, name)
        return wanted and not self._cut_off(device)

    def _cut_off(self, device: str) -> bool:
        """Return whether no BLOBs of this device may cross the link."""
        return self.link and (not self.blob_enable or device in self.conflicts)


class Peers:
    """The peers that take part."""

    def __init__(self) -> None:
        self.version = 0
        """Grows whenever something changes that decides who gets what."""
        self.clients: dict[Peer, None] = {}
        self.drivers: dict[Peer, None] = {}
        self.remotes: dict[Peer, None] = {}
        self._all: dict[Peer, None] = {}
        self._sides = {Kind.CLIENT: self.clients, Kind.DRIVER: self.drivers, Kind.REMOTE: self.remotes}

    def changed(self) -> None:
        """Make all routes invalid."""
        self.version += 1

    def add(self, peer: Peer) -> None:
        """Add a peer."""
        self._all[peer] = None
        self._sides[peer.kind][peer] = None
        self.changed()

    def remove(self, peer: Peer) -> None:
        """Remove a peer that is gone for good."""
        del self._all[peer]
        del self._sides[peer.kind][peer]
        self.changed()

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._all

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._all)
