"""Base class of all vectors, and vectors that are frozen in snapshots."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from indifast.client.observed import observed
from indifast.client.propertymembers import STATES, snapped
from indifast.protocol.escape import one_line
from indifast.protocol.jsonform import finite
from indifast.protocol.vocabulary import PERMISSIONS, RULES

_MANY = 12


def some(words: list[str]) -> str:
    """Return words for people: all of them, or the first if they are many."""
    more = f" … and {len(words) - _MANY} more" if len(words) > _MANY else ""
    return f"{', '.join(words[:_MANY])}{more}"


class Vector(UserDict[str, Any]):
    """Base class of live vectors and their snapshots: a mapping of member names to values."""

    name: str
    devicename: str
    vectortype: str

    label = observed("label", "Text to display; the name if the definition gave no label.")
    group = observed("group", "The page or tab that the vector belongs to.")
    timestamp = observed("timestamp", "UTC time of the last change, timezone-aware.")
    message = observed("message", "The last message that came with a definition or an update of this vector.")
    message_timestamp = observed("message_timestamp", "UTC time of that message, timezone-aware.")
    timeout = observed("timeout", "Seconds that a command may take, as announced by the driver; None for lights.")
    enable = observed("enable", "False if the vector was deleted.")
    user_string = observed("user_string", "Free text, for the program that uses the client.")
    itemid = observed("itemid", "The identifier that `create_itemid` returned.")

    def __repr__(self) -> str:
        shown = [f"{one_line(name)}={member._shown()}" for name, member in self.data.items()]
        name = one_line(f"{self.devicename}.{self.name}")
        about = [self._state, self.perm or "", "" if self.enable else "gone"]
        return f"<{self.vectortype} {name} [{', '.join(filter(None, about))}] {some(shown)}>"

    def _touch(self) -> None:
        """Note that something has changed that a snapshot would show."""

    @property
    def state(self) -> str:
        """Idle, Ok, Busy or Alert."""
        state: str = self._state
        return state

    @state.setter
    def state(self, value: str) -> None:
        if value not in STATES:
            raise ValueError(f"{value!r} is not a state")
        self._state = value

    @property
    def arrived(self) -> datetime:
        """UTC time at which the client received the last change; `timestamp` is that of the sender."""
        return datetime.fromtimestamp(self._clock, UTC)

    @property
    def rule(self) -> str | None:
        """OneOfMany, AtMostOne or AnyOfMany for switches, otherwise None."""
        return self._rule

    @rule.setter
    def rule(self, value: str) -> None:
        if value not in RULES:
            raise ValueError(f"{value!r} is not a rule")
        self._rule = value

    @property
    def perm(self) -> str | None:
        """ro, wo or rw."""
        return self._perm

    @perm.setter
    def perm(self, value: str) -> None:
        if value not in PERMISSIONS:
            raise ValueError(f"{value!r} is not a permission")
        self._perm = value

    _snap_class: type[SnapVector]
    _state: str
    _clock: float
    _rule: str | None = None
    _perm: str | None = None

    async def _send(self, timestamp: datetime | None, members: Mapping[str, Any], complete: bool) -> None:
        """Send a command to the vector, whatever its type. Lights and snapshots send nothing."""

    def __getitem__(self, membername: str) -> Any:
        return self.data[membername].membervalue

    def __setitem__(self, membername: str, value: Any) -> None:
        self.data[membername].membervalue = value

    def members(self) -> dict[str, Any]:
        """Return the member objects by name."""
        return self.data

    def member(self, membername: str) -> Any:
        """Return one member object; raise KeyError if there is none of this name."""
        return self.data[membername]

    def memberlabel(self, membername: str) -> str:
        """Return the label of a member; raise KeyError if there is none of this name."""
        label: str = self.data[membername].label
        return label


class Numbers:
    """Methods of number vectors, live or not."""

    data: dict[str, Any]

    def getfloatvalue(self, membername: str) -> float:
        """Return the value of a member as a float; raise KeyError if there is none of this name."""
        value: float = self.data[membername].getfloatvalue()
        return value

    def getformattedvalue(self, membername: str) -> str:
        """Return the value of a member in its format.

        Raises:
            KeyError: There is no member of this name.
            TypeError: The format cannot show a number.
        """
        text: str = self.data[membername].getformattedvalue()
        return text


_HEADER = (
    "name", "devicename", "vectortype", "_label", "_group", "_state", "_timestamp", "_message", "_message_timestamp",
    "_timeout", "_enable", "_user_string", "_itemid", "_rule", "_perm", "_clock",
)  # fmt: skip


class VectorRecord:
    """A vector as it was at one moment; never changed once made, so snapshots and threads can share it."""

    __slots__ = ("header", "members", "snap")

    def __init__(self, vector: Vector) -> None:
        self.snap = vector._snap_class
        self.header = {key: getattr(vector, key) for key in _HEADER}
        self.members = [(member._snap_class, member._record()) for member in vector.data.values()]

    @property
    def enable(self) -> bool:
        enable: bool = self.header["_enable"]
        return enable


class Dumping:
    """Methods that give a snapshot as plain data or as JSON."""

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return the snapshot as plain data.

        Args:
            inc_blob: Include BLOB content, as bytes.
            inc_user_string: Include user strings.
            inc_itemid: Include item identifiers.
        """
        raise NotImplementedError

    def dumps(
        self,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        inc_blob: bool = False,
        inc_user_string: bool = False,
        inc_itemid: bool = False,
    ) -> str:
        """Return the snapshot as JSON text. See `json.dumps` and `dictdump`.

        BLOB content is written as base64, infinity and nan as null.
        """
        plain = self.dictdump(inc_blob, inc_user_string, inc_itemid)
        return json.dumps(finite(plain), indent=indent, separators=separators, default=_json_value)

    def dump(
        self,
        fp: IO[str],
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        inc_blob: bool = False,
        inc_user_string: bool = False,
        inc_itemid: bool = False,
    ) -> None:
        """Write the snapshot as JSON text to a text file. See `dumps`."""
        fp.write(self.dumps(indent, separators, inc_blob, inc_user_string, inc_itemid))


def _json_value(value: Any) -> str:
    """Return BLOB content as base64, and an item identifier of a type unknown to JSON as its text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        from indifast._base64 import encode

        return encode(value).decode("ascii")
    return str(value)


class SnapVector(Dumping, Vector):
    """A vector as it was at one moment. Its values may be changed, which affects nothing else."""

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
        """The member objects by name, built when they are first used."""
        data = self._data
        if data is None:
            data = {record["_name"]: snapped(cls, record) for cls, record in self._record.members}
            # Two threads that get here at the same time must receive the same members.
            data = self.__dict__.setdefault("_members", data)
            self._data = data
        return data

    @data.setter
    def data(self, value: dict[str, Any]) -> None:
        self._data = value

    def __copy__(self) -> SnapVector:
        """Return a separate mapping of the same member objects."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__, _data=self.data.copy())
        new.__dict__.pop("_members", None)
        return new

    copy = __copy__

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return the vector as plain data. See `Dumping.dictdump`."""
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


class SnapNumberVector(Numbers, SnapVector):
    """A vector of numbers as it was at one moment."""


def _iso(timestamp: datetime | None) -> str | None:
    return timestamp.isoformat(sep="T") if timestamp is not None else None
