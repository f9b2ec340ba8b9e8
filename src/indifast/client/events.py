"""Events that a client passes to its program: everything received, and changes of the connection."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from time import time
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
    # A timeout of nan or inf would never end.
    return seconds if seconds is not None and isfinite(seconds) else None


class Faulty(Protocol):
    """Takes reports of what was left out of messages."""

    def left_out(self, element: Element, nameless: int, faults: Sequence[str], /) -> None:
        """Report members of a message that were left out.

        Args:
            element: The message.
            nameless: The number of members without a name.
            faults: A sentence for each other fault.
        """


class Event(Received):
    """Base class of received events; `device` and `vector` are the live objects of the client's model."""

    eventtype: str
    devicename: str | None
    vectorname: str | None
    timestamp: datetime
    _clock: float
    """When the message was received, as `time.time` gives it."""

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        self._clock = time()
        self.device = device
        self._element = element
        self.devicename = element.device
        self.vectorname = element.name
        self.vector: Any = None
        self.timestamp = parse_timestamp(element.attrs.get("timestamp")) or datetime.now(UTC)

    @property
    def arrived(self) -> datetime:
        """UTC time at which the client received the message; `timestamp` is that of the sender."""
        return datetime.fromtimestamp(self._clock, UTC)

    def __str__(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")


class Message(Event):
    """A message from a device, or from the server or the client itself (`devicename` is None)."""

    eventtype = "Message"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.devicename, self.vectorname = speaker(element), None
        self.message = element.attrs.get("message", "")

    @property
    def own(self) -> bool:
        """True if the message comes from the client itself, not from its server."""
        return self._element is None

    @classmethod
    def _notice(cls, text: str) -> Message:
        """Create a message from the client itself."""
        event = cls.__new__(cls)
        event.device = event.vector = event._element = None
        event.devicename = event.vectorname = None
        event.timestamp = datetime.now(UTC)
        event._clock = event.timestamp.timestamp()
        event.message = text
        return event

    def _make_tree(self) -> ElementTree.Element:
        if self._element is not None:
            return super()._make_tree()
        stamp = timestamp_text(self.timestamp)
        return ElementTree.Element("message", {"message": self.message, "timestamp": stamp})


class getProperties(Event):
    """A request for definitions; `devicename` and `vectorname` may be None, or unknown to the client."""

    eventtype = "getProperties"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.devicename, self.vectorname = selected(element)


class delProperty(Event):
    """The deletion of a vector, or of a whole device if `vectorname` is None.

    The objects stay, with `enable` False. If `vectorname` is empty, nothing was deleted.
    """

    eventtype = "Delete"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.message = element.attrs.get("message", "")


class defVector(Event, Defined, UserDict[str, Any]):
    """Base class of definitions: a mapping of member names to values.

    What is missing or can't be read has a default. Members without a name are left out.

    Raises:
        ParseException: The definition has no name, or no member with a name.
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
    """The definition of a switch vector."""


class defTextVector(defVector):
    """The definition of a text vector."""


class defNumberVector(defVector):
    """The definition of a number vector; `memberlabels` maps names to (label, format, min, max, step)."""


class defLightVector(defVector):
    """The definition of a light vector."""


class defBLOBVector(defVector):
    """The definition of a BLOB vector; the mapping is empty."""

    eventtype = "DefineBLOB"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.data = {}


class UndefinedError(ParseException):
    """An update or deletion of something that was never defined, or was deleted already."""


class setVector(Event, UserDict[str, Any]):
    """Base class of updates: a mapping of the received members to their values.

    Members without a name, and values that can't be read, are left out. `state` is None if no valid one was given.
    """

    eventtype = "Set"

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        # This is the receive path, so it takes few operations. `values()` returns the stripped texts by member name.
        attrs = element.attrs
        self._clock = time()
        self._element = element
        self.device = device
        self.devicename = element.device
        self.vectorname = name = element.name
        self.vector = vector = device.data.get(name)
        if vector is None or not vector._enable:
            raise UndefinedError(f"a {element.tag} for a property that is not defined")
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
        """Leave out values that can't be read. `protocol.vectors` decides, but is not asked while all is well."""
        faults: list[str] = []
        self.data = vectors.readable(self._vectortype.removesuffix("Vector"), self.data, faults)
        problems.left_out(element, 0, faults)

    _allowed: frozenset[str] | None = None

    def __setitem__(self, membername: str, value: Any) -> None:
        raise KeyError("the values of an event cannot be set")


class setSwitchVector(setVector):
    """An update of a switch vector."""

    _vectortype = "SwitchVector"
    _allowed = SWITCH_VALUES


class setTextVector(setVector):
    """An update of a text vector."""

    _vectortype = "TextVector"


class setNumberVector(setVector):
    """An update of a number vector; the values are the texts of the numbers."""

    _vectortype = "NumberVector"

    def _read(self, element: Element, problems: Faulty) -> None:
        self.data = values = element.values()
        try:
            self._floats = list(map(float, values.values()))  # what `float` accepts, `read_number` reads the same way
        except ValueError:
            self._mend(element, problems)
            numbers = map(read_number, self.data.values())
            self._floats = [number for number in numbers if number is not None]

    def _mend(self, element: Element, problems: Faulty) -> None:
        if any(read_number(text) is None for text in self.data.values()):  # and not merely sexagesimal
            super()._mend(element, problems)


class setLightVector(setVector):
    """An update of a light vector."""

    _vectortype = "LightVector"
    _allowed = STATES

    def __init__(self, element: Element, device: Any, problems: Faulty) -> None:
        super().__init__(element, device, problems)
        self.timeout = None


class setBLOBVector(setVector):
    """An update of a BLOB vector.

    The values are bytes, or read-only memoryviews of memory shared with a local server.

    Attributes:
        sizeformat: Maps member names to (announced size, format).
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
    """A vector did not answer a command within its timeout."""

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
    """The client has connected; nothing is known yet about the server's devices."""

    eventtype = "ConnectionMade"


class ConnectionLost(_ConnectionEvent):
    """The connection is gone or about to be closed; the devices are still in the model."""

    eventtype = "ConnectionLost"
