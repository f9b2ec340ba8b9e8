"""Members of vectors, in the client's model and in its snapshots."""

from __future__ import annotations

import base64
import io
import os
import pathlib
from collections.abc import Collection
from typing import Any, ClassVar
from xml.etree import ElementTree

from indifast.client.observed import observed
from indifast.protocol.escape import one_line
from indifast.protocol.numbers import formatted, getfloat
from indifast.protocol.rules import not_one_of
from indifast.protocol.vocabulary import STATES as STATE_WORDS
from indifast.protocol.vocabulary import SWITCH_STATES

__all__ = [
    "BLOBMember", "LightMember", "Member", "NumberMember", "ParentBLOBMember", "ParentNumberMember",
    "ParseException", "SnapBLOBMember", "SnapMember", "SnapNumberMember", "SwitchMember", "TextMember", "getfloat",
]  # fmt: skip

STATES = frozenset(STATE_WORDS)
SWITCH_VALUES = frozenset(SWITCH_STATES)


class ParseException(Exception):
    """A value or a message that INDI does not allow."""


class Member:
    """Base class of members: a name, a label, a value, and two marks that a program may set."""

    _vector: Any = None
    """The live vector that this member belongs to; None in snapshots."""

    name = observed("name", "The member's name.")
    label = observed("label", "Text to display; the name if the definition gave no label.")
    user_string = observed("user_string", "Free text, for the program that uses the client.")
    itemid = observed("itemid", "The identifier that `create_itemid` returned; 0 until then.")

    def __init__(self, name: str, label: str | None = None, membervalue: Any = None) -> None:
        self._name = name
        self._label = label or name
        self._membervalue = membervalue
        self._user_string = ""
        self._itemid: Any = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__.removeprefix('Snap')} {one_line(self._name)}: {self._shown()}>"

    def _shown(self) -> str:
        """Return the value for people, in one line."""
        value = self._membervalue
        return value if value in SWITCH_VALUES or value in STATES else repr(value)

    def _touch(self) -> None:
        vector = self._vector
        if vector is not None:
            vector._touch()

    received: str | None = None
    """The text last received, if it can't be read, so that the value is a default: nan, Off or Idle. Else None."""

    @property
    def membervalue(self) -> Any:
        """The value: On/Off, a state, text, the number's text, or BLOB content."""
        return self._membervalue

    @membervalue.setter
    def membervalue(self, value: Any) -> None:
        self._membervalue = value
        self._touch()

    def checkvalue(self, value: Any, allowed: Any) -> Any:
        """Return `value` if it is one of `allowed`, otherwise raise ParseException."""
        if why := not_one_of(value, allowed):
            raise ParseException(why)
        return value

    def _record(self) -> dict[str, Any]:
        """Return all attributes, for a snapshot; the dictionary is never changed afterwards."""
        record = self.__dict__.copy()
        record.pop("_vector", None)
        return record

    def _snapshot(self) -> Member:
        return snapped(self._snap_class, self._record())

    _snap_class: ClassVar[type[Member]]


def snapped(cls: type[Member], record: dict[str, Any]) -> Member:
    """Return a snapshot member made from the result of `Member._record`."""
    member = cls.__new__(cls)
    member.__dict__.update(record)
    return member


def _marks(member: Member, inc_user_string: bool, inc_itemid: bool) -> dict[str, Any]:
    marks = {}
    if inc_user_string:
        marks["user_string"] = member.user_string
    if inc_itemid:
        marks["itemid"] = member.itemid
    return marks


class SnapMember(Member):
    """A switch, light or text member of a snapshot."""

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return the member as plain data."""
        return {"label": self.label, "value": self.membervalue, **_marks(self, inc_user_string, inc_itemid)}


class _CheckedMember(Member):
    """A member that takes some values only."""

    _snap_class = SnapMember

    def __init__(self, name: str, label: str | None, membervalue: str) -> None:
        super().__init__(name, label, self._checked(name, membervalue))

    @property
    def membervalue(self) -> str:
        """The value; assigning one that is not allowed raises ParseException."""
        value: str = self._membervalue
        return value

    @membervalue.setter
    def membervalue(self, value: str) -> None:
        self._membervalue = self._checked(self._name, value)
        self._touch()

    def _checked(self, name: str, value: Any) -> str:
        """Return a value for the member with this name, or raise ParseException."""
        raise NotImplementedError


class _ChoiceMember(_CheckedMember):
    """A member whose value is one of a few words."""

    _choices: ClassVar[Collection[str]]

    def _checked(self, name: str, value: Any) -> str:
        word: str = self.checkvalue(value, self._choices)
        return word


class SwitchMember(_ChoiceMember):
    """A switch: On or Off."""

    _choices = SWITCH_VALUES

    def __init__(self, name: str, label: str | None = None, membervalue: str = "Off") -> None:
        super().__init__(name, label, membervalue)

    def oneswitch(self, newvalue: str) -> ElementTree.Element:
        """Return the `oneSwitch` element that asks for `newvalue`."""
        return _one("oneSwitch", self.name, self.checkvalue(newvalue, SWITCH_VALUES))


class LightMember(_ChoiceMember):
    """A light in one of the four states: Idle, Ok, Busy or Alert."""

    _choices = STATES

    def __init__(self, name: str, label: str | None = None, membervalue: str = "Idle") -> None:
        super().__init__(name, label, membervalue)


class TextMember(_CheckedMember):
    """A text, without leading and trailing whitespace."""

    def __init__(self, name: str, label: str | None = None, membervalue: str = "") -> None:
        super().__init__(name, label, membervalue)

    def _checked(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise ParseException(f"{name}: the text must be a str, not {type(value).__name__}")
        return value

    def onetext(self, newvalue: str) -> ElementTree.Element:
        """Return the `oneText` element that asks for `newvalue`."""
        return _one("oneText", self.name, newvalue)


class ParentNumberMember(Member):
    """A number as text, with everything needed to read and display it."""

    format = observed("format", "printf format, or `%<w>.<f>m` for sexagesimal display.")
    min = observed("min", "Smallest value, as text.")
    max = observed("max", "Largest value, as text. If both limits are equal, there are none.")
    step = observed("step", "Increment, as text; 0 for none.")

    def __init__(
        self,
        name: str,
        label: str | None = None,
        format: str = "",
        min: str = "0",
        max: str = "0",
        step: str = "0",
        membervalue: Any = "0",
    ) -> None:
        super().__init__(name, label)
        self._format = format
        self._min = min
        self._max = max
        self._step = step
        self._set_value(membervalue)

    def _shown(self) -> str:
        return one_line(self.getshownvalue().strip())

    def _set_value(self, value: Any) -> None:
        text = value if isinstance(value, str) else str(value)
        try:
            self._float = getfloat(text)
        except TypeError as error:
            raise ParseException(f"{self._name}: {error}") from None
        self._membervalue = text

    @property
    def membervalue(self) -> str:
        """The number's text as received; assigning anything but a number raises ParseException."""
        value: str = self._membervalue
        return value

    @membervalue.setter
    def membervalue(self, value: Any) -> None:
        self._set_value(value)
        self._touch()

    def getfloat(self, value: Any) -> float:
        """Return a number, or the text of a number, as a float."""
        return getfloat(value)

    def getfloatvalue(self) -> float:
        """Return the value as a float; nan if the text received is not a number, for instance if it is empty."""
        return self._float

    def getformattedvalue(self) -> str:
        """Return the value in the member's format.

        Raises:
            TypeError: The format cannot show a number.
        """
        return self._formatted(self._float)

    def getshownvalue(self) -> str:
        """Return the value to display: in the member's format, or as received if it can't be read or formatted."""
        text = formatted(self._float, self._format) if self.received is None else None
        return self._membervalue if text is None else text

    def getformattedstring(self, value: Any) -> str:
        """Return a number, or the text of a number, in the member's format.

        Raises:
            TypeError: `value` is not a number, or the format cannot show one.
        """
        return self._formatted(getfloat(value))

    def _formatted(self, value: float) -> str:
        text = formatted(value, self._format)
        if text is None:
            raise TypeError(f"the number format {self._format!r} cannot show {value!r}")
        return text


class SnapNumberMember(ParentNumberMember):
    """A number member of a snapshot."""

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return the member as plain data; `formattedvalue` is the result of `getshownvalue`."""
        return {
            "label": self.label,
            "format": self.format,
            "min": self.min,
            "max": self.max,
            "step": self.step,
            "value": self.membervalue,
            "floatvalue": self.getfloatvalue(),
            "formattedvalue": self.getshownvalue(),
            **_marks(self, inc_user_string, inc_itemid),
        }


class NumberMember(ParentNumberMember):
    """A number of a live vector."""

    _snap_class = SnapNumberMember

    def onenumber(self, newvalue: Any) -> ElementTree.Element:
        """Return the `oneNumber` element that asks for `newvalue`; anything but text is written with `str`."""
        return _one("oneNumber", self.name, newvalue if isinstance(newvalue, str) else str(newvalue))


class ParentBLOBMember(Member):
    """Content of any kind, such as a camera frame or a file."""

    blobsize = observed("blobsize", "Announced size of the inflated content, in bytes.")
    blobformat = observed("blobformat", "A file suffix such as `.fits`.")
    filename = observed("filename", "Bare name of the file in which the content was saved; empty if it was not.")

    def __init__(
        self,
        name: str,
        label: str | None = None,
        blobsize: int = 0,
        blobformat: str = "",
        membervalue: Any = None,
    ) -> None:
        super().__init__(name, label, membervalue)
        self._blobsize = blobsize
        self._blobformat = blobformat
        self._filename = ""

    def _shown(self) -> str:
        content = self._membervalue
        return "nothing yet" if content is None else f"{len(content)} bytes {one_line(self._blobformat)}".rstrip()


class SnapBLOBMember(ParentBLOBMember):
    """A BLOB member of a snapshot; it shares the content with the model."""

    def dictdump(
        self, inc_blob: bool = False, inc_user_string: bool = False, inc_itemid: bool = False
    ) -> dict[str, Any]:
        """Return the member as plain data, with the content (bytes) only if `inc_blob`."""
        return {
            "label": self.label,
            "filename": self.filename,
            "blobsize": self.blobsize,
            "blobformat": self.blobformat,
            "value": self.membervalue if inc_blob else None,
            **_marks(self, inc_user_string, inc_itemid),
        }


class BLOBMember(ParentBLOBMember):
    """A BLOB of a live vector; the value is None until the first content arrives."""

    _snap_class = SnapBLOBMember

    @property
    def membervalue(self) -> Any:
        """The content last received: bytes, or a read-only memoryview of memory shared with a local server."""
        return self._membervalue

    @membervalue.setter
    def membervalue(self, value: Any) -> None:
        if not value:
            raise ParseException(f"{self._name}: empty BLOB")
        self._membervalue = value
        self._touch()

    def oneblob(self, newvalue: Any, newsize: int, newformat: str) -> ElementTree.Element:
        """Return the `oneBLOB` element that sends `newvalue` (see `getbytes`)."""
        content = self.getbytes(newvalue)
        form = newformat or suffixes(newvalue) or self._blobformat
        attributes = {"name": self.name}
        if form:
            attributes["format"] = form
        attributes["size"] = str(newsize or len(content))
        element = ElementTree.Element("oneBLOB", attributes)
        element.text = base64.b64encode(content).decode("ascii")
        return element

    @staticmethod
    def getbytes(value: Any) -> Any:
        """Return the bytes to send as a BLOB.

        Args:
            value: A bytes-like object, a path, or a binary file, which is read from its start and stays open.

        Raises:
            ValueError: There is nothing to send, or it cannot be read.
        """
        if isinstance(value, (str, os.PathLike)):
            try:
                content: Any = pathlib.Path(value).read_bytes()
            except OSError as error:
                raise ValueError(f"the BLOB cannot be read: {error}") from error
        elif isinstance(value, io.IOBase) or (hasattr(value, "read") and hasattr(value, "seek")):
            try:
                value.seek(0)
                content = value.read()
            except (OSError, ValueError) as error:
                raise ValueError(f"the BLOB cannot be read: {error}") from error
        else:
            content = value
        try:
            view = memoryview(content)
            content = content if isinstance(content, bytes) else view.cast("B")
        except TypeError:
            raise ValueError(f"a BLOB must be bytes, a path or a binary file, not {type(value).__name__}") from None
        if not len(content):
            raise ValueError("a BLOB without content cannot be sent")
        return content


def suffixes(value: Any) -> str:
    """Return all suffixes of a path, such as `.tar.gz`; empty for anything but a path."""
    return "".join(pathlib.Path(value).suffixes) if isinstance(value, (str, os.PathLike)) else ""


def _one(tag: str, name: str, text: str) -> ElementTree.Element:
    element = ElementTree.Element(tag, {"name": name})
    element.text = text
    return element
