"""What a client tells its program: everything that was received, and the changes of the connection."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree

from indifast.client.propertymembers import STATES, SWITCH_VALUES, ParseException
from indifast.protocol import vectors
from indifast.protocol.numbers import read_number
from indifast.protocol.received import Defined, Received, Shape
from indifast.protocol.selection import selected, speaker
from indifast.protocol.timestamps import parse_timestamp, timestamp_text

if TYPE_CHECKING:
    from indifast._parser import Element

__all__ = [
    "ConnectionLost", "ConnectionMade", "Event", "Message", "VectorTimeOut", "defBLOBVector", "defLightVector",
    "defNumberVector", "defSwitchVector", "defTextVector", "defVector", "delProperty", "getProperties",
    "setBLOBVector", "setLightVector", "setNumberVector", "setSwitchVector", "setTextVector", "setVector",
]  # fmt: skip


def _parse_timeout(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = read_number(text)
    # nan is later than no time: it would never be over.
    return seconds if seconds is not None and isfinite(seconds) else None


class Faulty(Protocol):
    """Is told what was left out of a message."""

    def left_out(self, element: Element, nameless: int, faults: Sequence[str], /) -> None:
        """Members without a name, so many, and sentences about other faults."""


class Event(Received):
    """Base of what was received; `device` and `vector` are the live objects of the client's model."""

    eventtype: str
    devicename: str | None
    vectorname: str | None
    timestamp: datetime

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        self.device = device
        self._element = element
        self.devicename = element.device
        self.vectorname = element.name
        self.vector: Any = None
        self.timestamp = parse_timestamp(element.attrs.get("timestamp")) or datetime.now(UTC)

    def __str__(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")


class Message(Event):
    """A message of a device, of the server, or of the client itself (then `devicename` is None)."""

    eventtype = "Message"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.devicename, self.vectorname = speaker(element), None
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
        event.timestamp = datetime.now(UTC)
        event.message = text
        return event

    def _make_tree(self) -> ElementTree.Element:
        if self._element is not None:
            return super()._make_tree()
        stamp = timestamp_text(self.timestamp)
        return ElementTree.Element("message", {"message": self.message, "timestamp": stamp})


class getProperties(Event):
    """Somebody asks for definitions; `devicename` and `vectorname` may be None or unknown here."""

    eventtype = "getProperties"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.devicename, self.vectorname = selected(element)


class delProperty(Event):
    """A vector, or with `vectorname` None a whole device, has gone. Its objects stay, with `enable` False.

    With an empty `vectorname` nothing has gone.
    """

    eventtype = "Delete"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.message = element.attrs.get("message", "")


class defVector(Event, Defined, UserDict[str, Any]):
    """Base of definitions: a mapping of member names to values. What is missing or can't be read has a default.

    Members without a name are left out. ParseException for a definition that has no other, or no name.
    """

    eventtype = "Define"
    _shape = Shape(
        labels_itself=False,
        group="DEFAULT GROUP",
        timeout=lambda text: _parse_timeout(text) or 0.0,
        text=str.strip,
    )

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        Event.__init__(self, element, device, problems)
        try:
            definition = vectors.definition(element)
        except vectors.VectorError as error:
            raise ParseException(str(error)) from None
        self._definition = definition
        self.data = self._define(definition)
        if definition.nameless or definition.faults:
            problems.left_out(element, definition.nameless, definition.faults)

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("the values of an event cannot be set")


class defSwitchVector(defVector):
    """Switches are defined."""


class defTextVector(defVector):
    """Texts are defined."""


class defNumberVector(defVector):
    """Numbers are defined; `memberlabels` maps names to (label, format, min, max, step)."""


class defLightVector(defVector):
    """Lights are defined."""


class defBLOBVector(defVector):
    """BLOBs are defined; the mapping is empty."""

    eventtype = "DefineBLOB"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.data = {}


class UndefinedError(ParseException):
    """An update or a deletion of what was never defined, or is deleted."""


class setVector(Event, UserDict[str, Any]):
    """Base of updates: a mapping of the members received to their values. `state` is None when none was given.

    Members without a name, and values that can't be read, are left out.
    """

    eventtype = "Set"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        # The receive path: written for few operations. `values()` gives the stripped texts by member name.
        attrs = element.attrs
        self._element = element
        self.device = device
        self.devicename = element.device
        self.vectorname = name = element.name
        self.vector = vector = device.data.get(name)
        if vector is None or not vector._enable:
            raise UndefinedError(f"a {element.tag} for what is not defined")
        if vector.vectortype != self._vectortype:
            raise ParseException(f"a {element.tag} for a {vector.vectortype}")
        get = attrs.get
        state = get("state")
        self.state = state if state in STATES else None
        self.message = get("message", "")
        timeout = get("timeout")
        self.timeout = None if timeout is None else _parse_timeout(timeout)
        self.timestamp = parse_timestamp(get("timestamp")) or datetime.now(UTC)
        self._read(element, problems)

    _vectortype: str

    def _read(self, element: Element, problems: Faulty) -> None:
        self.data = values = element.values()
        allowed = self._allowed
        if allowed is not None:
            for value in values.values():
                if value not in allowed:
                    self._mend(element, problems)
                    break

    def _mend(self, element: Element, problems: Faulty) -> None:
        """Leave out what can't be read: `protocol.vectors` decides, and is not asked as long as all is well."""
        faults: list[str] = []
        self.data = vectors.readable(self._vectortype.removesuffix("Vector"), self.data, faults)
        problems.left_out(element, 0, faults)

    _allowed: frozenset[str] | None = None

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("the values of an event cannot be set")


class setSwitchVector(setVector):
    """Switches changed."""

    _vectortype = "SwitchVector"
    _allowed = SWITCH_VALUES


class setTextVector(setVector):
    """Texts changed."""

    _vectortype = "TextVector"


class setNumberVector(setVector):
    """Numbers changed; the values are their texts."""

    _vectortype = "NumberVector"

    def _read(self, element: Element, problems: Faulty) -> None:
        self.data = values = element.values()
        try:
            self._floats = list(map(float, values.values()))  # what `float` reads, `read_number` reads alike
        except ValueError:
            self._mend(element, problems)
            numbers = map(read_number, self.data.values())
            self._floats = [number for number in numbers if number is not None]

    def _mend(self, element: Element, problems: Faulty) -> None:
        if any(read_number(text) is None for text in self.data.values()):  # and not sexagesimal only
            super()._mend(element, problems)


class setLightVector(setVector):
    """Lights changed."""

    _vectortype = "LightVector"
    _allowed = STATES

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.timeout = None


class setBLOBVector(setVector):
    """BLOBs came: bytes, or read-only memoryviews of memory shared with a local server, by member name.

    `sizeformat` maps the names to (size as announced, format).
    """

    eventtype = "SetBLOB"
    _vectortype = "BLOBVector"

    def _read(self, element: Element, problems: Faulty) -> None:
        self.data = {}
        self.sizeformat: dict[str, tuple[int, str]] = {}
        self._filenames: dict[str, str] = {}
        self._keep = True
        for member in element.members:
            if member.name:
                self.data[member.name] = content = member.data
                self.sizeformat[member.name] = (vectors.blob_size(member.attrs, content), member.format)


class VectorTimeOut:
    """Nothing was heard of a vector for its time-out after a command to it."""

    eventtype = "TimeOut"
    root = None

    def __init__(self, device: Any, vector: Any) -> None:
        self.device = device
        self.devicename = device.devicename
        self.vector = vector
        self.vectorname = vector.name
        self.timestamp = datetime.now(UTC)


class _ConnectionEvent:
    device = vector = devicename = vectorname = root = None

    def __init__(self) -> None:
        self.timestamp = datetime.now(UTC)


class ConnectionMade(_ConnectionEvent):
    """Connected; nothing is known of the server's devices yet."""

    eventtype = "ConnectionMade"


class ConnectionLost(_ConnectionEvent):
    """The connection is gone or about to be closed; the devices are still in the model."""

    eventtype = "ConnectionLost"
