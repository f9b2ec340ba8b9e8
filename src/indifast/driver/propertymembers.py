"""The members of property vectors: each holds one value."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from indifast.protocol import wire
from indifast.protocol.numbers import DEFAULT_FORMAT, formatted, getfloat, plain_decimal
from indifast.protocol.vocabulary import STATES, SWITCH_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element as TreeElement

    import numpy as np


_T = TypeVar("_T")


class PropertyMember:
    """What all members have in common.

    Attributes:
        name: ASCII, unique in its vector.
        label: what a client shows; the name when none is given.
        changed: the value differs from the one last sent.

    Raises:
        ValueError: the name is not ASCII.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, label: str | None = None, membervalue: object = None) -> None:
        if not name.isascii():
            raise ValueError(f"the member name {name!r} should be ASCII")
        self.name = name
        self.label = label if label else name
        self.changed = True
        self._membervalue: Any = membervalue

    def checkvalue(self, value: _T, allowed: Sequence[object]) -> _T:
        """The value, if it is among those allowed; ValueError otherwise."""
        if value not in allowed:
            raise ValueError(f"{value!r} is not one of {', '.join(map(str, allowed))}")
        return value

    @property
    def membervalue(self) -> Any:
        """The value. A wrong one raises ValueError."""
        return self._membervalue

    @membervalue.setter
    def membervalue(self, value: object) -> None:
        self._store(value)

    def _store(self, value: object) -> None:
        if value != self._membervalue:
            self.changed = True
            self._membervalue = value

    def _key(self) -> tuple[Hashable, ...]:
        """Everything that the definition of this member says: as long as it is equal, so is the definition."""
        return (self.name, self.label, self._membervalue)

    def _definition(self) -> str:
        """The member as it stands in a def… vector."""
        return wire.define(self.kind, self.name, self.label, self._membervalue)

    def _one(self) -> str:
        """The member as it stands in a set… vector."""
        return wire.one(self.kind, self.name, self._membervalue)


def _tree(xml: str) -> TreeElement:
    from xml.etree.ElementTree import fromstring

    return fromstring(xml)


class SwitchMember(PropertyMember):
    """A switch, `On` or `Off`. The first value is not checked."""

    kind = "Switch"

    def __init__(self, name: str, label: str | None = None, membervalue: str = "Off") -> None:
        super().__init__(name, label, membervalue)

    def _store(self, value: object) -> None:
        super()._store(self.checkvalue(value, SWITCH_STATES))

    def defswitch(self) -> TreeElement:
        """The defSwitch element."""
        return _tree(self._definition())

    def oneswitch(self) -> TreeElement:
        """The oneSwitch element."""
        return _tree(self._one())


class LightMember(PropertyMember):
    """A light: `Idle`, `Ok`, `Busy` or `Alert`. The first value is not checked."""

    kind = "Light"

    def __init__(self, name: str, label: str | None = None, membervalue: str = "Idle") -> None:
        super().__init__(name, label, membervalue)

    def _store(self, value: object) -> None:
        super()._store(self.checkvalue(value, STATES))

    def deflight(self) -> TreeElement:
        """The defLight element."""
        return _tree(self._definition())

    def onelight(self) -> TreeElement:
        """The oneLight element."""
        return _tree(self._one())


class TextMember(PropertyMember):
    """A text. None stands for an empty one; a value of another type fails when it is sent."""

    kind = "Text"

    def __init__(self, name: str, label: str | None = None, membervalue: str | None = "") -> None:
        super().__init__(name, label, membervalue)

    def _definition(self) -> str:
        self._check()
        return super()._definition()

    def _one(self) -> str:
        self._check()
        return super()._one()

    def _check(self) -> None:
        if not (self._membervalue is None or isinstance(self._membervalue, str)):
            raise TypeError(f"the text member {self.name} holds {self._membervalue!r}, which is no text")

    def deftext(self) -> TreeElement:
        """The defText element."""
        return _tree(self._definition())

    def onetext(self) -> TreeElement:
        """The oneText element."""
        return _tree(self._one())


class NumberMember(PropertyMember):
    """A number, kept as text: a str stands as it is, anything else is converted with `str`.

    Attributes:
        format: printf format for one number, or `%<w>.<f>m` for sexagesimal display; none stands for `%g`.
        min, max, step: text, as sent in the definition; equal min and max mean no limits, and none stands for 0.
    """

    kind = "Number"

    def __init__(
        self,
        name: str,
        label: str | None = None,
        format: str = "",
        min: object = "0",
        max: object = "0",
        step: object = "0",
        membervalue: object = "0",
    ) -> None:
        super().__init__(name, label, _number_text(membervalue))
        self.format = format
        self.min = _number_text(min)
        self.max = _number_text(max)
        self.step = _number_text(step)

    def _store(self, value: object) -> None:
        super()._store(_number_text(value))

    def getfloatvalue(self) -> float:
        """The value as a float; TypeError when it is not the text of a number."""
        return getfloat(self._membervalue)

    def getformattedvalue(self) -> str:
        """The value as its format shows it; TypeError when it is not the text of a number, or not for this format."""
        return self.format_number(self.getfloatvalue())

    def format_number(self, value: float) -> str:
        """A number as the format of this member shows it; TypeError if that can't show it."""
        text = formatted(value, self.format or DEFAULT_FORMAT)
        if text is None:
            raise TypeError(f"the number format {self.format!r} of {self.name} can't show {value!r}")
        return text

    def _key(self) -> tuple[Hashable, ...]:
        return (self.name, self.label, self.format, self.min, self.max, self.step, self._membervalue)

    def _definition(self) -> str:
        low, high, step = map(_number_text, (self.min, self.max, self.step))
        form = self.format or DEFAULT_FORMAT
        return wire.define_number(self.name, self.label, form, low, high, step, self._membervalue)

    def _one(self) -> str:
        return wire.one("Number", self.name, plain_decimal(self._membervalue))

    def defnumber(self) -> TreeElement:
        """The defNumber element."""
        return _tree(self._definition())

    def onenumber(self) -> TreeElement:
        """The oneNumber element."""
        return _tree(self._one())


def _number_text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


class BLOBMember(PropertyMember):
    """Binary data: any object with a buffer (bytes, bytearray, memoryview, mmap, a NumPy array), a path (str or
    `pathlib.Path`) of a file to read, or an open binary file, which is read from its start and stays open.

    Attributes:
        blobsize: what the `size` attribute says; 0: the size of what is sent, before compression.
        blobformat: the `format` attribute; empty: the suffixes of the path, if the value is one.
        compress: send the content compressed with zlib, `.z` added to the format.

    Raises:
        ValueError: blobsize is not an int.
    """

    kind = "BLOB"

    def __init__(
        self,
        name: str,
        label: str | None = None,
        blobsize: int = 0,
        blobformat: str = "",
        membervalue: object = None,
        *,
        compress: bool = False,
    ) -> None:
        super().__init__(name, label, membervalue)
        if not isinstance(blobsize, int):
            raise ValueError(f"the blobsize of member {name} should be an int, not {blobsize!r}")
        self.blobsize = blobsize
        self.blobformat = blobformat
        self.compress = compress

    def _store(self, value: object) -> None:
        if _is_empty(value):
            raise ValueError(f"the value of the BLOB member {self.name} can't be empty")
        self.changed = True
        self._membervalue = value

    @staticmethod
    def getbytes(value: object) -> bytes:
        """The content of a BLOB value; ValueError when it is empty, can't be read or is not bytes."""
        return bytes(read_content(value))

    def _key(self) -> tuple[Hashable, ...]:
        return (self.name, self.label)

    def _definition(self) -> str:
        return wire.define("BLOB", self.name, self.label, None)

    def format_of(self, value: object) -> str:
        """The `format` attribute for a value: `blobformat`, else the suffixes of a path, else nothing."""
        if self.blobformat:
            return self.blobformat
        if isinstance(value, str | os.PathLike):
            from pathlib import PurePath

            return "".join(PurePath(value).suffixes)
        return ""

    def defblob(self) -> TreeElement:
        """The defBLOB element."""
        return _tree(self._definition())

    def oneblob(self, value: object = None) -> TreeElement:
        """The oneBLOB element with this value, or the present one."""
        from xml.etree.ElementTree import Element as TreeElement

        from indifast._base64 import encode

        if value is None:
            value = self._membervalue
        content = read_content(value)
        attributes = {
            "name": self.name,
            "format": self.format_of(self._membervalue if isinstance(value, bytes) else value),
            "size": str(self.blobsize or len(content)),
        }
        element = TreeElement("oneBLOB", attributes)
        element.text = encode(content).decode("ascii")
        return element


def _is_empty(value: Any) -> bool:
    if value is None:
        return True
    if (array := _as_array(value)) is not None:
        return array.size == 0
    view = buffer_of(value)
    return not value if view is None else len(view) == 0


def _as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """The value, if it is a NumPy array; ValueError if that holds Python objects."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return None
    if value.dtype.hasobject:
        raise ValueError("an array of Python objects is no binary data")
    array: np.ndarray[Any, Any] = value
    return array


def buffer_of(value: Any) -> memoryview | None:
    """The memory of an object that has some, as a flat run of bytes; None for an object without.

    The memory is the object's own, copied only where its parts don't follow one another. ValueError for an array of
    Python objects.
    """
    if (array := _as_array(value)) is not None:
        import numpy

        flat: Any = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
        return memoryview(flat)
    try:
        view = memoryview(value)
    except TypeError:
        return None
    if not view.c_contiguous:
        return memoryview(view.tobytes())
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # a format that memoryview can't cast, such as big-endian numbers
        return memoryview(view.tobytes())


def read_content(value: Any) -> memoryview:
    """The content of a BLOB value, read if it is a path or a file. May block.

    Raises:
        ValueError: it is empty, can't be read, or does not give bytes.
    """
    content = buffer_of(value)
    if content is None:
        try:
            content = buffer_of(_read(value))
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"the BLOB value {value!r} can't be read: {error}") from error
    if content is None:
        raise ValueError(f"the BLOB value {value!r} does not give bytes")
    if not len(content):
        raise ValueError("the BLOB value is empty")
    return content


def _read(value: Any) -> Any:
    if hasattr(value, "seek") and callable(getattr(value, "read", None)):
        value.seek(0)
        return value.read()
    with open(value, "rb", closefd=not isinstance(value, int)) as file:
        return file.read()
