"""Snapshots of devices and of the whole client: frozen, cheap to take, and built on demand.

A vector's record is made once per change and shared by all snapshots, so a snapshot costs only what has changed since
the last one. The objects of a snapshot are built from the records when they are first used.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from indifast.client.snapvectors import Dumping, SnapVector, VectorRecord, some
from indifast.protocol.escape import one_line


class DeviceRecord(NamedTuple):
    """A device as it was at one moment; never changed once made."""

    devicename: str
    messages: tuple[tuple[datetime, str], ...]
    user_string: str
    itemid: Any
    vectors: Mapping[str, VectorRecord]


class _LazyMapping(UserDict[str, Any]):
    """A mapping whose items are built from records when they are first used."""

    _records: Mapping[str, Any]
    _built: dict[str, Any]
    _full: dict[str, Any] | None

    def _build(self, record: Any) -> Any:
        raise NotImplementedError

    def _item(self, name: str) -> Any:
        item = self._built.get(name)
        if item is None:
            # Two threads that get here at the same time must receive the same object.
            item = self._built.setdefault(name, self._build(self._records[name]))
        return item

    @property
    def data(self) -> dict[str, Any]:
        """All items; those not used before are built now."""
        full = self._full
        if full is None:
            full = self.__dict__.setdefault("_items", {name: self._item(name) for name in self._records})
            self._full = full
        return full

    @data.setter
    def data(self, value: dict[str, Any]) -> None:
        self._full = value

    def __copy__(self) -> Any:
        """Return a separate mapping of the same items."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__, _full=self.data.copy())
        new.__dict__.pop("_items", None)
        return new

    copy = __copy__

    def __getitem__(self, key: str) -> Any:
        return self._item(key) if self._full is None else self._full[key]

    def __contains__(self, key: object) -> bool:
        return key in (self._records if self._full is None else self._full)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records if self._full is None else self._full)

    def __len__(self) -> int:
        return len(self._records if self._full is None else self._full)


class _ParentDevice(UserDict[str, Any]):
    """Base class of devices and their snapshots: a mapping of vector names to vectors."""

    devicename: str

    def __repr__(self) -> str:
        return described_device(self, self)

    @property
    def enable(self) -> bool:
        """True if any vector of the device is enabled."""
        return any(vector.enable for vector in self.values())

    def disable(self) -> None:
        """Disable all vectors."""
        for vector in self.values():
            vector.enable = False


class SnapDevice(Dumping, _LazyMapping, _ParentDevice):
    """A device as it was at one moment."""

    @classmethod
    def _of(cls, record: DeviceRecord) -> SnapDevice:
        snap = cls.__new__(cls)
        snap.devicename = record.devicename
        snap.messages = list(record.messages)
        snap.user_string = record.user_string
        snap.itemid = record.itemid
        snap._records = record.vectors
        snap._built = {}
        snap._full = None
        return snap

    messages: list[tuple[datetime, str]]
    user_string: str
    itemid: Any

    def _build(self, record: VectorRecord) -> SnapVector:
        return SnapVector._of(record)

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return the device as plain data. See `Dumping.dictdump`."""
        plain: dict[str, Any] = {
            "devicename": self.devicename,
            "enable": self.enable,
            "messages": _plain_messages(self.messages),
            "vectors": {name: vector.dictdump(inc_blob, inc_user_string, inc_itemid) for name, vector in self.items()},
        }
        if inc_user_string:
            plain["user_string"] = self.user_string
        if inc_itemid:
            plain["itemid"] = self.itemid
        return plain


class Snap(Dumping, _LazyMapping):
    """A client and all it knew at one moment: a mapping of device names to device snapshots."""

    indihost: str
    indiport: int | str
    connected: bool
    messages: list[tuple[datetime, str]]
    user_string: str

    @classmethod
    def _of(
        cls,
        indihost: str,
        indiport: int | str,
        connected: bool,
        messages: list[tuple[datetime, str]],
        user_string: str,
        records: Mapping[str, DeviceRecord],
    ) -> Snap:
        snap = cls.__new__(cls)
        snap.indihost = indihost
        snap.indiport = indiport
        snap.connected = connected
        snap.messages = messages
        snap.user_string = user_string
        snap._records = records
        snap._built = {}
        snap._full = None
        return snap

    def _build(self, record: DeviceRecord) -> SnapDevice:
        return SnapDevice._of(record)

    def __repr__(self) -> str:
        return described(self, self)

    def enabledlen(self) -> int:
        """Return the number of devices that have an enabled vector."""
        return sum(device.enable for device in self.values())

    def get_vector_state(self, devicename: str, vectorname: str) -> str | None:
        """Return the state of a vector, even of a deleted one, or None if there is no such vector."""
        return vector_state(self, devicename, vectorname)

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return everything as plain data. See `Dumping.dictdump`. The client itself has no item identifier."""
        plain: dict[str, Any] = {
            "indihost": self.indihost,
            "indiport": self.indiport,
            "connected": self.connected,
            "messages": _plain_messages(self.messages),
            "devices": {name: device.dictdump(inc_blob, inc_user_string, inc_itemid) for name, device in self.items()},
        }
        if inc_user_string:
            plain["user_string"] = self.user_string
        return plain


def described(owner: object, client: Any) -> str:
    """Return the `repr` of a client, or of what belongs to one: the server, and its devices."""
    names = sorted((one_line(name) for name, device in client.items() if device.enable), key=str.casefold)
    there = "connected" if client.connected else "not connected"
    where = f"{client.indihost}:{client.indiport}"
    return f"<{_kind(owner)} {where}, {there}: {some(names) or 'no devices'}>"


def described_device(owner: object, device: Any) -> str:
    """Return the `repr` of a device, or of what stands for one: its properties."""
    names = [one_line(vector.name) for vector in device.values() if vector.enable]
    return f"<{_kind(owner)} {one_line(device.devicename)}: {some(names) or 'no properties'}>"


def _kind(owner: object) -> str:
    return type(owner).__name__.removeprefix("_")


def vector_state(devices: Any, devicename: str, vectorname: str) -> str | None:
    """Return the state of a vector in a client or its snapshot, or None if the vector is unknown."""
    if devicename not in devices or vectorname not in devices[devicename]:
        return None
    state: str = devices[devicename][vectorname].state
    return state


def _plain_messages(messages: list[tuple[datetime, str]]) -> list[list[str]]:
    return [[timestamp.isoformat(sep="T"), text] for timestamp, text in messages]
