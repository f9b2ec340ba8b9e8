"""What a client knows of its server: how messages change it, how it is named, and its snapshots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from indifast.client import events, waiting
from indifast.client.blobchoices import BlobChoices
from indifast.client.blobprocessing import BlobProcessing
from indifast.client.connection import Connection
from indifast.client.device import Device
from indifast.client.formats import format_of
from indifast.client.malloc import LARGE, give_back_large_blocks
from indifast.client.propertymembers import ParseException
from indifast.client.records import changed
from indifast.client.snapshot import DeviceRecord, Snap, vector_state
from indifast.client.timers import ASK_AGAIN
from indifast.protocol import wire
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.shown import shown
from indifast.protocol.vectors import without_content
from indifast.transport.blobs import BlobMessage

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Routable

DEFTAGS = ("defSwitchVector", "defLightVector", "defTextVector", "defNumberVector", "defBLOBVector")

DEF_EVENTS: dict[str, type[events.defVector]] = {tag: getattr(events, tag) for tag in DEFTAGS}
SET_EVENTS: dict[str, type[events.setVector]] = {
    tag: getattr(events, tag) for tag in (deftag.replace("def", "set") for deftag in DEFTAGS)
}

_EARLY_DEVICES = 100
"""Devices whose messages are kept until they are defined."""
_EARLY_BYTES = 16 << 10
"""Size of such a message beyond which it is dropped."""


class Model(BlobChoices):
    """The part of a client that holds the devices."""

    limits: Limits = DEFAULT_LIMITS
    """Bounds on what is received."""
    device_limit: int = 10_000
    """Devices of a server, and vectors of a device, beyond which definitions are refused."""
    inflate_blobs: bool = False
    """Inflate BLOBs whose format ends with `.z`, and take that suffix off the format."""
    give_back_memory: bool = True
    """Let the process give large freed blocks back to the system from the first large BLOB on (glibc only). A program
    that is busy with large arrays of its own may be faster without."""
    indihost: str
    indiport: int | str

    def __init__(self) -> None:
        super().__init__()
        self.user_string = ""
        self.user_string_dict: dict[tuple[str, str | None, str | None], str] = {}
        self._itemid = 0
        self._early: dict[str, deque[Element]] = {}
        self._jobs = BlobProcessing(self)
        self._records: Mapping[str, DeviceRecord] = {}
        self._stale: dict[str, None] = {}

    def __setitem__(self, devicename: str, device: Any) -> None:
        raise KeyError("the devices of a client come from the server")

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **kwargs: Any) -> Any:
        """An identification for a device, vector or member that is new to the client; by default 1, 2, 3 …"""
        self._itemid += 1
        return self._itemid

    def _introduce(self, item: Any, devicename: str, vectorname: str = "", membername: str = "") -> None:
        """Give what is new to the model its id and its user string."""
        item._itemid = self.create_itemid(devicename, vectorname, membername)
        text = self.user_string_dict.get((devicename, vectorname or None, membername or None))
        if text is not None:
            item._user_string = text

    def _forget(self) -> None:
        self.messages.clear()
        self.data.clear()
        self._enabled.clear()
        self._early.clear()
        self.problems.clear()
        self._nameless.clear()
        self._records = {}
        self._stale.clear()

    # -- what messages change

    def _receive(self, element: Element, connection: Connection) -> Any:
        """Take an element that is no update into the model; returns its event, or None if the program need not know."""
        tag = element.tag
        if tag in DEF_EVENTS:
            return self._define(element)
        if tag == "message":
            return self._receive_message(element)
        if tag == "delProperty":
            return self._delete(element)
        if tag == "getProperties":
            return events.getProperties(element, self.data.get(element.device or ""), self)
        if tag == "pingRequest":
            if connection.queue.full:  # the server does not read: answers without end would wait for it
                self._counts["not_sent"] += 1
            else:
                connection.send(wire.ping_reply(element.attrs.get("uid", "")))
        elif tag == "pingReply":
            self._notify_watchers(waiting.PingReply(element.attrs.get("uid", "")))
        return None

    def _define(self, element: Element) -> Any:
        name = element.device
        if not name:
            raise ParseException("a definition without a device")
        device = self.data.get(name)
        known, revived = device is not None, False
        if device is None:
            if len(self.data) >= self.device_limit:
                raise ParseException("too many devices")
            device = Device(name, self)
        elif not device.enable:
            revived = True
            device._enableBLOB = self._initial_blob_choice(name)
        if len(device.data) >= self.device_limit and element.name not in device.data:
            raise ParseException("too many vectors")
        event = DEF_EVENTS[element.tag](element, device, self)
        if not known:
            self._introduce(device, name)
            self.data[name] = device
            self._stale[name] = None
        vector: Any = device._define(event, element.tag)
        event.vector = vector
        if element.tag == "defBLOBVector" and (
            self.resend_enableBLOB_on_def or not self._choices.get(name, {}).keys().isdisjoint((element.name, None))
        ):
            self._send_now(wire.enable_blob(name, element.name, vector._enableBLOB))
        if self._blobfolderchanged:
            self._burst_alarm.set_for(time.monotonic() + 0.1)
        if revived or not known:
            self._definitions_alarm.cancel()
            self._arm()
        return event

    def _receive_message(self, element: Element) -> Any:
        name = element.device
        if not name:
            event = events.Message(element, None, self)
            self.messages.appendleft((event.timestamp, event.message))
            return event
        device = self.data.get(name)
        if device is None:
            # Drivers speak before they define anything; the program hears it when it knows the device.
            if element.size <= _EARLY_BYTES and (name in self._early or len(self._early) < _EARLY_DEVICES):
                self._early.setdefault(name, deque(maxlen=8)).append(element)
            else:
                self._counts["unknown"] += 1
            return None
        event = events.Message(element, device, self)
        device.messages.appendleft((event.timestamp, event.message))
        return event

    async def _tell_early(self, devicename: str | None) -> None:
        """The messages of a device that came before its first definition."""
        device = self.data.get(devicename or "")
        if device is not None and devicename is not None:
            for element in self._early.pop(devicename, ()):
                event = events.Message(element, device, self)
                device.messages.appendleft((event.timestamp, event.message))
                await self._tell(event)

    def _delete(self, element: Element) -> Any:
        device = self.data.get(element.device or "")
        if device is None:
            self._counts["unknown"] += 1
            return None
        if not device.enable:
            raise events.UndefinedError("deleted already")
        event = events.delProperty(element, device, self)
        note = (event.timestamp, event.message)
        if element.name is not None:
            vector = device.data.get(element.name)  # an empty name is nobody's: nothing is deleted
            if vector is not None:
                vector.enable = False
                self._answered(vector)
                if event.message:
                    device.messages.appendleft(note)
        else:
            for name in list(device._enabled):
                if (vector := device.data.get(name)) is not None:
                    self._answered(vector)
            device.disable()
            if event.message:
                device.messages.appendleft(note)
                self.messages.appendleft(note)
        if not self._any_enabled():
            self._definitions_alarm.set_for(time.monotonic() + ASK_AGAIN)
        return event

    def _receive_blobs(self, message: Routable, event: Any) -> Any:
        """Content that came inline is here; shared memory is mapped; what takes time is done in a thread."""
        faults: dict[str, str] = {}
        if isinstance(message, BlobMessage):
            faults = self._attach(message, event)
        for name in [name for name, content in event.data.items() if content is None]:
            # Without content and size 0, an update is about the state alone.
            size, _ = event.sizeformat.pop(name)
            del event.data[name]
            if size:
                faults.setdefault(name, without_content(name))
        if faults:
            self._left_out(message.element(), 0, list(faults.values()))
        if self.give_back_memory and any(size >= LARGE for size, _ in event.sizeformat.values()):
            give_back_large_blocks()
        if event.data and (
            self._BLOBfolder is not None
            or (self.inflate_blobs and any(format_of(form).packing == ".z" for _, form in event.sizeformat.values()))
        ):
            self._jobs.start(event)
            return None
        event.vector._update(event)
        return event

    def _attach(self, message: BlobMessage, event: Any) -> dict[str, str]:
        """Map shared memory; gives, by member, why some of it can't be read."""
        faults = {}
        for member, view in message.views():
            if not member.name:
                continue
            try:
                event.data[member.name] = view()
            except (OSError, ValueError) as error:
                name = shown(member.name)
                faults[member.name] = f"the shared memory of the BLOB {name} can't be read: {error}: left out"
        return faults

    # -- what is known

    def get_vector_state(self, devicename: str, vectorname: str) -> str | None:
        """The state of a vector, also of one that was deleted; None if there is none of these names."""
        return vector_state(self.data, devicename, vectorname)

    def set_user_string(
        self, devicename: str, vectorname: str | None, membername: str | None, user_string: str = ""
    ) -> None:
        """Set the free text of a device, vector or member, known already or not."""
        key = _user_string_key(devicename, vectorname, membername)
        self.user_string_dict[key] = user_string
        item = self._find(*key)
        if item is not None:
            item.user_string = user_string

    def get_user_string(self, devicename: str, vectorname: str | None, membername: str | None) -> str | None:
        """The free text of a device, vector or member; None if there is none."""
        key = _user_string_key(devicename, vectorname, membername)
        item = self._find(*key)
        text: str | None = self.user_string_dict.get(key) if item is None else item.user_string
        return text

    def _find(self, devicename: str, vectorname: str | None, membername: str | None) -> Any:
        item = self.data.get(devicename)
        for name in (vectorname, membername):
            if name is not None and item is not None:
                item = item.data.get(name)
        return item

    def _remember_user_strings(self) -> None:
        """Keep the user strings that were set on objects for those that take their place after a reconnection."""
        for devicename, device in self.data.items():
            self._remember(device, devicename, None, None)
            for vectorname, vector in device.data.items():
                self._remember(vector, devicename, vectorname, None)
                for membername, member in vector.data.items():
                    self._remember(member, devicename, vectorname, membername)

    def _remember(self, item: Any, *key: str | None) -> None:
        if item._user_string or key in self.user_string_dict:
            self.user_string_dict[key] = item._user_string  # type: ignore[index]

    def snapshot(self) -> Snap:
        """Everything as it stands now, safe to hand to another thread. Costs what changed since the last snapshot."""
        if self._stale or len(self._records) != len(self.data):
            new = {}
            for name in self._stale:
                if name in self.data:
                    new[name] = self.data[name]._frozen()
            records = changed(self._records, new)
            if len(records) != len(self.data):  # devices were taken out
                records = {name: device._frozen() for name, device in self.data.items()}
            self._records = records
            self._stale.clear()
        return Snap._of(
            self.indihost, self.indiport, self._connected, list(self.messages), self.user_string, self._records
        )


def _user_string_key(
    devicename: str, vectorname: str | None, membername: str | None
) -> tuple[str, str | None, str | None]:
    if not devicename or (membername and not vectorname):
        raise KeyError("a device name is needed, and for a member the vector name")
    return devicename, vectorname or None, membername or None
