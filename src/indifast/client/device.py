"""Devices of the client's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indifast.client.observed import MessageDeque, observed
from indifast.client.propertyvectors import PropertyVector
from indifast.client.snapshot import DeviceRecord, SnapDevice, _ParentDevice
from indifast.client.snapvectors import VectorRecord
from indifast.client.tracking import Tracked


class Device(_ParentDevice):
    """A device of the server: a mapping of vector names to live vectors.

    Vectors that the server deleted stay, with `enable` False. If they are defined again, the same objects are revived.
    """

    user_string = observed("user_string", "Free text, for the program that uses the client.")
    itemid = observed("itemid", "The identifier that `create_itemid` returned.")

    def __init__(self, devicename: str, devices: Tracked[DeviceRecord], enable_blob: str) -> None:
        self.devicename = devicename
        self._devices = devices
        self._vectors: Tracked[VectorRecord] = Tracked(PropertyVector._frozen)
        self.data: dict[str, Any] = self._vectors.items
        self._user_string = ""
        self._itemid: Any = None
        self._enableBLOB = enable_blob
        self._record: DeviceRecord | None = None
        self.messages = MessageDeque(self._touch)

    def __setitem__(self, propertyname: str, propertyvector: Any) -> None:
        raise KeyError("the vectors of a device come from the server")

    def __delitem__(self, propertyname: str) -> None:
        del self.data[propertyname]
        self._vectors.forget_records()
        self._touch()

    @property
    def enable(self) -> bool:
        """True if any vector of the device is enabled."""
        return self._vectors.any_enabled()

    def disable(self) -> None:
        """Disable all vectors."""
        for name in list(self._vectors.enabled):
            if name in self.data:
                self.data[name].enable = False

    def _note_enabled(self, vector: PropertyVector) -> None:
        """Record that a vector was enabled or disabled. The cost does not depend on the number of vectors."""
        name = vector.name
        if self.data.get(name) is not vector:  # another one has taken its place
            return
        if vector.enable:
            self._vectors.enabled.add(name)
            self._devices.enabled.add(self.devicename)
        else:
            self._vectors.enabled.discard(name)

    def _add(self, vector: PropertyVector) -> None:
        """Add a vector, or put it in the place of another."""
        self.data[vector.name] = vector
        self._note_enabled(vector)
        self._touch_vector(vector.name)

    def _delete(self, vectorname: str | None) -> bool:
        """Disable a deleted vector, or all vectors if the name is None; return False if there is none."""
        names = list(self._vectors.enabled) if vectorname is None else [vectorname]
        vectors = [self.data[name] for name in names if name in self.data]
        for vector in vectors:
            vector._answered()
            vector.enable = False
        return bool(vectors)

    # -- Snapshots

    def _touch(self) -> None:
        if self._record is not None:
            self._record = None
            self._devices.changed(self.devicename)

    def _touch_vector(self, name: str) -> None:
        self._vectors.changed(name)
        self._touch()

    def _frozen(self) -> DeviceRecord:
        """Return the record of the current state; only what has changed is rebuilt."""
        record = self._record
        if record is None or len(record.vectors) != len(self.data):
            vectors: Mapping[str, VectorRecord] = self._vectors.frozen()
            record = DeviceRecord(self.devicename, tuple(self.messages), self._user_string, self._itemid, vectors)
            self._record = record
        return record

    def snapshot(self) -> SnapDevice:
        """Return the device as it is now, safe to pass to another thread."""
        return SnapDevice._of(self._frozen())
