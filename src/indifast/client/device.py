"""A device of the client's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from indifast.client.enabled import Names
from indifast.client.observed import MessageDeque, observed
from indifast.client.propertyvectors import (
    BLOBVector,
    LightVector,
    NumberVector,
    PropertyVector,
    SwitchVector,
    TextVector,
)
from indifast.client.records import changed
from indifast.client.snapshot import DeviceRecord, SnapDevice, _ParentDevice
from indifast.client.snapvectors import VectorRecord

if TYPE_CHECKING:
    from indifast.client.events import defVector
    from indifast.client.model import Model

VECTORS: dict[str, type[PropertyVector]] = {
    "defSwitchVector": SwitchVector,
    "defLightVector": LightVector,
    "defTextVector": TextVector,
    "defNumberVector": NumberVector,
    "defBLOBVector": BLOBVector,
}


class Device(_ParentDevice):
    """A device of the server: a mapping of vector names to live vectors.

    Vectors that the server deleted stay, with `enable` False; defined again, the same objects are revived.
    """

    user_string = observed("user_string", "Free text of the program that uses the client.")
    itemid = observed("itemid", "The identification that `create_itemid` gave.")

    def __init__(self, devicename: str, client: Model) -> None:
        self.devicename = devicename
        self.data: dict[str, Any] = {}
        self._client = client
        self._user_string = ""
        self._itemid: Any = None
        self._enableBLOB = client._initial_blob_choice(devicename)
        self._record: DeviceRecord | None = None
        self._vector_records: Mapping[str, VectorRecord] = {}
        self._stale: dict[str, None] = {}  # in the order of the changes, so that new vectors keep theirs
        self._enabled = Names()  # enabled vectors; others among them go when somebody looks
        self.messages = MessageDeque(self._touch)

    def __setitem__(self, propertyname: str, propertyvector: Any) -> None:
        raise KeyError("the vectors of a device come from the server")

    @property
    def enable(self) -> bool:
        """True if any vector of the device is enabled."""
        return self._enabled.any(lambda name: name in self.data and self.data[name]._enable)

    def disable(self) -> None:
        """Disable all vectors."""
        for name in list(self._enabled):
            if name in self.data:
                self.data[name].enable = False

    def _note_enabled(self, vector: PropertyVector) -> None:
        """A vector was enabled or disabled. Costs the same however many there are."""
        name = vector.name
        if self.data.get(name) is not vector:  # another one has its place
            return
        if vector._enable:
            self._enabled.add(name)
            self._client._enabled.add(self.devicename)
        else:
            self._enabled.discard(name)

    def __delitem__(self, propertyname: str) -> None:
        del self.data[propertyname]
        self._vector_records = {}
        self._touch()

    def _define(self, event: defVector, tag: str) -> PropertyVector:
        """Create, renew or revive the vector that a definition describes."""
        name = event.vectorname
        assert name is not None
        cls = VECTORS[tag]
        vector: PropertyVector | None = self.data.get(name)
        if vector is not None and type(vector) is cls:
            if isinstance(vector, BLOBVector) and not vector._enable:
                vector._enableBLOB = self._client._initial_blob_choice(self.devicename, name, self._enableBLOB)
            vector._adopt(event)
            self._note_enabled(vector)
            return vector
        # A vector that comes back as another type is another vector.
        vector = cls(event)
        if isinstance(vector, BLOBVector):
            vector._enableBLOB = self._client._initial_blob_choice(self.devicename, name, self._enableBLOB)
        vector._introduce()
        self.data[name] = vector
        self._note_enabled(vector)
        self._touch_vector(name)
        return vector

    # -- snapshots

    def _touch(self) -> None:
        if self._record is not None:
            self._record = None
            self._client._stale[self.devicename] = None

    def _touch_vector(self, name: str) -> None:
        self._stale[name] = None
        self._touch()

    def _frozen(self) -> DeviceRecord:
        """The record of the present state; only what changed is made anew."""
        record = self._record
        if record is None or len(record.vectors) != len(self.data):
            new = {}
            for name in self._stale:
                if name in self.data:
                    new[name] = self.data[name]._frozen()
            vectors = changed(self._vector_records, new)
            if len(vectors) != len(self.data):  # vectors were taken out
                vectors = {name: vector._frozen() for name, vector in self.data.items()}
            self._stale.clear()
            self._vector_records = vectors
            record = DeviceRecord(self.devicename, tuple(self.messages), self._user_string, self._itemid, vectors)
            self._record = record
        return record

    def snapshot(self) -> SnapDevice:
        """The device as it stands now, safe to hand to another thread."""
        return SnapDevice._of(self._frozen())
