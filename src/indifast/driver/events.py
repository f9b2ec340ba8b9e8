"""Events for user code: commands from clients (`rxevent`) and messages of other drivers (`snoopevent`).

Constructing an event raises `EventException` if the message is invalid; the message is then refused.
"""

from __future__ import annotations

import logging
import math
import time
from collections import UserDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from indifast.protocol import vectors
from indifast.protocol.complaints import Complaints
from indifast.protocol.numbers import read_number
from indifast.protocol.received import Defined, Received, Shape
from indifast.protocol.timestamps import parse_timestamp
from indifast.protocol.vectors import attributes_of
from indifast.protocol.vocabulary import BLOB_POLICIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike

    from indifast.driver.propertyvectors import PropertyVector

_complaints = Complaints(logging.getLogger(__name__))


class EventException(Exception):
    """Raised for a message that is not valid."""


class NumberException(EventException):
    """Raised for a command with a value that is not a number. Its sender is told, because people type such values."""


_Read = TypeVar("_Read")


def _take(read: Callable[..., _Read], *arguments: Any) -> _Read:
    """Call a function of `protocol.vectors`, turning its errors into exceptions of this module."""
    try:
        return read(*arguments)
    except vectors.NumberError as error:
        raise NumberException(str(error)) from None
    except vectors.VectorError as error:
        raise EventException(str(error)) from None


class _ReadOnly(UserDict[str, Any]):
    """Mapping that user code can't change."""

    def __setitem__(self, key: object, item: object = None) -> NoReturn:
        raise TypeError("the values of an event can't be set")


class _Numbers:
    """Access to number values as floats."""

    data: dict[str, str]

    def getfloatvalue(self, membername: str) -> float:
        """Return a value as a float; nan if a definition has no readable value.

        Raises:
            KeyError: The event has no such member.
        """
        if membername not in self.data:
            raise KeyError(f"the event has no member {membername!r}")
        number = read_number(self.data[membername])
        return math.nan if number is None else number


class _BLOBs:
    """Access to BLOB content without copying it. The mapping has it as bytes."""

    data: dict[str, bytes]
    sizeformat: dict[str, tuple[int, str]]

    def buffer(self, membername: str) -> memoryview:
        """Return a member's content, in the memory that it was decoded into."""
        return memoryview(self.data[membername])

    def array(
        self, membername: str, dtype: DTypeLike = "u1", shape: Sequence[int] | None = None
    ) -> np.ndarray[Any, Any]:
        """Return a member's content as a read-only NumPy array over the same memory.

        Args:
            membername: The name of the member.
            dtype: The type of the elements, with the byte order where it matters (`">i2"` for FITS).
            shape: The shape, rows first; None for one dimension.

        Raises:
            ValueError: The size of the content does not match.
        """
        import numpy

        array = numpy.frombuffer(self.data[membername], dtype)
        return array if shape is None else array.reshape(shape)


# -- Commands from clients


class Event(Received):
    """Message for one vector of this driver.

    Attributes:
        devicename: The name of the device.
        vectorname: The name of the vector.
        vector: The vector itself.
        timestamp: When the message was sent, in UTC; None if its timestamp can't be read.
        root: The message as an ElementTree element.
    """

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        self.devicename = devicename
        self.vectorname = vectorname
        self.vector = vector
        self._element = root
        self.timestamp = parse_timestamp(attributes_of(root).get("timestamp"))


class getProperties(Event):
    """Request from a client for the definition of the vector."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        super().__init__(devicename, vectorname, vector, root)
        self.timestamp = datetime.now(UTC)


class enableBLOB(Event):
    """BLOB policy that a client has set for the vector: `value` is `Never`, `Also` or `Only`."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        super().__init__(devicename, vectorname, vector, root)
        self.value = (root.text or "").strip()
        if self.value not in BLOB_POLICIES:
            raise EventException(f"enableBLOB with the value {self.value!r}")


class newVector(Event, _ReadOnly):
    """Command: maps member names to new values. It need not include all members of the vector."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        UserDict.__init__(self)
        Event.__init__(self, devicename, vectorname, vector, root)
        self.data = self._values(root, vector)

    _kind: ClassVar[str]

    def _values(self, root: vectors.Source, vector: PropertyVector) -> dict[str, Any]:
        return _take(vectors.command, root, self._kind, vector.data)


class newSwitchVector(newVector):
    """Mapping of member name to `On` or `Off`."""

    _kind = "Switch"


class newTextVector(newVector):
    """Mapping of member name to text, as it was sent."""

    _kind = "Text"


class newNumberVector(_Numbers, newVector):
    """Mapping of member name to the stripped text of a finite number: decimal, scientific or sexagesimal."""

    _kind = "Number"

    def getformattedvalue(self, membername: str) -> str:
        """Return a value as the format of the vector's member shows it.

        Raises:
            KeyError: The event has no such member.
            TypeError: The format can't show the number.
        """
        text: str = self.vector.data[membername].format_number(self.getfloatvalue(membername))
        return text


class newBLOBVector(_BLOBs, newVector):
    """Mapping of member name to bytes; `sizeformat` maps the names to the attributes (size, format)."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        self.sizeformat = {}
        super().__init__(devicename, vectorname, vector, root)

    def _values(self, root: vectors.Source, vector: PropertyVector) -> dict[str, Any]:
        contents = _take(vectors.sent_blobs, root, vector.data)
        for blob in contents.values():
            if blob.format is None:
                text = "newBLOBVector for %s.%s: a member has no format"
                _complaints.say(logging.WARNING, time.monotonic(), text, self.devicename, self.vectorname)
        return _kept(contents, self.sizeformat)


def _kept(contents: dict[str, vectors.Blob], sizeformat: dict[str, tuple[int, str]]) -> dict[str, bytes]:
    """Return the contents by member; put the size and format of each into `sizeformat`."""
    sizeformat.update({name: (blob.size, blob.format or "") for name, blob in contents.items()})
    return {name: blob.data for name, blob in contents.items()}


# -- Messages of other drivers


class SnoopEvent(Received):
    """Message of another driver.

    Attributes:
        devicename: The device that the message is about, if any.
        vectorname: The vector that the message is about, if any.
        timestamp: When the message was sent, in UTC; None if its timestamp can't be read.
        root: The message as an ElementTree element.
    """

    _faults: Sequence[str] = ()
    """What was left out or replaced, in sentences."""

    def __init__(self, root: vectors.Source) -> None:
        self._element = root
        attributes = attributes_of(root)
        self.devicename = attributes.get("device")
        self.vectorname: str | None = None
        self.timestamp = parse_timestamp(attributes.get("timestamp"))


class Message(SnoopEvent):
    """`message` from a device or, if `devicename` is None, from the system."""

    def __init__(self, root: vectors.Source) -> None:
        super().__init__(root)
        self.devicename = self.devicename or None
        self.message = attributes_of(root).get("message", "")


class delProperty(SnoopEvent):
    """Deletion of a property, or of the whole device if `vectorname` is None. An empty name deletes nothing."""

    def __init__(self, root: vectors.Source) -> None:
        super().__init__(root)
        attributes = attributes_of(root)
        if not self.devicename:
            raise EventException("delProperty without device")
        self.vectorname = attributes.get("name")
        self.message = attributes.get("message", "")


class _SnoopVector(SnoopEvent):
    def __init__(self, root: vectors.Source) -> None:
        super().__init__(root)
        attributes = attributes_of(root)
        if not self.devicename:
            raise EventException("no device name")
        self.vectorname = attributes.get("name")
        if not self.vectorname:
            raise EventException("no vector name")
        self.message = attributes.get("message", "")


class defVector(Defined, _SnoopVector):
    """Definition. Whatever is missing or can't be read has a default, see `protocol.vectors`."""

    _shape = Shape(
        labels_itself=True,
        group="",
        timeout=lambda text: "0" if text is None else text,
        text=lambda text: text or None,
    )

    def __init__(self, root: vectors.Source) -> None:
        super().__init__(root)
        definition = _take(vectors.definition, root)
        self._faults = definition.faults
        self._keep(self._define(definition))

    def _keep(self, values: dict[str, Any]) -> None:
        """Keep the values if this event is a mapping."""


class _Values(defVector, _ReadOnly):
    """Definition that maps member name to value."""

    def __init__(self, root: vectors.Source) -> None:
        UserDict.__init__(self)
        super().__init__(root)

    def _keep(self, values: dict[str, Any]) -> None:
        self.data = values


class defSwitchVector(_Values):
    """Mapping of member name to `On` or `Off`, with the attribute `rule`."""


class defTextVector(_Values):
    """Mapping of member name to text; None for an empty text."""


class defNumberVector(_Numbers, _Values):
    """Mapping of member name to the text of a number; `memberlabels` has (label, format, min, max, step) by name."""


class defLightVector(_Values):
    """Mapping of member name to a state: `Idle`, `Ok`, `Busy` or `Alert`."""


class defBLOBVector(defVector):
    """Definition of a BLOB vector. It is not a mapping, as definitions have no content."""


class setVector(_SnoopVector, _ReadOnly):
    """Update: maps member name to value. Empty if only the state has changed; unreadable values are left out.

    Attributes:
        state: The new state; None if none was sent.
        message: A message for people; may be empty.
    """

    def __init__(self, root: vectors.Source) -> None:
        UserDict.__init__(self)
        _SnoopVector.__init__(self, root)
        update = _take(vectors.update, root)
        self._faults = update.faults
        self.state = update.state
        if type(self) is not setLightVector:
            self.timeout = "0" if update.timeout is None else update.timeout
        self.data = dict(update.values)


class setSwitchVector(setVector):
    """Mapping of member name to `On` or `Off`."""


class setTextVector(setVector):
    """Mapping of member name to text, as it was sent."""


class setNumberVector(_Numbers, setVector):
    """Mapping of member name to the stripped text of a number."""


class setLightVector(setVector):
    """Mapping of member name to a state: `Idle`, `Ok`, `Busy` or `Alert`."""


class setBLOBVector(_BLOBs, setVector):
    """Mapping of member name to bytes; `sizeformat` maps the names to (size, format). Empty members are left out."""

    def __init__(self, root: vectors.Source) -> None:
        super().__init__(root)
        faults: list[str] = []
        self.sizeformat = {}
        self.data = _kept(vectors.blobs(root, faults), self.sizeformat)
        self._faults = faults


NEW_EVENTS: dict[str, type[newVector]] = {
    event.__name__: event for event in (newSwitchVector, newTextVector, newNumberVector, newBLOBVector)
}

SNOOP_EVENTS: dict[str, type[SnoopEvent]] = {
    "message": Message,
    **{
        event.__name__: event
        for event in (
            delProperty,
            defSwitchVector,
            defTextVector,
            defNumberVector,
            defLightVector,
            defBLOBVector,
            setSwitchVector,
            setTextVector,
            setNumberVector,
            setLightVector,
            setBLOBVector,
        )
    },
}
