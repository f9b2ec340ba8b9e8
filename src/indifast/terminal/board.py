"""What the terminal shows of a server: kept while the connection is lost, refreshed when it is back.

Nothing here knows Textual. Events come in at any rate and only leave marks; `take` hands out what changed since it was
last called, which the app does at most some times a second.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from indifast.client import frame_sizes
from indifast.terminal.messages import MessageStore

Key: TypeAlias = tuple[str, str]
"""Names of a device and of a vector of it."""

HISTORY = 240
"""Values that are remembered of a number."""

HISTORIES = 4_000
"""Numbers whose values are remembered; beyond, those go that have not changed for longest."""

PARTING = 3.0
"""Seconds before a loss of the link in which a deletion counts as part of it."""

FADE = 1.6
"""Seconds for which a changed value is highlighted."""


@dataclass(eq=False)
class Property:
    """A vector on the screen. `vector` is the client's live one; after a loss of the link it shows the last state."""

    key: Key
    vector: Any
    lost: bool = False
    """The link was lost since this was last defined: the values are old."""
    busy_since: float | None = None
    """Seconds of `time.monotonic()` at which it became Busy."""
    problem: str = ""
    """Why the last entry was not sent."""
    overdue: str = ""
    """That the last command was not answered in time."""
    edits: dict[str, str] = field(default_factory=dict)
    """Values by member name, entered and not sent yet."""
    changed: dict[str, float] = field(default_factory=dict)
    """Seconds of `time.monotonic()` at which members changed, while that is highlighted."""
    seen: dict[str, Any] = field(default_factory=dict)
    """Values as they were last looked at, by member name."""
    frames: dict[str, Frame] = field(default_factory=dict)
    """The last BLOB of each member."""

    @property
    def state(self) -> str:
        """Idle, Ok, Busy or Alert."""
        state: str = self.vector.state
        return state

    @property
    def group(self) -> str:
        """The group, which may be an empty text."""
        return self.vector.group or ""

    @property
    def writable(self) -> bool:
        """Whether a command makes sense now."""
        return not self.lost and bool(self.vector.enable) and self.vector.perm != "ro"

    def moving(self) -> bool:
        """Whether it looks different a moment later without any event: a highlight fades, the clock of Busy runs."""
        return bool(self.changed) or (self.busy_since is not None and not self.lost)

    def heat(self, member: str, now: float) -> float:
        """How fresh the last change of a member is: from 1, just now, down to 0."""
        at = self.changed.get(member)
        return 0.0 if at is None else max(0.0, 1.0 - (now - at) / FADE)

    def fade(self, now: float) -> None:
        """Forget changes that are highlighted no more."""
        for member in [member for member, at in self.changed.items() if now - at >= FADE]:
            del self.changed[member]

    def look(self, now: float) -> list[str]:
        """Take in what the vector says; gives the names of the members whose values changed."""
        vector = self.vector
        if vector.state != "Busy":
            self.busy_since = None
        elif self.busy_since is None:
            self.busy_since = now
        if vector.vectortype == "BLOBVector":
            return []
        seen = self.seen
        fresh = not seen
        news = []
        for name, member in vector.members().items():
            value = member.membervalue
            if seen.get(name) != value:
                news.append(name)
                seen[name] = value
        if len(seen) > len(vector.members()):
            for name in [name for name in seen if name not in vector.members()]:
                del seen[name]
                self.edits.pop(name, None)
        if not fresh:
            for name in news:
                self.changed[name] = now
        return news


@dataclass
class Changes:
    """What happened since the last look."""

    keys: set[Key] = field(default_factory=set)
    """Vectors of which something came."""
    touched: set[Key] = field(default_factory=set)
    """Vectors to be shown anew although nothing came of them; `take` adds them to `keys`."""
    structure: bool = False
    """Vectors came or went, or have another group or label."""
    messages: bool = False
    link: bool = False
    """The connection was made or lost."""
    another: bool = False
    """Another server is shown from now on."""
    frames: dict[tuple[str, str, str], Frame] = field(default_factory=dict)
    """The newest BLOB of each member (device, vector, member)."""
    arrived: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """Bytes and number of all BLOBs of each member."""

    def __bool__(self) -> bool:
        return bool(self.keys or self.touched or self.structure or self.messages or self.link)


@dataclass
class Frame:
    """A BLOB that came."""

    data: Any
    format: str
    size: int
    timestamp: Any
    sizes: list[tuple[int, int]]
    """Width and height that it may have, if it is raw pixels."""


class Board:
    """Everything on the screen, by device and vector. `wake` is called when, after a `take`, the first change comes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.properties: dict[Key, Property] = {}
        self._by_device: dict[str, dict[Key, Property]] = {}  # the same, so that a device need not be searched for
        self.messages = MessageStore()
        self.linked = False
        """Whether the server is connected."""
        self._trying = False
        self.history: OrderedDict[tuple[str, str, str], deque[float]] = OrderedDict()
        self.blob_note: Callable[[Key], str] = lambda key: ""
        """Says whether BLOBs of a property are asked for; whoever asks for them sets it."""
        self._wake = wake
        self._changes = Changes()
        self._removed: deque[tuple[float, Property]] = deque(maxlen=10_000)

    def __iter__(self) -> Iterator[Property]:
        return iter(self.properties.values())

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self._by_device)

    def clear(self) -> None:
        """Forget the devices: another server will be shown. Messages stay."""
        self.properties.clear()
        self._by_device.clear()
        self.history.clear()
        self._removed.clear()
        self._changes = Changes(structure=True, messages=True, link=True, another=True)
        self._wake()

    def forget_lost(self) -> None:
        """Forget what did not come back after the link was lost."""
        for key in [key for key, shown in self.properties.items() if shown.lost]:
            self._take_out(key)
        idle = not self._changes
        self._changes.structure = True
        if idle:
            self._wake()

    # -- in

    @property
    def trying(self) -> bool:
        """Whether a connection is wanted, so that one that is lost is tried again."""
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
        """What was lost says why, and that depends on the link as it is now."""
        self._changes.touched.update(key for key, shown in self.properties.items() if shown.lost)

    def receive(self, event: Any) -> None:
        """Note an event of the client. Costs next to nothing: there may be tens of thousands a second."""
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
        self._changes.keys.add(key)
        self._changes.structure = True
        if event.message:
            self._log(event.devicename, event.vectorname, event.timestamp, event.message)

    def _delete(self, event: Any) -> None:
        device, name = event.devicename, event.vectorname
        keys = [(device, name)] if name is not None else list(self._by_device.get(device, ()))
        now = time.monotonic()
        while self._removed and self._removed[0][0] < now - PARTING:  # with the frames that it had
            self._removed.popleft()
        for key in keys:
            shown = self._take_out(key)
            if shown is not None:
                self._removed.append((now, shown))
        self._changes.structure = True
        if event.message:
            self._log(device, name or "", event.timestamp, event.message)

    def _lose(self) -> None:
        """The link is lost, so what is shown is old. A server that ends in order deletes its devices before it goes."""
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
        """Add a message of the program's own; by default an error."""
        from datetime import UTC, datetime

        idle = not self._changes
        self._log("", "", datetime.now(UTC), text, level)
        if idle:
            self._wake()

    def touch(self, key: Key) -> None:
        """A property is to be shown anew, for a reason the client knows nothing of."""
        idle = not self._changes
        self._changes.touched.add(key)
        if idle:
            self._wake()

    # -- out

    def take(self, now: float | None = None) -> Changes:
        """What changed since the last time, after looking at the values of all that did."""
        changes, self._changes = self._changes, Changes()
        now = time.monotonic() if now is None else now
        for key in changes.keys:
            if key in self.properties:
                self.properties[key].overdue = ""
        changes.keys |= changes.touched
        for key in changes.keys:
            shown = self.properties.get(key)
            if shown is None:
                continue
            news = shown.look(now)
            if news and shown.vector.vectortype == "NumberVector":
                for name in news:
                    self._remember((*key, name), shown.vector.getfloatvalue(name))
        return changes

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

    def of(self, device: str | None = None, group: str | None = None) -> list[Property]:
        """The properties of a device, or of one group of it, in the order of their definition."""
        shown_ones = self.properties if device is None else self._by_device.get(device, {})
        return [shown for shown in shown_ones.values() if group is None or shown.group == group]
