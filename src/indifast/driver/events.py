"""What user code is told: commands from clients (`rxevent`), news of other drivers' devices (`snoopevent`).

An event that can't be made of a message raises `EventException`: that message is refused.
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
    """A message does not say what it should."""


class NumberException(EventException):
    """A command asks for what is not a number. Whoever sent it is told: people enter such things."""


_Read = TypeVar("_Read")


def _take(read: Callable[..., _Read], *arguments: Any) -> _Read:
    """What a function of `protocol.vectors` reads, with errors in the words of this module."""
    try:
        return read(*arguments)
    except vectors.NumberError as error:
        raise NumberException(str(error)) from None
    except vectors.VectorError as error:
        raise EventException(str(error)) from None


class _ReadOnly(UserDict[str, Any]):
    """A mapping that user code only reads."""

    def __setitem__(self, key: object, item: object = None) -> NoReturn:
        raise TypeError("the values of an event can't be set")


class _Numbers:
    """Number values as floats."""

    data: dict[str, str]

    def getfloatvalue(self, membername: str) -> float:
        """A value as a float, nan where a definition gives none that can be read; KeyError for an unknown member."""
        if membername not in self.data:
            raise KeyError(f"the event has no member {membername!r}")
        number = read_number(self.data[membername])
        return math.nan if number is None else number


class _BLOBs:
    """BLOB content without a copy. The mapping gives it as bytes."""

    data: dict[str, bytes]
    sizeformat: dict[str, tuple[int, str]]

    def buffer(self, membername: str) -> memoryview:
        """The content of a member, in the memory it was decoded into."""
        return memoryview(self.data[membername])

    def array(
        self, membername: str, dtype: DTypeLike = "u1", shape: Sequence[int] | None = None
    ) -> np.ndarray[Any, Any]:
        """The content of a member as a read-only NumPy array over the same memory.

        Args:
            dtype: of the elements, with byte order where it matters (`">i2"` for FITS).
            shape: rows first; None: one dimension.

        Raises:
            ValueError: the content has another size.
        """
        import numpy

        array = numpy.frombuffer(self.data[membername], dtype)
        return array if shape is None else array.reshape(shape)


# commands from clients


class Event(Received):
    """A message for one vector of this driver.

    Attributes:
        devicename, vectorname, vector: which vector; `vector` is the object.
        timestamp: when it was sent, UTC; None when that can't be read.
        root: the message as an ElementTree element.
    """

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        self.devicename = devicename
        self.vectorname = vectorname
        self.vector = vector
        self._element = root
        self.timestamp = parse_timestamp(attributes_of(root).get("timestamp"))


class getProperties(Event):
    """A client asks for the definition of the vector."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        super().__init__(devicename, vectorname, vector, root)
        self.timestamp = datetime.now(UTC)


class enableBLOB(Event):
    """A client says whether it wants BLOBs: `value` is `Never`, `Also` or `Only`."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        super().__init__(devicename, vectorname, vector, root)
        self.value = (root.text or "").strip()
        if self.value not in BLOB_POLICIES:
            raise EventException(f"enableBLOB with {self.value!r}")


class newVector(Event, _ReadOnly):
    """New values for members, by name; not every member of the vector needs to be among them."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        UserDict.__init__(self)
        Event.__init__(self, devicename, vectorname, vector, root)
        self.data = self._values(root, vector)

    _kind: ClassVar[str]

    def _values(self, root: vectors.Source, vector: PropertyVector) -> dict[str, Any]:
        return _take(vectors.command, root, self._kind, vector.data)


class newSwitchVector(newVector):
    """Member name to `On` or `Off`."""

    _kind = "Switch"


class newTextVector(newVector):
    """Member name to text, as it was sent."""

    _kind = "Text"


class newNumberVector(_Numbers, newVector):
    """Member name to the text of a number, stripped but not converted: decimal, scientific or sexagesimal, finite."""

    _kind = "Number"

    def getformattedvalue(self, membername: str) -> str:
        """A value as the format of the vector's member shows it; raises as getfloatvalue does."""
        text: str = self.vector.data[membername].format_number(self.getfloatvalue(membername))
        return text


class newBLOBVector(_BLOBs, newVector):
    """Member name to bytes; `sizeformat` maps the names to (size, format), the attributes."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: vectors.Source) -> None:
        self.sizeformat = {}
        super().__init__(devicename, vectorname, vector, root)

    def _values(self, root: vectors.Source, vector: PropertyVector) -> dict[str, Any]:
        contents = _take(vectors.sent_blobs, root, vector.data)
        for blob in contents.values():
            if blob.format is None:
                text = "newBLOBVector for %s.%s: a member without format"
                _complaints.say(logging.WARNING, time.monotonic(), text, self.devicename, self.vectorname)
        return _kept(contents, self.sizeformat)


def _kept(contents: dict[str, vectors.Blob], sizeformat: dict[str, tuple[int, str]]) -> dict[str, bytes]:
    """The contents by member; size and format of each go into `sizeformat`."""
    sizeformat.update({name: (blob.size, blob.format or "") for name, blob in contents.items()})
    return {name: blob.data for name, blob in contents.items()}


# news of other drivers' devices


class SnoopEvent(Received):
    """Something that another driver has said.

    Attributes:
        devicename, vectorname: which one is meant, None where none is.
        timestamp: when it was sent, UTC; None when that can't be read.
        root: the message as an ElementTree element.
    """

    _faults: Sequence[str] = ()
    """What was left out or replaced."""

    def __init__(self, root: vectors.Source) -> None:
        self._element = root
        attributes = attributes_of(root)
        self.devicename = attributes.get("device")
        self.vectorname: str | None = None
        self.timestamp = parse_timestamp(attributes.get("timestamp"))


class Message(SnoopEvent):
    """`message`, from a device or from the system (then `devicename` is None)."""

    def __init__(self, root: vectors.Source) -> None:
        super().__init__(root)
        self.devicename = self.devicename or None
        self.message = attributes_of(root).get("message", "")


class delProperty(SnoopEvent):
    """A property is gone, or the whole device when `vectorname` is None. With an empty name nothing is gone."""

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
    """A definition. What is missing or can't be read in it has a default, see `protocol.vectors`."""

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
        """Keep the values, if this is a mapping."""


class _Values(defVector, _ReadOnly):
    """Member name to value."""

    def __init__(self, root: vectors.Source) -> None:
        UserDict.__init__(self)
        super().__init__(root)

    def _keep(self, values: dict[str, Any]) -> None:
        self.data = values


class defSwitchVector(_Values):
    """Member name to `On` or `Off`; `rule`."""


class defTextVector(_Values):
    """Member name to text, None for an empty one."""


class defNumberVector(_Numbers, _Values):
    """Member name to the text of a number; `memberlabels` to (label, format, min, max, step)."""


class defLightVector(_Values):
    """Member name to a state word."""


class defBLOBVector(defVector):
    """No mapping: a definition has no content."""


class setVector(_SnoopVector, _ReadOnly):
    """An update: member name to value, empty when only the state has changed. What can't be read is left out.

    Attributes:
        state: None when none was sent.
        message: for people.
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
    """Member name to `On` or `Off`."""


class setTextVector(setVector):
    """Member name to text, as it was sent."""


class setNumberVector(_Numbers, setVector):
    """Member name to the text of a number, stripped."""


class setLightVector(setVector):
    """Member name to a state word."""


class setBLOBVector(_BLOBs, setVector):
    """Member name to bytes; `sizeformat` maps the names to (size, format). A member without content is left out."""

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
