"""What a client of the soak test was told, and what was wrong with it.

The rules, for each property:

* A counter (`beat`) goes up by one with each update. Only the deletion of its device, or a new connection, permits a
  gap or a new run of the driver; even then the counter never goes back.
* What another driver repeats of a counter (`mirror`) never goes back.
* Frames are what their sender made, and their numbers go up. Between two frames of one connection, the only ones that
  may be missing are those whose loss the server has announced.
* Commands of one sender arrive in their order (`token`).

An update may come before the definition that the client has asked for. It does not count.

Only the standard library is used here, so that a fault of indifast cannot hide itself.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.soak import payload
from tests.soak.payload import Damaged, Identity

COUNTER, MIRROR, TOKEN = "beat", "mirror", "token"

_DROPPED = re.compile(r"(\d+) BLOBs?(?: of (\S+))? dropped: ")
_REPORTED = 20  # violations that a report has in full

Property = tuple[str, str]
"""Device and name."""


@dataclass
class _Count:
    last: Identity | None = None
    defined: bool = False
    by_definition: bool = False  # the last value came in a definition, so an update may repeat it
    updates: int = 0


@dataclass
class _Frames:
    last: Identity | None = None
    continuous: bool = False  # a frame came since the device was defined, so no other may be missing from here on
    received: int = 0
    excused: int = 0  # may be missing, because the server has announced that


@dataclass
class Ledger:
    """See the module's docstring. The client calls a method for everything that it is told."""

    violations: list[str] = field(default_factory=list)
    violated: int = 0
    connections: int = 0
    connected: bool = False
    messages: int = 0
    """Definitions, and updates of everything but BLOBs."""
    nbytes: int = 0
    frames_total: int = 0
    damaged_links: int = 0
    """Connections that the client gave up because of what it was sent, or because descriptors were lost."""
    unannounced: Counter[str] = field(default_factory=Counter)
    """Frames that are missing without an announcement, by property."""
    announced: int = 0
    _counts: dict[Property, _Count] = field(default_factory=dict)
    _frames: dict[tuple[str, str, str], _Frames] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _senders: dict[tuple[str, str], int] = field(default_factory=dict)
    _devices: dict[str, set[str]] = field(default_factory=dict)

    def violation(self, text: str) -> None:
        """Note that something is wrong."""
        self.violated += 1
        if len(self.violations) < _REPORTED:
            self.violations.append(text)

    # -- The connection

    def made(self) -> None:
        """The client has connected."""
        self.connected = True
        self.connections += 1

    def lost(self) -> None:
        """The connection is gone, and with it all that was defined."""
        self.connected = False
        for device in list(self._devices):
            self.deleted(device, None)

    # -- Messages

    def defined(self, device: str, name: str, values: dict[str, Any]) -> None:
        """A property was defined. `values` are those of its members."""
        self.messages += 1
        self._devices.setdefault(device, set()).add(name)
        if name == COUNTER:
            self._define_counter(device, name, _identity(values))
        elif name == MIRROR:
            self._mirrored(device, name, _identity(values))
        elif name == TOKEN:
            self._token(device, str(next(iter(values.values()), "")), True)

    def updated(self, device: str, name: str, values: dict[str, Any]) -> None:
        """A property that is no BLOB was updated."""
        self.messages += 1
        if name not in self._devices.get(device, ()):
            return
        if name == COUNTER:
            self._count(device, name, _identity(values))
        elif name == MIRROR:
            self._mirrored(device, name, _identity(values))
        elif name == TOKEN:
            self._token(device, str(next(iter(values.values()), "")), False)

    def deleted(self, device: str, name: str | None) -> None:
        """A property was deleted, or with None the whole device."""
        if name is None:
            self._devices.pop(device, None)
        else:
            self._devices.get(device, set()).discard(name)
        for (owner, of), count in self._counts.items():
            if owner == device and name in (None, of):
                count.defined = False
        for (owner, of, _), frames in self._frames.items():
            if owner == device and name in (None, of):
                frames.continuous, frames.excused = False, 0

    def said(self, device: str | None, text: str) -> None:
        """A message for people: the server's announcement of lost frames is one."""
        found = _DROPPED.match(text)
        if found is not None and device is not None and found[2] is not None:
            self.announced += int(found[1])
            for (owner, of, _), frames in self._frames.items():
                if (owner, of) == (device, found[2]):  # a message may have several BLOBs
                    frames.excused += int(found[1])

    def frame(self, device: str, name: str, member: str, form: str, content: bytes | memoryview | None) -> None:
        """A BLOB arrived; None: it had no content."""
        if content is None or not len(content):
            return
        self.frames_total += 1
        self.nbytes += len(content)
        where = f"{device}.{name}.{member}"
        frames = self._frames.setdefault((device, name, member), _Frames())
        try:
            if not form.endswith("soak"):
                payload.check_fits(content)
                frames.received += 1
                return
            identity = payload.identify(where, content)
        except Damaged as damage:
            self.violation(f"{where}: {damage}")
            return
        last, frames.last = frames.last, identity
        frames.received += 1
        continuous, frames.continuous = frames.continuous, True
        if last is None:
            return
        if identity <= last:
            self.violation(f"{where}: frame {identity} after {last}")
        elif not continuous:
            return
        elif identity.run != last.run:
            self.violation(f"{where}: frame {identity} after {last}, although the device was not deleted")
        elif not form.startswith(payload.STREAM_FORMAT):
            missing = identity.number - last.number - 1
            excused = min(missing, frames.excused)
            frames.excused -= excused
            if missing > excused:
                self.unannounced[where] += missing - excused

    # -- Counters and tokens

    def _define_counter(self, device: str, name: str, value: Identity) -> None:
        count = self._counts.setdefault((device, name), _Count())
        if count.last is not None:
            if value < count.last:
                self.violation(f"{device}.{name} went back from {count.last} to {value} in a definition")
            elif count.defined and not _follows(value, count.last, repeats=True):
                self.violation(f"{device}.{name} jumped from {count.last} to {value} in a definition")
        count.last, count.defined, count.by_definition = value, True, True

    def _count(self, device: str, name: str, value: Identity) -> None:
        count = self._counts[device, name]
        assert count.last is not None
        if not _follows(value, count.last, repeats=count.by_definition):
            self.violation(f"{device}.{name} jumped from {count.last} to {value}")
        count.last, count.by_definition = value, False
        count.updates += 1

    def _mirrored(self, device: str, name: str, value: Identity) -> None:
        count = self._counts.setdefault((device, name), _Count())
        if value == (0, 0):  # the driver has not heard anything yet
            return
        if count.last is not None and value < count.last:
            self.violation(f"{device}.{name} went back from {count.last} to {value}")
        elif value != count.last:
            count.updates += 1
        count.last = value

    def _token(self, device: str, text: str, by_definition: bool) -> None:
        self._tokens[device] = text
        sender, _, number = text.rpartition(":")
        if not sender:
            return
        before = self._senders.get((device, sender), 0)
        if int(number) < before and not by_definition:
            self.violation(f"{device} obeyed command {text} after number {before} of the same sender")
        self._senders[device, sender] = max(before, int(number))

    # -- Report

    def report(self) -> dict[str, Any]:
        """Return everything that the soak test wants to know, in types that JSON has."""
        return {
            "connected": self.connected,
            "connections": self.connections,
            "damaged_links": self.damaged_links,
            "devices": {device: len(names) for device, names in self._devices.items()},
            "counters": {
                ".".join(key): count.updates for key, count in self._counts.items() if key[1] == MIRROR or count.defined
            },
            "tokens": self._tokens,
            "frames": {".".join(key): frames.received for key, frames in self._frames.items()},
            "messages": self.messages,
            "frames_total": self.frames_total,
            "nbytes": self.nbytes,
            "announced": self.announced,
            "unannounced": dict(self.unannounced),
            "violated": self.violated,
            "violations": self.violations,
        }


def _identity(values: dict[str, Any]) -> Identity:
    return Identity(int(float(values["run"])), int(float(values["number"])))


def _follows(value: Identity, last: Identity, *, repeats: bool) -> bool:
    return value.run == last.run and (value.number == last.number + 1 or (repeats and value.number == last.number))
