"""State shown by the terminal client: kept while the connection is lost, refreshed when it is back.

This module does not depend on Textual. Events arrive at any rate and only leave marks; `take` returns what changed
since its last call, and the app calls it only a few times a second.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from indifast.client import frame_sizes
from indifast.terminal.messages import MessageStore

Key: TypeAlias = tuple[str, str]
"""Names of a device and of one of its vectors."""

HISTORY = 240
"""Number of values that are kept for each number."""

HISTORIES = 4_000
"""Numbers whose values are kept; beyond that, those that have not changed for longest are dropped."""

PARTING = 3.0
"""Seconds before the loss of the link within which a deletion counts as part of the loss."""

CONNECTION = "CONNECTION"
"""The standard property by which a driver is connected to its device, with the switch `CONNECT`."""

FADE = 1.6
"""Seconds for which a changed value is highlighted."""


@dataclass(eq=False)
class Property:
    """A vector on the screen.

    `vector` is the client's live object; after the loss of the link, it holds the last state.
    """

    key: Key
    vector: Any
    lost: bool = False
    """Whether the link was lost since the last definition, so that the values are old."""
    busy_since: float | None = None
    """Time (`time.monotonic()`) at which the vector became Busy."""
    problem: str = ""
    """Why the last entry was not sent."""
    overdue: str = ""
    """A text that says that the last command was not answered in time, or empty."""
    edits: dict[str, str] = field(default_factory=dict)
    """Values that were entered but not sent yet, by member name."""
    changed: dict[str, float] = field(default_factory=dict)
    """Times (`time.monotonic()`) of changes that are still highlighted, by member name."""
    seen: dict[str, Any] = field(default_factory=dict)
    """Values at the last call of `look`, by member name."""
    frames: dict[str, Frame] = field(default_factory=dict)
    """The last BLOB of each member."""

    @property
    def state(self) -> str:
        """Idle, Ok, Busy or Alert."""
        state: str = self.vector.state
        return state

    @property
    def group(self) -> str:
        """The group, which may be empty."""
        return self.vector.group or ""

    @property
    def writable(self) -> bool:
        """Whether a command makes sense now."""
        return not self.lost and bool(self.vector.enable) and self.vector.perm != "ro"

    def moving(self) -> bool:
        """Return whether the appearance changes without an event: a highlight fades, or the Busy clock runs."""
        return bool(self.changed) or (self.busy_since is not None and not self.lost)

    def heat(self, member: str, now: float) -> float:
        """Return how fresh the last change of a member is, from 1 (just now) down to 0."""
        at = self.changed.get(member)
        return 0.0 if at is None else max(0.0, 1.0 - (now - at) / FADE)

    def fade(self, now: float) -> None:
        """Forget changes that are no longer highlighted."""
        for member in [member for member, at in self.changed.items() if now - at >= FADE]:
            del self.changed[member]

    def look(self, now: float) -> list[str]:
        """Read the vector, and return the names of the members whose values changed."""
        vector = self.vector
        if vector.state != "Busy":
            self.busy_since = None
        elif self.busy_since is None:
            self.busy_since = now
        if vector.vectortype == "BLOBVector":
            return []
        seen = self.seen
        fresh = not seen
        updated = []
        for name, member in vector.members().items():
            value = member.membervalue
            if seen.get(name) != value:
                updated.append(name)
                seen[name] = value
        if len(seen) > len(vector.members()):
            for name in [name for name in seen if name not in vector.members()]:
                del seen[name]
                self.edits.pop(name, None)
        if not fresh:
            for name in updated:
                self.changed[name] = now
        return updated


@dataclass
class Changes:
    """What happened since the last call of `take`."""

    keys: set[Key] = field(default_factory=set)
    """Vectors for which something arrived."""
    touched: set[Key] = field(default_factory=set)
    """Vectors to refresh although nothing arrived for them; `take` adds them to `keys`."""
    structure: bool = False
    """Whether vectors came or went, or changed group or label."""
    messages: bool = False
    link: bool = False
    """Whether the connection was made or lost."""
    another: bool = False
    """Whether another server is shown from now on."""
    frames: dict[tuple[str, str, str], Frame] = field(default_factory=dict)
    """The newest BLOB of each member, by (device, vector, member)."""
    arrived: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """Total bytes and number of the BLOBs of each member, by (device, vector, member)."""

    def __bool__(self) -> bool:
        return bool(self.keys or self.touched or self.structure or self.messages or self.link)


@dataclass
class Frame:
    """A BLOB that was received."""

    data: Any
    format: str
    size: int
    timestamp: Any
    sizes: list[tuple[int, int]]
    """Possible (width, height) pairs, if the content is raw pixels."""


class Board:
    """Everything on the screen, by device and vector. `wake` is called at the first change after a `take`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.properties: dict[Key, Property] = {}
        self._by_device: dict[str, dict[Key, Property]] = {}  # the same, to find those of a device quickly
        self.to_connect: set[str] = set()
        """Devices that were connected, and are not since their driver or the server started anew."""
        self.newest: Key | None = None
        """The vector whose BLOB arrived last."""
        self._in_use: set[str] = set()  # devices that are connected or in `to_connect`
        self._started: set[str] = set()  # devices whose CONNECTION was defined since the last `take`
        self.messages = MessageStore()
        self.linked = False
        """Whether the server is connected."""
        self._trying = False
        self.history: OrderedDict[tuple[str, str, str], deque[float]] = OrderedDict()
        self.blob_note: Callable[[Key], str] = lambda key: ""
        """Returns a text that says whether BLOBs of a property are requested; set by the session that requests them."""
        self._wake = wake
        self._changes = Changes()
        self._removed: deque[tuple[float, Property]] = deque(maxlen=10_000)

    def __iter__(self) -> Iterator[Property]:
        return iter(self.properties.values())

    @property
    def devices(self) -> int:
        """Number of devices."""
        return len(self._by_device)

    def clear(self) -> None:
        """Forget the devices, as another server will be shown; messages stay."""
        self.properties.clear()
        self._by_device.clear()
        self.history.clear()
        self.newest = None
        self._removed.clear()
        for devices in (self.to_connect, self._in_use, self._started):
            devices.clear()
        self._changes = Changes(structure=True, messages=True, link=True, another=True)
        self._wake()

    def forget_lost(self) -> None:
        """Forget the properties that did not come back after the link was lost, and which devices to connect again."""
        self._in_use -= self.to_connect
        self.to_connect.clear()
        for key in [key for key, shown in self.properties.items() if shown.lost]:
            self._take_out(key)
        idle = not self._changes
        self._changes.structure = True
        self._changes.touched.update(key for key in self.properties if key[1] == CONNECTION)
        if idle:
            self._wake()

    # -- Input

    @property
    def trying(self) -> bool:
        """Whether a connection is wanted, so that a lost one is retried."""
        return self._trying

    @trying.setter
    def trying(self, trying: bool) -> None:
        if trying != self._trying:
            idle = not self._changes
            self._trying = trying
            self._touch_lost()
            if idle and self._changes:
                self._wake()

    def _touch_lost(self) -> None:
        """Refresh lost properties, whose headings describe the link as it is now."""
        self._changes.touched.update(key for key, shown in self.properties.items() if shown.lost)

    def receive(self, event: Any) -> None:
        """Record an event of the client. This must be cheap, as there may be tens of thousands a second."""
        changes = self._changes
        idle = not changes
        kind = event.eventtype
        if kind == "Set":
            changes.keys.add((event.devicename, event.vectorname))
            if event.message:
                self._log(event.devicename, event.vectorname, event.timestamp, event.message)
        else:
            self._rare(kind, event)
        if idle and self._changes:
            self._wake()

    def _rare(self, kind: str, event: Any) -> None:
        changes = self._changes
        match kind:
            case "SetBLOB":
                changes.keys.add((event.devicename, event.vectorname))
                sizes = frame_sizes(event.device)
                shown = self.properties.get((event.devicename, event.vectorname))
                for name, (size, form) in event.sizeformat.items():
                    where = (event.devicename, event.vectorname, name)
                    data = event[name]
                    if data is None:
                        continue
                    self.newest = where[:2]
                    frame = changes.frames[where] = Frame(data, form, size, event.timestamp, sizes)
                    if shown is not None:
                        shown.frames[name] = frame
                    nbytes, count = changes.arrived.get(where, (0, 0))
                    changes.arrived[where] = (nbytes + len(data), count + 1)
                if event.message:
                    self._log(event.devicename, event.vectorname, event.timestamp, event.message)
            case "Define" | "DefineBLOB":
                self._define(event)
            case "Delete":
                self._delete(event)
            case "Message":
                self._log(event.devicename or "", "", event.timestamp, event.message)
            case "TimeOut":
                key = (event.devicename, event.vectorname)
                if key in self.properties:
                    shown = self.properties[key]
                    since = shown.busy_since
                    after = "" if since is None else f" for {time.monotonic() - since:.0f} s"
                    shown.overdue = f"the driver has not answered{after}"
                    changes.touched.add(key)
                self._log(*key, event.timestamp, f"no answer to {event.vectorname}", "Alert")
            case "ConnectionMade" | "ConnectionLost":
                self.linked = kind == "ConnectionMade"
                changes.link = True
                if not self.linked:
                    self._lose()
                self._touch_lost()

    def _define(self, event: Any) -> None:
        key = (event.devicename, event.vectorname)
        shown = self.properties.get(key)
        if shown is None or shown.vector.vectortype != event.vector.vectortype:
            self._put(Property(key, event.vector))
        else:
            shown.vector = event.vector
            shown.lost = False
            shown.problem = ""
        if key[1] == CONNECTION:
            self._started.add(key[0])
        self._changes.keys.add(key)
        self._changes.structure = True
        if event.message:
            self._log(event.devicename, event.vectorname, event.timestamp, event.message)

    def _delete(self, event: Any) -> None:
        device, name = event.devicename, event.vectorname
        keys = [(device, name)] if name is not None else list(self._by_device.get(device, ()))
        now = time.monotonic()
        while self._removed and self._removed[0][0] < now - PARTING:  # dropping them frees their frames
            self._removed.popleft()
        for key in keys:
            shown = self._take_out(key)
            if shown is not None:
                self._removed.append((now, shown))
        self._changes.structure = True
        if event.message:
            self._log(device, name or "", event.timestamp, event.message)

    def _lose(self) -> None:
        """Mark all properties as lost.

        A server that shuts down properly deletes its devices first, so recently deleted properties are restored.
        """
        since = time.monotonic() - PARTING
        while self._removed:
            when, shown = self._removed.popleft()
            if when >= since and shown.key not in self.properties:
                self._put(shown)
        for shown in self.properties.values():
            shown.lost = True
        self._changes.structure = True

    def _put(self, shown: Property) -> None:
        self.properties[shown.key] = shown
        self._by_device.setdefault(shown.key[0], {})[shown.key] = shown

    def _take_out(self, key: Key) -> Property | None:
        shown = self.properties.pop(key, None)
        if shown is not None:
            others = self._by_device[key[0]]
            del others[key]
            if not others:
                del self._by_device[key[0]]
        return shown

    def _log(self, device: str, vector: str, when: Any, text: str, level: str = "") -> None:
        self.messages.add(device, vector, when, text, level)
        self._changes.messages = True

    def note(self, text: str, level: str = "Alert") -> None:
        """Add a message from the program itself, an error by default."""
        idle = not self._changes
        self._log("", "", datetime.now(UTC), text, level)
        if idle:
            self._wake()

    def touch(self, key: Key) -> None:
        """Refresh a property for a reason unknown to the client."""
        idle = not self._changes
        self._changes.touched.add(key)
        if idle:
            self._wake()

    # -- Output

    def take(self, now: float | None = None) -> Changes:
        """Return what changed since the last call, after reading the values of all vectors that changed."""
        changes, self._changes = self._changes, Changes()
        now = time.monotonic() if now is None else now
        for key in changes.keys:
            if key in self.properties:
                self.properties[key].overdue = ""
        for device in [device for device, name in changes.keys if name == CONNECTION]:
            self._follow_connection(device, changes)
        changes.keys |= changes.touched
        for key in changes.keys:
            shown = self.properties.get(key)
            if shown is None:
                continue
            updated = shown.look(now)
            if updated and shown.vector.vectortype == "NumberVector":
                for name in updated:
                    self._remember((*key, name), shown.vector.getfloatvalue(name))
        return changes

    def _follow_connection(self, device: str, changes: Changes) -> None:
        """Note whether a device that was connected must be connected again, and say so when it turns out."""
        shown = self.properties.get((device, CONNECTION))
        member = None if shown is None else shown.vector.members().get("CONNECT")
        started = device in self._started
        self._started.discard(device)
        before = device in self.to_connect
        if member is None or member.membervalue == "On":
            self.to_connect.discard(device)
            if member is not None:
                self._in_use.add(device)
        elif device in self._in_use and started:
            self.to_connect.add(device)
            if not before:
                text = "is back, but no longer connected: turn Connect on"
                self.messages.add(device, CONNECTION, datetime.now(UTC), text, "Alert")
                changes.messages = True
        elif not before:  # somebody has disconnected it
            self._in_use.discard(device)
        if before or started:
            changes.link = True
            changes.touched.update(key for key, other in self._by_device.get(device, {}).items() if other.lost)

    def _remember(self, where: tuple[str, str, str], value: float) -> None:
        if not math.isfinite(value):
            return
        history = self.history
        values = history.get(where)
        if values is None:
            while len(history) >= HISTORIES:
                history.popitem(last=False)
            values = history[where] = deque(maxlen=HISTORY)
        else:
            history.move_to_end(where)
        values.append(value)

    def in_order(self) -> list[Property]:
        """Return all properties: devices by name, as which driver is the first differs from start to start.

        The properties of a device are in order of definition.
        """
        devices = sorted(self._by_device, key=lambda device: (device.casefold(), device))
        return [shown for device in devices for shown in self._by_device[device].values()]

    def of(self, device: str | None = None, group: str | None = None) -> list[Property]:
        """Return the properties of a device, or of one of its groups, in order of definition."""
        shown_ones = self.properties if device is None else self._by_device.get(device, {})
        return [shown for shown in shown_ones.values() if group is None or shown.group == group]
