"""Model of a server's devices: how messages change it, how items are found, and its snapshots. No I/O, no clock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from indifast._parser import Element
from indifast.client import events
from indifast.client.blobchoices import BlobChoices
from indifast.client.device import Device
from indifast.client.problems import Problems
from indifast.client.propertymembers import ParseException
from indifast.client.propertyvectors import (
    BLOBVector,
    LightVector,
    NumberVector,
    PropertyVector,
    SwitchVector,
    TextVector,
)
from indifast.client.sender import Sender
from indifast.client.settings import Given, Program
from indifast.client.snapshot import DeviceRecord
from indifast.client.tracking import Tracked
from indifast.protocol.vectors import without_content

DEFTAGS = ("defSwitchVector", "defLightVector", "defTextVector", "defNumberVector", "defBLOBVector")

DEF_EVENTS: dict[str, type[events.defVector]] = {tag: getattr(events, tag) for tag in DEFTAGS}
SET_EVENTS: dict[str, type[events.setVector]] = {
    tag: getattr(events, tag) for tag in (deftag.replace("def", "set") for deftag in DEFTAGS)
}
_VECTORS: dict[str, type[PropertyVector]] = {
    "defSwitchVector": SwitchVector,
    "defLightVector": LightVector,
    "defTextVector": TextVector,
    "defNumberVector": NumberVector,
    "defBLOBVector": BLOBVector,
}

_EARLY_DEVICES = 100
"""Number of undefined devices whose messages are kept until the devices are defined."""
_EARLY_BYTES = 16 << 10
"""Size above which such a message is dropped."""


class Model:
    """The devices of a server. Elements in, events out: `apply` changes the model and returns what has happened.

    A bad element raises ParseException; if only parts of an element are bad, they are reported to `problems`. The
    vectors send their commands through `sender`.
    """

    def __init__(
        self,
        settings: Given,
        program: Program,
        sender: Sender,
        choices: BlobChoices,
        problems: Problems,
        counts: Counter[str],
    ) -> None:
        self.tracked: Tracked[DeviceRecord] = Tracked(Device._frozen)
        self.devices: dict[str, Device] = self.tracked.items
        self.messages: deque[tuple[datetime, str]] = deque(maxlen=8)
        """The newest messages from the server as a whole and from the client itself, newest first."""
        self.user_strings: dict[tuple[str, str | None, str | None], str] = {}
        """Free texts of programs by device, vector and member: for unknown ones, and to outlast a reconnection."""
        self.early: dict[str, deque[Element]] = {}
        """Messages from devices that are not yet defined."""
        self._settings = settings
        self._program = program
        self._sender = sender
        self._choices = choices
        self._problems = problems
        self._counts = counts

    def clear(self) -> None:
        """Forget the server, but keep the user strings."""
        self._remember_user_strings()
        self.messages.clear()
        self.tracked.clear()
        self.early.clear()
        self._problems.clear()

    def has_contents(self) -> bool:
        """Return whether any vector has the content of a BLOB."""
        return any(
            member.membervalue is not None
            for device in self.devices.values()
            for vector in device.data.values()
            if isinstance(vector, BLOBVector)
            for member in vector.data.values()
        )

    # -- Messages

    def apply(self, element: Element) -> Any:
        """Apply an element to the model; return its event, or None if there is nothing to report (yet)."""
        # Updates take few operations.
        cls = SET_EVENTS.get(element.tag)
        if cls is None:
            return self._apply_other(element)
        device = self.devices.get(element.device or "")
        if device is None:
            self._counts["unknown"] += 1
            return None
        event = cls(element, device, self._problems)
        if cls is events.setBLOBVector:
            assert isinstance(event, events.setBLOBVector)
            self.complete(event, element, {})
            self.update(event)
        else:
            event.vector._update(event)
        return event

    def read_blobs(self, element: Element) -> events.setBLOBVector | None:
        """Return the event of a BLOB update, if the device is known. Later, call `complete` and `update` with it."""
        device = self.devices.get(element.device or "")
        if device is None:
            self._counts["unknown"] += 1
            return None
        return events.setBLOBVector(element, device, self._problems)

    def complete(self, event: events.setBLOBVector, element: Element, faults: dict[str, str]) -> None:
        """Leave out the BLOBs of an update that turned out to have no content.

        `faults` gives the reason for some of them, by member.
        """
        for name in [name for name, content in event.data.items() if content is None]:
            # A BLOB without content and with size 0 only reports the state.
            size, _ = event.sizeformat.pop(name)
            del event.data[name]
            if size:
                faults.setdefault(name, without_content(name))
        if faults:
            self._problems.left_out(element, 0, list(faults.values()))

    def update(self, event: events.setBLOBVector) -> None:
        """Apply a BLOB update to the model."""
        vector = event.vector
        event._keep = self._choices.kept(vector.devicename, vector.name)
        vector._update(event)

    def _apply_other(self, element: Element) -> Any:
        tag = element.tag
        if tag in DEF_EVENTS:
            return self._define(element)
        if tag == "message":
            return self._receive_message(element)
        if tag == "delProperty":
            return self._delete(element)
        if tag == "getProperties":
            return events.getProperties(element, self.devices.get(element.device or ""), self._problems)
        return None

    def _define(self, element: Element) -> events.defVector:
        name = element.device
        if not name:
            raise ParseException("a definition without a device")
        device = self.devices.get(name)
        limit = self._settings.device_limit
        if device is None:
            if len(self.devices) >= limit:
                raise ParseException("too many devices")
            device = Device(name, self.tracked, self._choices.initial(name))
        elif not device.enable:
            device._enableBLOB = self._choices.initial(name)
        if len(device.data) >= limit and element.name not in device.data:
            raise ParseException("too many vectors")
        event = DEF_EVENTS[element.tag](element, device, self._problems)
        if name not in self.devices:
            self._introduce(device, name)
            self.devices[name] = device
            self.tracked.changed(name)
        event.vector = self._define_vector(device, event, element.tag)
        return event

    def _define_vector(self, device: Device, event: events.defVector, tag: str) -> PropertyVector:
        """Create, update or revive the vector that a definition describes."""
        devicename, name = device.devicename, event.vectorname
        assert name is not None
        cls = _VECTORS[tag]
        vector: PropertyVector | None = device.data.get(name)
        if vector is not None and type(vector) is cls:
            if isinstance(vector, BLOBVector) and not vector.enable:
                vector._enableBLOB = self._choices.initial(devicename, name, device._enableBLOB)
            for member in vector._adopt(event):
                self._introduce(member, devicename, name, member.name)
            device._note_enabled(vector)
            return vector
        if vector is not None:  # a vector that comes back with another type is another vector
            vector._answered()
        vector = cls(event, self._sender)
        if isinstance(vector, BLOBVector):
            vector._enableBLOB = self._choices.initial(devicename, name, device._enableBLOB)
        self._introduce(vector, devicename, name)
        for membername, member in vector.data.items():
            self._introduce(member, devicename, name, membername)
        device._add(vector)
        return vector

    def _introduce(self, item: Any, devicename: str, vectorname: str = "", membername: str = "") -> None:
        """Give an item that is new to the model its identifier and its user string."""
        item._itemid = self._program.create_itemid(devicename, vectorname, membername)
        text = self.user_strings.get((devicename, vectorname or None, membername or None))
        if text is not None:
            item._user_string = text

    def _receive_message(self, element: Element) -> events.Message | None:
        name = element.device
        if not name:
            event = events.Message(element, None, self._problems)
            self.note(event.timestamp, event.message)
            return event
        device = self.devices.get(name)
        if device is not None:
            return self._device_message(element, device)
        # Drivers send messages before they define anything; the program gets these once it knows the device.
        if element.size <= _EARLY_BYTES and (name in self.early or len(self.early) < _EARLY_DEVICES):
            self.early.setdefault(name, deque(maxlen=8)).append(element)
        else:
            self._counts["unknown"] += 1
        return None

    def _device_message(self, element: Element, device: Device) -> events.Message:
        event = events.Message(element, device, self._problems)
        device.messages.appendleft((event.timestamp, event.message))
        return event

    def apply_early(self, devicename: str | None) -> Iterator[events.Message]:
        """Apply the messages that a device sent before its first definition, and yield their events."""
        device = self.devices.get(devicename or "")
        if device is not None and devicename is not None:
            for element in self.early.pop(devicename, ()):
                yield self._device_message(element, device)

    def note(self, timestamp: datetime, text: str) -> None:
        """Add a message from the server as a whole, or from the client."""
        self.messages.appendleft((timestamp, text))

    def _delete(self, element: Element) -> events.delProperty | None:
        device = self.devices.get(element.device or "")
        if device is None:
            self._counts["unknown"] += 1
            return None
        if not device.enable:
            raise events.UndefinedError("deleted already")
        event = events.delProperty(element, device, self._problems)
        found = device._delete(element.name)  # no vector has an empty name: nothing is deleted
        if event.message and (found or element.name is None):
            device.messages.appendleft((event.timestamp, event.message))
            if element.name is None:
                self.note(event.timestamp, event.message)
        return event

    # -- Look-up

    def any_enabled(self) -> bool:
        """Return whether any device has an enabled vector."""
        return self.tracked.any_enabled()

    def defined(self, devicename: str, vectorname: str | None = None) -> Any:
        """Return a device or vector if it is enabled, otherwise None."""
        device = self.devices.get(devicename)
        if device is None or not device.enable:
            return None
        if vectorname is None:
            return device
        vector = device.data.get(vectorname)
        return vector if vector is not None and vector.enable else None

    def find(self, devicename: str, vectorname: str | None, membername: str | None = None) -> Any:
        """Return a device, vector or member, enabled or not; None if there is no such item."""
        item: Any = self.devices.get(devicename)
        for name in (vectorname, membername):
            if name is not None and item is not None:
                item = item.data.get(name)
        return item

    def records(self) -> Mapping[str, DeviceRecord]:
        """Return the records of all devices. The cost depends only on what has changed since the last call."""
        return self.tracked.frozen()

    # -- User strings

    def set_user_string(
        self, devicename: str, vectorname: str | None, membername: str | None, user_string: str
    ) -> None:
        """Set the user string of an item, known or not. See `IPyClient.set_user_string`."""
        key = _user_string_key(devicename, vectorname, membername)
        self.user_strings[key] = user_string
        item = self.find(*key)
        if item is not None:
            item.user_string = user_string

    def user_string(self, devicename: str, vectorname: str | None, membername: str | None) -> str | None:
        """Return the user string of an item, known or not. See `IPyClient.get_user_string`."""
        key = _user_string_key(devicename, vectorname, membername)
        item = self.find(*key)
        text: str | None = self.user_strings.get(key) if item is None else item.user_string
        return text

    def _remember_user_strings(self) -> None:
        """Keep the user strings that were set on objects for those that replace them after a reconnection."""
        for devicename, device in self.devices.items():
            self._remember(device, (devicename, None, None))
            for vectorname, vector in device.data.items():
                self._remember(vector, (devicename, vectorname, None))
                for membername, member in vector.data.items():
                    self._remember(member, (devicename, vectorname, membername))

    def _remember(self, item: Any, key: tuple[str, str | None, str | None]) -> None:
        if item.user_string or key in self.user_strings:
            self.user_strings[key] = item.user_string


def _user_string_key(
    devicename: str, vectorname: str | None, membername: str | None
) -> tuple[str, str | None, str | None]:
    if not devicename or (membername and not vectorname):
        raise KeyError("a device name is needed, and for a member the vector name")
    return devicename, vectorname or None, membername or None
