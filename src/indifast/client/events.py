"""What a client tells its program: everything that was received, and the changes of the connection."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from datetime import datetime, timezone
from math import isfinite
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from indifast.client.propertymembers import STATES, SWITCH_VALUES, ParseException
from indifast.protocol import vocabulary
from indifast.protocol.etree import to_tree
from indifast.protocol.numbers import getfloat
from indifast.protocol.timestamps import timestamp_text

if TYPE_CHECKING:
    from indifast._parser import Element

__all__ = [
    "ConnectionLost", "ConnectionMade", "Event", "Message", "VectorTimeOut", "defBLOBVector", "defLightVector",
    "defNumberVector", "defSwitchVector", "defTextVector", "defVector", "delProperty", "getProperties",
    "setBLOBVector", "setLightVector", "setNumberVector", "setSwitchVector", "setTextVector", "setVector",
]  # fmt: skip

PERMISSIONS = frozenset(vocabulary.PERMISSIONS)
RULES = frozenset(vocabulary.RULES)

_utc = timezone.utc  # noqa: UP017 - one name for the time zone that the receive path looks up
_fromisoformat = datetime.fromisoformat


def _parse_timestamp(timestamp_string: str | None) -> datetime:
    """The UTC time of an INDI timestamp; of one that is missing or unreadable, now. Zone offsets are converted."""
    if timestamp_string:
        try:
            stamp = _fromisoformat(timestamp_string + "+00:00")
        except ValueError:
            stamp = None
        try:
            if stamp is None:
                stamp = _fromisoformat(timestamp_string.strip())
            if stamp.tzinfo is None:
                return stamp.replace(tzinfo=_utc)
            return stamp.astimezone(_utc) if stamp.tzinfo is not _utc else stamp
        except (ValueError, OverflowError):
            pass
    return datetime.now(_utc)


def _parse_timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = getfloat(text)
    except TypeError:
        return None
    return seconds if isfinite(seconds) else None  # nan is later than no time: it would never be over


class Event:
    """Base of what was received; `device` and `vector` are the live objects of the client's model."""

    eventtype: str
    devicename: str | None
    vectorname: str | None
    timestamp: datetime

    def __init__(self, element: Element, device: Any, client: Any) -> None:
        self.device = device
        self._element: Element | None = element
        self.devicename = element.device
        self.vectorname = element.name
        self.vector: Any = None
        self.timestamp = _parse_timestamp(element.attrs.get("timestamp"))

    @property
    def root(self) -> ElementTree.Element:
        """The message as an `xml.etree.ElementTree.Element`, made when it is asked for."""
        root = self.__dict__.get("_root")
        if root is None:
            root = self.__dict__["_root"] = self._make_root()
        return root

    def _make_root(self) -> ElementTree.Element:
        element = self._element
        assert element is not None
        return to_tree(element)

    def __str__(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")


class Message(Event):
    """A message of a device, of the server, or of the client itself (then `devicename` is None)."""

    eventtype = "Message"

    def __init__(self, element: Element, device: Any, client: Any) -> None:
        super().__init__(element, device, client)
        self.vectorname = None
        self.message = element.attrs.get("message", "")

    @property
    def own(self) -> bool:
        """The client itself says this, not its server."""
        return self._element is None

    @classmethod
    def _notice(cls, text: str) -> Message:
        """A message of the client itself."""
        event = cls.__new__(cls)
        event.device = event.vector = event._element = None
        event.devicename = event.vectorname = None
        event.timestamp = datetime.now(_utc)
        event.message = text
        return event

    def _make_root(self) -> ElementTree.Element:
        if self._element is not None:
            return super()._make_root()
        stamp = timestamp_text(self.timestamp)
        return ElementTree.Element("message", {"message": self.message, "timestamp": stamp})


class getProperties(Event):
    """Somebody asks for definitions; `devicename` and `vectorname` may be None or unknown here."""

    eventtype = "getProperties"


class delProperty(Event):
    """A vector, or with `vectorname` None a whole device, has gone. Its objects stay, with `enable` False."""

    eventtype = "Delete"

    def __init__(self, element: Element, device: Any, client: Any) -> None:
        super().__init__(element, device, client)
        self.message = element.attrs.get("message", "")


class defVector(Event, UserDict[str, Any]):
    """Base of definitions: a mapping of member names to values."""

    eventtype = "Define"
    _child: str

    def __init__(self, element: Element, device: Any, client: Any) -> None:
        Event.__init__(self, element, device, client)
        attrs = element.attrs
        if not element.name:
            raise ParseException("a definition without a name")
        state = attrs.get("state")
        if state not in STATES:
            raise ParseException(f"{element.name}: the definition has no valid state")
        self.state = state
        self.label = attrs.get("label", element.name)
        self.group = attrs.get("group", "DEFAULT GROUP")
        self.message = attrs.get("message", "")
        self.memberlabels: dict[str, Any] = {}
        self.data = {}
        self._parse(element)
        if not self.memberlabels:
            raise ParseException(f"{element.name}: a definition without members")

    def _parse(self, element: Element) -> None:
        attrs = element.attrs
        if self._child != "defLight":
            self.perm = attrs.get("perm")
            if self.perm not in PERMISSIONS:
                raise ParseException(f"{element.name}: the definition has no valid perm")
            self.timeout = _parse_timeout(attrs.get("timeout")) or 0.0
        if self._child == "defSwitch":
            self.rule = attrs.get("rule")
            if self.rule not in RULES:
                raise ParseException(f"{element.name}: the definition has no valid rule")
        for member in element.members:
            if member.tag != self._child:
                raise ParseException(f"{element.name}: {member.tag} in a {element.tag}")
            name = member.attrs.get("name")
            if not name:
                raise ParseException(f"{element.name}: a member without a name")
            self._member(name, member.attrs, member.text.strip())

    def _member(self, name: str, attrs: Mapping[str, str], text: str) -> None:
        self.memberlabels[name] = attrs.get("label", name)
        self.data[name] = text

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("the values of an event cannot be set")


class defSwitchVector(defVector):
    """Switches are defined."""

    _child = "defSwitch"

    def _member(self, name: str, attrs: Mapping[str, str], text: str) -> None:
        if text not in SWITCH_VALUES:
            raise ParseException(f"{self.vectorname}: switch {name} is neither On nor Off")
        super()._member(name, attrs, text)


class defTextVector(defVector):
    """Texts are defined."""

    _child = "defText"


class defNumberVector(defVector):
    """Numbers are defined; `memberlabels` maps names to (label, format, min, max, step)."""

    _child = "defNumber"

    def _member(self, name: str, attrs: Mapping[str, str], text: str) -> None:
        details = [attrs.get(key, "") for key in ("format", "min", "max", "step")]
        if not all(details):
            raise ParseException(f"{self.vectorname}: number {name} lacks format, min, max or step")
        _check_number(self.vectorname, name, text)
        self.memberlabels[name] = (attrs.get("label", name), *details)
        self.data[name] = text


class defLightVector(defVector):
    """Lights are defined."""

    _child = "defLight"

    def _member(self, name: str, attrs: Mapping[str, str], text: str) -> None:
        if text not in STATES:
            raise ParseException(f"{self.vectorname}: light {name} has no valid state")
        super()._member(name, attrs, text)


class defBLOBVector(defVector):
    """BLOBs are defined; the mapping is empty."""

    eventtype = "DefineBLOB"
    _child = "defBLOB"

    def _member(self, name: str, attrs: Mapping[str, str], text: str) -> None:
        self.memberlabels[name] = attrs.get("label", name)


class setVector(Event, UserDict[str, Any]):
    """Base of updates: a mapping of the members received to their values. `state` is None when none was given."""

    eventtype = "Set"
    _child: str

    def __init__(self, element: Element, device: Any, client: Any) -> None:
        # The receive path: written for few operations. `values()` gives the stripped texts by member name.
        attrs = element.attrs
        self._element = element
        self.device = device
        self.devicename = element.device
        self.vectorname = name = element.name
        self.vector = vector = device.data.get(name)
        if vector is None or not vector._enable:
            raise ParseException(f"{element.tag} for {name}, which is not defined")
        if vector.vectortype != self._vectortype:
            raise ParseException(f"{element.tag} for {name}, which is a {vector.vectortype}")
        get = attrs.get
        state = get("state")
        self.state = state if state in STATES else None
        self.message = get("message", "")
        timeout = get("timeout")
        self.timeout = None if timeout is None else _parse_timeout(timeout)
        stamp = get("timestamp")
        self.timestamp = _parse_timestamp(stamp)
        self._read(element)

    _vectortype: str

    def _read(self, element: Element) -> None:
        self.data = element.values()
        allowed = self._allowed
        if allowed is not None:
            for name, value in self.data.items():
                if value not in allowed:
                    raise ParseException(f"{self.vectorname}: {name} cannot be {value!r}")

    _allowed: frozenset[str] | None = None

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("the values of an event cannot be set")


class setSwitchVector(setVector):
    """Switches changed."""

    _child = "oneSwitch"
    _vectortype = "SwitchVector"
    _allowed = SWITCH_VALUES


class setTextVector(setVector):
    """Texts changed."""

    _child = "oneText"
    _vectortype = "TextVector"


class setNumberVector(setVector):
    """Numbers changed; the values are their texts."""

    _child = "oneNumber"
    _vectortype = "NumberVector"

    def _read(self, element: Element) -> None:
        self.data = values = element.values()
        self._floats: list[float] = []
        floats = self._floats
        for name, text in values.items():
            try:
                floats.append(float(text))  # what `float` reads, `getfloat` reads alike
            except ValueError:
                floats.append(_check_number(self.vectorname, name, text))


class setLightVector(setVector):
    """Lights changed."""

    _child = "oneLight"
    _vectortype = "LightVector"
    _allowed = STATES

    def __init__(self, element: Element, device: Any, client: Any) -> None:
        super().__init__(element, device, client)
        self.timeout = None


class setBLOBVector(setVector):
    """BLOBs came: bytes, or read-only memoryviews of memory shared with a local server, by member name.

    `sizeformat` maps the names to (size as announced, format).
    """

    eventtype = "SetBLOB"
    _child = "oneBLOB"
    _vectortype = "BLOBVector"

    def _read(self, element: Element) -> None:
        self.data = {}
        self.sizeformat: dict[str, tuple[int, str]] = {}
        self._filenames: dict[str, str] = {}
        for member in element.members:
            name = member.attrs.get("name")
            if member.tag != self._child or not name:
                raise ParseException(f"{self.vectorname}: a member without a name, or {member.tag}")
            size = member.blob_size
            if size is None or not member.format:
                raise ParseException(f"{self.vectorname}: {name} lacks size or format")
            self.data[name] = member.data
            self.sizeformat[name] = (size, member.format)


class VectorTimeOut:
    """Nothing was heard of a vector for its time-out after a command to it."""

    eventtype = "TimeOut"
    root = None

    def __init__(self, device: Any, vector: Any) -> None:
        self.device = device
        self.devicename = device.devicename
        self.vector = vector
        self.vectorname = vector.name
        self.timestamp = datetime.now(_utc)


class _ConnectionEvent:
    device = vector = devicename = vectorname = root = None

    def __init__(self) -> None:
        self.timestamp = datetime.now(_utc)


class ConnectionMade(_ConnectionEvent):
    """Connected; nothing is known of the server's devices yet."""

    eventtype = "ConnectionMade"


class ConnectionLost(_ConnectionEvent):
    """The connection is gone or about to be closed; the devices are still in the model."""

    eventtype = "ConnectionLost"


def _check_number(vectorname: str | None, name: str, text: str) -> float:
    if not text:
        raise ParseException(f"{vectorname}: number {name} is empty")
    try:
        return getfloat(text)
    except TypeError:
        raise ParseException(f"{vectorname}: {text!r} of {name} is no number") from None
