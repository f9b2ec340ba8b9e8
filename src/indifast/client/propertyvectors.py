"""Vectors: groups of members that travel together, live in the model and frozen in snapshots."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from indifast.client import commands
from indifast.client._watched import watched
from indifast.client.propertymembers import (
    STATES,
    BLOBMember,
    LightMember,
    Member,
    NumberMember,
    ParseException,
    SwitchMember,
    TextMember,
    snapped,
)

if TYPE_CHECKING:
    from indifast.client.events import (
        defBLOBVector,
        defVector,
        setBLOBVector,
        setNumberVector,
        setVector,
    )
    from indifast.protocol.vectors import DefinedMember

__all__ = [
    "BLOBVector", "ClientEvent", "LightVector", "NumberVector", "PropertyVector", "SnapNumberVector", "SnapVector",
    "SwitchVector", "TextVector", "Vector",
]  # fmt: skip


class Vector(UserDict[str, Any]):
    """What live vectors and their snapshots have in common: a mapping of member names to values."""

    name: str
    devicename: str
    vectortype: str

    label = watched("label", "Text for people; the name when the definition gave none.")
    group = watched("group", "The page or tab the vector belongs to.")
    timestamp = watched("timestamp", "UTC time of the last change, aware.")
    message = watched("message", "The last message that came with a definition or an update of this vector.")
    message_timestamp = watched("message_timestamp", "UTC time of that message, aware.")
    timeout = watched("timeout", "Seconds a command may take, as announced by the driver; None for lights.")
    enable = watched("enable", "False once the vector was deleted.")
    user_string = watched("user_string", "Free text of the program that uses the client.")
    itemid = watched("itemid", "The identification that `create_itemid` gave.")

    def _touch(self) -> None:
        """Something changed that a snapshot would show."""

    @property
    def state(self) -> str:
        """Idle, Ok, Busy or Alert."""
        state: str = self._state
        return state

    @state.setter
    def state(self, value: str) -> None:
        if value not in STATES:
            raise ValueError(f"{value!r} is no state")
        self._state = value

    @property
    def rule(self) -> str | None:
        """OneOfMany, AtMostOne or AnyOfMany for switches, else None."""
        return self._rule

    @property
    def perm(self) -> str | None:
        """ro, wo or rw."""
        return self._perm

    @perm.setter
    def perm(self, value: str) -> None:
        self._perm = value
        self._touch()

    _state: str
    _rule: str | None = None
    _perm: str | None = None

    def __getitem__(self, membername: str) -> Any:
        return self.data[membername].membervalue

    def __setitem__(self, membername: str, value: Any) -> None:
        self.data[membername].membervalue = value

    def members(self) -> dict[str, Any]:
        """The member objects by name."""
        return self.data

    def member(self, membername: str) -> Any:
        """One member object; KeyError if there is none of this name."""
        return self.data[membername]

    def memberlabel(self, membername: str) -> str:
        """The label of a member; KeyError if there is none of this name."""
        label: str = self.data[membername].label
        return label


class _Numbers:
    """What vectors of numbers can do, live or not."""

    data: dict[str, Any]

    def getfloatvalue(self, membername: str) -> float:
        """The value of a member as a float; KeyError if there is none of this name."""
        value: float = self.data[membername].getfloatvalue()
        return value

    def getformattedvalue(self, membername: str) -> str:
        """The value of a member as its format shows it; TypeError if the format cannot show a number."""
        text: str = self.data[membername].getformattedvalue()
        return text


# -- snapshots

_HEADER = (
    "name", "devicename", "vectortype", "_label", "_group", "_state", "_timestamp", "_message", "_message_timestamp",
    "_timeout", "_enable", "_user_string", "_itemid", "_rule", "_perm",
)  # fmt: skip


class VectorRecord:
    """A vector as it stood at one moment; never changed once made, so any number of snapshots and threads share it."""

    __slots__ = ("header", "members", "snap")

    def __init__(self, vector: PropertyVector) -> None:
        self.snap = vector._snap_class
        self.header = {key: getattr(vector, key) for key in _HEADER}
        self.members = [(member._snap_class, member._record()) for member in vector.data.values()]

    @property
    def enable(self) -> bool:
        enable: bool = self.header["_enable"]
        return enable


class Dumping:
    """Plain data and JSON of a snapshot."""

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """The snapshot as plain data; BLOB content (bytes), user strings and item ids on request."""
        raise NotImplementedError

    def dumps(
        self,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        inc_blob: bool = False,
        inc_user_string: bool = False,
        inc_itemid: bool = False,
    ) -> str:
        """The snapshot as JSON text; BLOB content, on request, as base64."""
        plain = self.dictdump(inc_blob, inc_user_string, inc_itemid)
        return json.dumps(plain, indent=indent, separators=separators, default=_json_value)

    def dump(
        self,
        fp: IO[str],
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        inc_blob: bool = False,
        inc_user_string: bool = False,
        inc_itemid: bool = False,
    ) -> None:
        """Write the snapshot as JSON text into a text file."""
        fp.write(self.dumps(indent, separators, inc_blob, inc_user_string, inc_itemid))


def _json_value(value: Any) -> str:
    """BLOB content as base64; an item id that JSON does not know, as its text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        from indifast._base64 import encode

        return encode(value).decode("ascii")
    return str(value)


class SnapVector(Dumping, Vector):
    """A vector as it stood at one moment. Its values may be changed; nothing else sees that."""

    _record: VectorRecord
    _data: dict[str, Any] | None

    @classmethod
    def _of(cls, record: VectorRecord) -> SnapVector:
        snap = record.snap.__new__(record.snap)
        attributes = snap.__dict__
        attributes.update(record.header)
        attributes["_record"] = record
        attributes["_data"] = None
        return snap

    @property
    def data(self) -> dict[str, Any]:
        """The member objects by name, made when they are first asked for."""
        data = self._data
        if data is None:
            data = {record["_name"]: snapped(cls, record) for cls, record in self._record.members}
            # Of two threads that come here at once, both must get the same members.
            data = self.__dict__.setdefault("_members", data)
            self._data = data
        return data

    @data.setter
    def data(self, value: dict[str, Any]) -> None:
        self._data = value

    def __copy__(self) -> SnapVector:
        """A mapping of its own, of the same member objects."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__, _data=self.data.copy())
        new.__dict__.pop("_members", None)
        return new

    copy = __copy__

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """The vector as plain data."""
        plain: dict[str, Any] = {
            "vectortype": self.vectortype,
            "name": self.name,
            "devicename": self.devicename,
            "label": self.label,
            "enable": self.enable,
            "message": self.message,
            "message_timestamp": _iso(self.message_timestamp),
            "group": self.group,
            "state": self.state,
            "timeout": self.timeout,
            "timestamp": _iso(self.timestamp),
        }
        if self.rule:
            plain["rule"] = self.rule
        if self.perm:
            plain["perm"] = self.perm
        if inc_user_string:
            plain["user_string"] = self.user_string
        if inc_itemid:
            plain["itemid"] = self.itemid
        plain["members"] = {
            name: member.dictdump(inc_blob, inc_user_string, inc_itemid) for name, member in self.data.items()
        }
        return plain


class SnapNumberVector(_Numbers, SnapVector):
    """A vector of numbers as it stood at one moment."""


def _iso(timestamp: datetime | None) -> str | None:
    return timestamp.isoformat(sep="T") if timestamp is not None else None


# -- the live model


class PropertyVector(Vector):
    """A vector of the model: kept up to date while the connection stands."""

    _snap_class: type[SnapVector] = SnapVector
    _child: type[Member]

    def __init__(self, event: defVector) -> None:
        assert event.vectorname is not None and event.devicename is not None
        self.data: dict[str, Any] = {}
        self.name = event.vectorname
        self.devicename = event.devicename
        self.device = event.device
        self._client = event.device._client
        self._label = event.label
        self._group = event.group
        self._message = event.message
        self._message_timestamp = event.timestamp
        self._user_string = ""
        self._itemid: Any = None
        self._deadline: float | None = None
        self._commands = 0  # sent to it so far
        self._record: VectorRecord | None = None
        self._adopt(event)

    # -- snapshots

    def _touch(self) -> None:
        if self._record is not None:
            self._record = None
            self.device._touch_vector(self.name)

    def _frozen(self) -> VectorRecord:
        """The record of the present state, made at most once per change."""
        record = self._record
        if record is None:
            record = self._record = VectorRecord(self)
        return record

    def snapshot(self) -> SnapVector:
        """The vector as it stands now, safe to hand to another thread."""
        return SnapVector._of(self._frozen())

    # -- attributes

    @property
    def enable(self) -> bool | None:
        """False once the vector was deleted."""
        return self._enable

    @enable.setter
    def enable(self, value: bool) -> None:
        self._enable = value
        self.device._note_enabled(self)
        self._touch()

    @property
    def state(self) -> str:
        """Idle, Ok, Busy or Alert; setting anything else raises ParseException."""
        return self._state

    @state.setter
    def state(self, value: str) -> None:
        self._state = self.checkvalue(value, STATES)
        self._touch()

    def checkvalue(self, value: Any, allowed: Any) -> Any:
        """Give `value` back if it is one of `allowed`, else raise ParseException."""
        if value not in allowed:
            raise ParseException(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("the values of a vector change when the server says so: send a new vector")

    async def create_clientevent(self, eventtype: str = "ClientEvent", **payload: Any) -> None:
        """Hand an event of the program's own about this vector to `rxevent`."""
        event = ClientEvent(eventtype, self.device, self, **payload)
        self._client._notify_watchers(event)
        await self._client.rxevent(event)

    def checktimedout(self, nowtime: float) -> bool:
        """True if a command to this vector is overdue at `nowtime`, in the seconds of `time.monotonic()`."""
        return self._deadline is not None and nowtime >= self._deadline

    # -- what comes from the server

    def _adopt(self, event: defVector) -> None:
        """Take over everything a definition says; members that it no longer has go."""
        if self.enable is not None and event.label:
            self._label = event.label
        if event.group:
            self._group = event.group
        self._state = event.state
        self._timestamp = event.timestamp
        if event.message:
            self._message = event.message
            self._message_timestamp = event.timestamp
        self._timeout = getattr(event, "timeout", None)
        self._perm = getattr(event, "perm", "ro")
        self._rule = getattr(event, "rule", None)
        defined = event._definition.members
        for name in [name for name in self.data if name not in defined]:
            del self.data[name]
        self._damaged = False
        for name, details in defined.items():
            member = self.data.get(name)
            if member is None:
                member = self._new_member(name)
                member._vector = self
                self.data[name] = member
                if self._itemid is not None:
                    self._client._introduce(member, self.devicename, self.name, name)
            member._label = details.label or name
            self._define_member(member, details)
            member.received = details.received
            self._damaged = self._damaged or details.received is not None
        self._enable = True
        self._client._answered(self)
        self._touch()

    _enable: bool | None = None
    _damaged = False
    """There may be members whose value could not be read."""

    def _new_member(self, name: str) -> Any:
        return self._child(name)

    def _define_member(self, member: Any, details: DefinedMember) -> None:
        member._membervalue = details.value.strip()

    def _introduce(self) -> None:
        """Give a vector that is new to the model, and its members, their ids and user strings."""
        self._client._introduce(self, self.devicename, self.name)
        for name, member in self.data.items():
            self._client._introduce(member, self.devicename, self.name, name)

    def _update(self, event: setVector) -> None:
        """Take over what an update says."""
        members = self.data
        for name, value in event.data.items():
            member = members.get(name)
            if member is not None:
                member._membervalue = value
        self._changed(event)

    def _changed(self, event: setVector) -> None:
        if self._damaged:
            for name in event.data:
                if name in self.data:
                    self.data[name].received = None
        if event.state is not None:
            self._state = event.state
        self._timestamp = event.timestamp
        if event.message:
            self._message = event.message
            self._message_timestamp = event.timestamp
        if event.timeout is not None:
            self._timeout = event.timeout
        if self._deadline is not None:
            self._client._answered(self)
        if self._record is not None:
            self._touch()

    # -- what goes to the server

    def _ready_to_send(self) -> bool:
        """Vectors that were deleted, and clients that are not connected, send nothing."""
        return bool(self._enable and self._client._can_send)

    async def _command(self, timestamp: datetime | None, members: str) -> None:
        """Send a new…Vector with these members, the vector now being Busy."""
        stamp = commands.stamp_text(timestamp, self.name)
        if stamp is None:
            return
        message = commands.new_vector(f"new{self.vectortype}", self.devicename, self.name, stamp, members)
        self._sending()
        await self._client._transmit(message)

    def _sending(self) -> None:
        self._state = "Busy"
        self._commands += 1
        self._touch()
        self._client._expect(self)


class SwitchVector(PropertyVector):
    """Switches."""

    vectortype = "SwitchVector"
    _child = SwitchMember

    async def send_newSwitchVector(
        self, timestamp: datetime | None = None, members: Mapping[str, str] | None = None
    ) -> None:
        """Ask for switches to be set. Only those given are sent, those to be Off first; the rule is not enforced."""
        if self._ready_to_send():
            await self._command(timestamp, commands.switches(self, members or {}))


class LightVector(PropertyVector):
    """Lights, which only the driver sets."""

    vectortype = "LightVector"
    _child = LightMember

    @property
    def perm(self) -> str:
        """Always ro; setting it has no effect."""
        return "ro"

    @perm.setter
    def perm(self, value: str) -> None:
        pass

    def checktimedout(self, nowtime: float) -> bool:
        """Nothing can be asked of lights."""
        return False


class TextVector(PropertyVector):
    """Texts."""

    vectortype = "TextVector"
    _child = TextMember

    async def send_newTextVector(
        self, timestamp: datetime | None = None, members: Mapping[str, str] | None = None, *, complete: bool = True
    ) -> None:
        """Ask for texts to be set. TypeError for what is not a str.

        If `complete`, those not given are sent as they stand, but never of a write-only vector.
        """
        if self._ready_to_send():
            await self._command(timestamp, commands.texts(self, members or {}, complete))


class NumberVector(_Numbers, PropertyVector):
    """Numbers."""

    vectortype = "NumberVector"
    _snap_class = SnapNumberVector
    _child = NumberMember

    def _define_member(self, member: Any, details: DefinedMember) -> None:
        member._format, member._min, member._max, member._step = details.details
        member._membervalue, member._float = details.value, details.number

    def _update(self, event: setNumberVector) -> None:  # type: ignore[override]
        members = self.data
        for (name, text), number in zip(event.data.items(), event._floats, strict=False):
            member = members.get(name)
            if member is not None:
                member._membervalue = text
                member._float = number
        self._changed(event)

    async def send_newNumberVector(
        self, timestamp: datetime | None = None, members: Mapping[str, Any] | None = None, *, complete: bool = True
    ) -> None:
        """Ask for numbers to be set; text is sent as it is.

        If `complete`, those not given are sent as they stand, but never of a write-only vector.
        """
        if self._ready_to_send():
            await self._command(timestamp, commands.numbers(self, members or {}, complete))


class BLOBVector(PropertyVector):
    """BLOBs."""

    vectortype = "BLOBVector"
    _child = BLOBMember

    def __init__(self, event: defBLOBVector) -> None:
        self._enableBLOB: str = event.device._enableBLOB
        super().__init__(event)

    def set_blobsize(self, membername: str, blobsize: int) -> None:
        """Note the size of a member's content; unknown members and what is no int are ignored."""
        if membername in self.data and isinstance(blobsize, int):
            self.data[membername].blobsize = blobsize

    def set_blobformat(self, membername: str, blobformat: str) -> None:
        """Note the format of a member's content; unknown members are ignored."""
        if membername in self.data:
            self.data[membername].blobformat = blobformat

    def _define_member(self, member: Any, details: DefinedMember) -> None:
        """A definition has no content: the last one stays."""

    def _update(self, event: setBLOBVector) -> None:  # type: ignore[override]
        keep = self._client._keeps(self)
        for name, content in event.data.items():
            member = self.data.get(name)
            if member is not None:
                member._membervalue = content if keep else None
                member._blobsize, member._blobformat = event.sizeformat[name]
                member._filename = event._filenames.get(name, "")
        self._changed(event)

    async def send_newBLOBVector(
        self, timestamp: datetime | None = None, members: Mapping[str, Any] | None = None
    ) -> None:
        """Send BLOBs: values are (content, size, format), see `BLOBMember.getbytes` for the content.

        Size 0 stands for the number of bytes, an empty format for the suffixes of a path or else the last format
        received. ValueError, before anything is sent, when content is empty or cannot be read.
        """
        if not self._ready_to_send():
            return
        stamp = commands.stamp_text(timestamp, self.name)
        if stamp is None:
            return
        message = await commands.new_blobs(self, stamp, members or {})
        if self._ready_to_send():
            self._sending()
            await self._client._transmit(message)


class ClientEvent(UserDict[str, Any]):
    """An event of the program's own about a vector; a mapping of its members to values. See `create_clientevent`."""

    root = None

    def __init__(self, eventtype: str, device: Any, vector: Any, **payload: Any) -> None:
        self.data = dict(vector.items())
        self.eventtype = eventtype
        self.device = device
        self.devicename = device.devicename
        self.vector = vector
        self.vectorname = vector.name
        self.timestamp = datetime.now(UTC)
        self.payload = payload
