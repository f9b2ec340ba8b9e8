"""What user code is told: commands from clients (`rxevent`), news of other drivers' devices (`snoopevent`).

An event that can't be made of a message raises `EventException`: that message is refused.
"""

from __future__ import annotations

import binascii
import logging
from collections import UserDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from indifast.protocol.numbers import getfloat, read_integer
from indifast.protocol.timestamps import parse_timestamp
from indifast.protocol.vocabulary import BLOB_POLICIES, PERMISSIONS, RULES, STATES, SWITCH_STATES

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    import numpy as np

    from indifast._parser import Element
    from indifast.driver.propertyvectors import PropertyVector

logger = logging.getLogger(__name__)


class EventException(Exception):
    """A message does not say what it should."""


class _MemberText(NamedTuple):
    tag: str
    attrs: dict[str, str]
    text: str
    data: bytes | None


def _members_of(root: Element | TreeElement) -> Iterator[_MemberText]:
    """The members of a received element, or of an ElementTree element."""
    if hasattr(root, "members"):
        for member in root.members:
            yield _MemberText(member.tag, member.attrs, member.text, member.data)
    else:
        for child in root:
            text = child.text or ""
            try:
                data = binascii.a2b_base64(text) or None if child.tag == "oneBLOB" else None
            except binascii.Error as error:
                raise EventException(f"BLOB content that is no base64: {error}") from None
            yield _MemberText(child.tag, dict(child.attrib), text, data)


def _attributes_of(root: Element | TreeElement) -> dict[str, str]:
    return root.attrs if hasattr(root, "attrs") else root.attrib


class _Received:
    """The message behind an event, as an ElementTree element when somebody looks at it."""

    _received: Element | TreeElement
    _tree: TreeElement | None = None

    @property
    def root(self) -> TreeElement:
        """The message as an element of `xml.etree.ElementTree`, made when first asked for."""
        if self._tree is None:
            from indifast._parser import Element
            from indifast.protocol.etree import to_tree

            received = self._received
            self._tree = to_tree(received) if isinstance(received, Element) else received
        return self._tree


class _ReadOnly(UserDict):  # type: ignore[type-arg]
    """A mapping that user code only reads."""

    def __setitem__(self, key: Any, item: Any = None) -> NoReturn:
        raise TypeError("the values of an event can't be set")


class _Numbers:
    """Number values as floats."""

    data: dict[str, str]

    def getfloatvalue(self, membername: str) -> float:
        """A value as a float; KeyError for an unknown member, TypeError when it is not the text of a number."""
        if membername not in self.data:
            raise KeyError(f"the event has no member {membername!r}")
        return getfloat(self.data[membername])


class _BLOBs:
    """BLOB content without a copy. The mapping gives it as bytes."""

    data: dict[str, bytes]
    sizeformat: dict[str, tuple[int, str]]

    def buffer(self, membername: str) -> memoryview:
        """The content of a member, in the memory it was decoded into."""
        return memoryview(self.data[membername])

    def array(self, membername: str, dtype: Any = "u1", shape: Sequence[int] | None = None) -> np.ndarray[Any, Any]:
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


class Event(_Received):
    """A message for one vector of this driver.

    Attributes:
        devicename, vectorname, vector: which vector; `vector` is the object.
        timestamp: when it was sent, UTC; None when that can't be read.
        root: the message as an ElementTree element.
    """

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: Element | TreeElement) -> None:
        self.devicename = devicename
        self.vectorname = vectorname
        self.vector = vector
        self._received = root
        self.timestamp = parse_timestamp(_attributes_of(root).get("timestamp"))


class getProperties(Event):
    """A client asks for the definition of the vector."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: Element | TreeElement) -> None:
        super().__init__(devicename, vectorname, vector, root)
        self.timestamp = datetime.now(UTC)


class enableBLOB(Event):
    """A client says whether it wants BLOBs: `value` is `Never`, `Also` or `Only`."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: Element | TreeElement) -> None:
        super().__init__(devicename, vectorname, vector, root)
        self.value = (root.text or "").strip()
        if self.value not in BLOB_POLICIES:
            raise EventException(f"enableBLOB with {self.value!r}")


class newVector(Event, _ReadOnly):
    """New values for members, by name; not every member of the vector needs to be among them."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: Element | TreeElement) -> None:
        UserDict.__init__(self)
        Event.__init__(self, devicename, vectorname, vector, root)
        for member in _known(_members_of(root), f"one{type(self).__name__[3:-6]}", vector):
            self.data[member.attrs["name"]] = self._value(member)
        if not self.data:
            raise EventException("no values")

    def _value(self, member: _MemberText) -> Any:
        return member.text


class newSwitchVector(newVector):
    """Member name to `On` or `Off`."""

    def _value(self, member: _MemberText) -> str:
        return _word(member, SWITCH_STATES)


class newTextVector(newVector):
    """Member name to text, as it was sent."""


class newNumberVector(_Numbers, newVector):
    """Member name to the text of a number, stripped but not converted."""

    def _value(self, member: _MemberText) -> str:
        return _number(member)

    def getformattedvalue(self, membername: str) -> str:
        """A value as the format of the vector's member shows it; raises as getfloatvalue does."""
        text: str = self.vector.data[membername].format_number(self.getfloatvalue(membername))
        return text


class newBLOBVector(_BLOBs, newVector):
    """Member name to bytes; `sizeformat` maps the names to (size, format), the attributes."""

    def __init__(self, devicename: str, vectorname: str, vector: PropertyVector, root: Element | TreeElement) -> None:
        self.sizeformat = {}
        super().__init__(devicename, vectorname, vector, root)

    def _value(self, member: _MemberText) -> bytes:
        if "format" not in member.attrs:
            logger.warning("newBLOBVector for %s.%s: a member without format", self.devicename, self.vectorname)
        self.sizeformat[member.attrs["name"]] = _size_and_format(member)
        if not member.data:
            raise EventException("a BLOB without content")
        return member.data


def _known(members: Iterable[_MemberText], tag: str, vector: PropertyVector) -> Iterator[_MemberText]:
    """The members, each found to be of the right kind and in the vector."""
    for member in members:
        if member.tag != tag:
            raise EventException(f"{member.tag} in place of {tag}")
        if member.attrs.get("name") not in vector.data:
            raise EventException(f"unknown member {member.attrs.get('name')!r}")
        yield member


def _word(member: _MemberText, allowed: Sequence[str]) -> str:
    word = member.text.strip()
    if word not in allowed:
        raise EventException(f"{member.attrs.get('name')} is {word!r}, not one of {', '.join(allowed)}")
    return word


def _number(member: _MemberText) -> str:
    text = member.text.strip()
    if not text:
        raise EventException(f"{member.attrs.get('name')} is empty")
    return text


def _size_and_format(member: _MemberText) -> tuple[int, str]:
    text = member.attrs.get("size", "")
    size = read_integer(text)
    if size is None:
        raise EventException(f"a BLOB of size {text!r}")
    return size, member.attrs.get("format", "")


# news of other drivers' devices


class SnoopEvent(_Received):
    """Something that another driver has said.

    Attributes:
        devicename, vectorname: which one is meant, None where none is.
        timestamp: when it was sent, UTC; None when that can't be read.
        root: the message as an ElementTree element.
    """

    def __init__(self, root: Element | TreeElement) -> None:
        self._received = root
        attributes = _attributes_of(root)
        self.devicename = attributes.get("device")
        self.vectorname: str | None = None
        self.timestamp = parse_timestamp(attributes.get("timestamp"))


class Message(SnoopEvent):
    """`message`, from a device or from the system (then `devicename` is None)."""

    def __init__(self, root: Element | TreeElement) -> None:
        super().__init__(root)
        self.message = _attributes_of(root).get("message", "")


class delProperty(SnoopEvent):
    """A property is gone, or the whole device when `vectorname` is None."""

    def __init__(self, root: Element | TreeElement) -> None:
        super().__init__(root)
        attributes = _attributes_of(root)
        if self.devicename is None:
            raise EventException("delProperty without device")
        self.vectorname = attributes.get("name")
        self.message = attributes.get("message", "")


class _SnoopVector(SnoopEvent):
    def __init__(self, root: Element | TreeElement) -> None:
        super().__init__(root)
        attributes = _attributes_of(root)
        if not self.devicename:
            raise EventException("no device name")
        self.vectorname = attributes.get("name")
        if not self.vectorname:
            raise EventException("no vector name")
        self.message = attributes.get("message", "")


class defVector(_SnoopVector):
    """A definition.

    Attributes:
        label, group, state, message: as sent; the name is the label when there is none.
        memberlabels: member name to label.
    """

    def __init__(self, root: Element | TreeElement) -> None:
        super().__init__(root)
        attributes = _attributes_of(root)
        self.label = attributes.get("label") or self.vectorname
        self.group = attributes.get("group", "")
        self.state = _one_of(attributes, "state", STATES)
        self.memberlabels: dict[str, Any] = {}
        self._take(root)
        if not self.memberlabels:
            raise EventException("no members")

    def _take(self, root: Element | TreeElement) -> None:
        tag = f"def{type(self).__name__[3:-6]}"
        for member in _members_of(root):
            name = member.attrs.get("name")
            if member.tag != tag or not name:
                raise EventException(f"{member.tag} {name!r} in place of a named {tag}")
            self.memberlabels[name] = self._label(member, name)
            self._keep(name, member)

    def _label(self, member: _MemberText, name: str) -> Any:
        return member.attrs.get("label") or name

    def _keep(self, name: str, member: _MemberText) -> None:
        """Take over the value."""


class _Commanded(defVector):
    """A definition of something that clients may set: with `perm` and `timeout`."""

    def __init__(self, root: Element | TreeElement) -> None:
        super().__init__(root)
        attributes = _attributes_of(root)
        self.perm = _one_of(attributes, "perm", PERMISSIONS)
        self.timeout = attributes.get("timeout", "0")


class _Values(_ReadOnly):
    """Member name to value."""

    def _keep(self, name: str, member: _MemberText) -> None:
        self.data[name] = self._value(member)

    def _value(self, member: _MemberText) -> Any:
        return member.text


class defSwitchVector(_Values, _Commanded):
    """Member name to `On` or `Off`; `rule`."""

    def __init__(self, root: Element | TreeElement) -> None:
        UserDict.__init__(self)
        _Commanded.__init__(self, root)
        self.rule = _one_of(_attributes_of(root), "rule", RULES)

    def _value(self, member: _MemberText) -> str:
        return _word(member, SWITCH_STATES)


class defTextVector(_Values, _Commanded):
    """Member name to text, None for an empty one."""

    def __init__(self, root: Element | TreeElement) -> None:
        UserDict.__init__(self)
        _Commanded.__init__(self, root)

    def _value(self, member: _MemberText) -> str | None:
        return member.text or None


class defNumberVector(_Numbers, _Values, _Commanded):
    """Member name to the text of a number; `memberlabels` to (label, format, min, max, step)."""

    def __init__(self, root: Element | TreeElement) -> None:
        UserDict.__init__(self)
        _Commanded.__init__(self, root)

    def _label(self, member: _MemberText, name: str) -> tuple[str, str, str, str, str]:
        missing = [key for key in ("format", "min", "max", "step") if key not in member.attrs]
        if missing:
            raise EventException(f"the number {name} is defined without {', '.join(missing)}")
        attrs = member.attrs
        return attrs.get("label") or name, attrs["format"], attrs["min"], attrs["max"], attrs["step"]

    def _value(self, member: _MemberText) -> str:
        return _number(member)


class defLightVector(_Values, defVector):
    """Member name to a state word."""

    def __init__(self, root: Element | TreeElement) -> None:
        UserDict.__init__(self)
        defVector.__init__(self, root)

    def _value(self, member: _MemberText) -> str:
        return _word(member, STATES)


class defBLOBVector(_Commanded):
    """No mapping: a definition has no content."""


def _one_of(attributes: dict[str, str], name: str, allowed: Sequence[str]) -> str:
    value = attributes.get(name)
    if value is None or value not in allowed:
        raise EventException(f"{name} is {value!r}, not one of {', '.join(allowed)}")
    return value


class setVector(_SnoopVector, _ReadOnly):
    """An update: member name to value, empty when only the state has changed.

    Attributes:
        state: None when none was sent.
        message: for people.
    """

    def __init__(self, root: Element | TreeElement) -> None:
        UserDict.__init__(self)
        _SnoopVector.__init__(self, root)
        attributes = _attributes_of(root)
        state = attributes.get("state")
        self.state = state if state in STATES else None
        if type(self) is not setLightVector:
            self.timeout = attributes.get("timeout", "0")
        tag = f"one{type(self).__name__[3:-6]}"
        for member in _members_of(root):
            name = member.attrs.get("name")
            if member.tag != tag or not name:
                raise EventException(f"{member.tag} {name!r} in place of a named {tag}")
            self._keep(name, member)

    def _keep(self, name: str, member: _MemberText) -> None:
        self.data[name] = self._value(member)

    def _value(self, member: _MemberText) -> Any:
        return member.text


class setSwitchVector(setVector):
    """Member name to `On` or `Off`."""

    def _value(self, member: _MemberText) -> str:
        return _word(member, SWITCH_STATES)


class setTextVector(setVector):
    """Member name to text, as it was sent."""


class setNumberVector(_Numbers, setVector):
    """Member name to the text of a number, stripped."""

    def _value(self, member: _MemberText) -> str:
        return _number(member)


class setLightVector(setVector):
    """Member name to a state word."""

    def _value(self, member: _MemberText) -> str:
        return _word(member, STATES)


class setBLOBVector(_BLOBs, setVector):
    """Member name to bytes; `sizeformat` maps the names to (size, format). A member without content is left out."""

    def __init__(self, root: Element | TreeElement) -> None:
        self.sizeformat = {}
        super().__init__(root)

    def _keep(self, name: str, member: _MemberText) -> None:
        if member.data:
            self.sizeformat[name] = _size_and_format(member)
            self.data[name] = member.data


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
