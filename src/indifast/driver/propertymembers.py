"""Members of property vectors: each holds one value."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from indifast.protocol import wire
from indifast.protocol.numbers import DEFAULT_FORMAT, formatted, getfloat, plain_decimal
from indifast.protocol.rules import not_one_of
from indifast.protocol.vocabulary import STATES, SWITCH_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element as TreeElement

    import numpy as np


_T = TypeVar("_T")


class PropertyMember:
    """Base class of all members.

    Raises:
        ValueError: The name is not ASCII.

    Attributes:
        name: The name, in ASCII, unique in its vector.
        label: The name that clients show; `name` by default.
        changed: Whether the value differs from the one last sent.
    """

    kind: ClassVar[str]
    overrides: ClassVar[bool] = False
    """Whether a program has overridden methods of this class that make elements, which are then called for messages."""
    _makers: ClassVar[tuple[str, ...]] = ()  # the names of these methods

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        library = next(base for base in cls.__mro__ if base.__module__ == __name__)
        if any(getattr(cls, name) is not getattr(library, name) for name in library.__dict__.get("_makers", ())):
            cls.overrides = True
            for name, made in (("_key", _made_key), ("_definition", _made_definition), ("_one", _made_one)):
                setattr(cls, name, made)

    def __init__(self, name: str, label: str | None = None, membervalue: object = None) -> None:
        if not name.isascii():
            raise ValueError(f"the member name {name!r} must be ASCII")
        self.name = name
        self.label = label if label else name
        self.changed = True
        self._membervalue: Any = membervalue

    def checkvalue(self, value: _T, allowed: Sequence[object]) -> _T:
        """Return the value if it is allowed.

        Raises:
            ValueError: The value is not one of those allowed.
        """
        if why := not_one_of(value, allowed):
            raise ValueError(why)
        return value

    @property
    def membervalue(self) -> Any:
        """Value of the member. Setting an invalid one raises ValueError."""
        return self._membervalue

    @membervalue.setter
    def membervalue(self, value: object) -> None:
        self._store(value)

    def _store(self, value: object) -> None:
        if value != self._membervalue:
            self.changed = True
            self._membervalue = value

    def _key(self) -> tuple[Hashable, ...]:
        """Return everything that the definition depends on: equal keys mean equal definitions."""
        return (self.name, self.label, self._membervalue)

    def _definition(self) -> str:
        """Return the XML of the member in a def…Vector."""
        return wire.define(self.kind, self.name, self.label, self._membervalue)

    def _one(self) -> str:
        """Return the XML of the member in a set…Vector."""
        return wire.one(self.kind, self.name, self._membervalue)


def _made_key(member: PropertyMember) -> tuple[Hashable, ...]:
    return (_made_definition(member),)


def _made_definition(member: PropertyMember) -> str:
    return _text(getattr(member, member._makers[0])())


def _made_one(member: PropertyMember) -> str:
    return _text(getattr(member, member._makers[1])())


def _text(element: TreeElement) -> str:
    from xml.etree.ElementTree import tostring

    return tostring(element, encoding="unicode")


def _tree(xml: str) -> TreeElement:
    from xml.etree.ElementTree import fromstring

    return fromstring(xml)


class SwitchMember(PropertyMember):
    """Switch: `On` or `Off`. The initial value is not checked."""

    kind = "Switch"
    _makers = ("defswitch", "oneswitch")

    def __init__(self, name: str, label: str | None = None, membervalue: str = "Off") -> None:
        super().__init__(name, label, membervalue)

    def _store(self, value: object) -> None:
        super()._store(self.checkvalue(value, SWITCH_STATES))

    def defswitch(self) -> TreeElement:
        """Return the defSwitch element."""
        return _tree(PropertyMember._definition(self))

    def oneswitch(self) -> TreeElement:
        """Return the oneSwitch element."""
        return _tree(PropertyMember._one(self))


class LightMember(PropertyMember):
    """Light: `Idle`, `Ok`, `Busy` or `Alert`. The initial value is not checked."""

    kind = "Light"
    _makers = ("deflight", "onelight")

    def __init__(self, name: str, label: str | None = None, membervalue: str = "Idle") -> None:
        super().__init__(name, label, membervalue)

    def _store(self, value: object) -> None:
        super()._store(self.checkvalue(value, STATES))

    def deflight(self) -> TreeElement:
        """Return the defLight element."""
        return _tree(PropertyMember._definition(self))

    def onelight(self) -> TreeElement:
        """Return the oneLight element."""
        return _tree(PropertyMember._one(self))


class TextMember(PropertyMember):
    """Text. None stands for an empty text; sending a value of any other type raises TypeError."""

    kind = "Text"
    _makers = ("deftext", "onetext", "membervalue")

    def __init__(self, name: str, label: str | None = None, membervalue: str | None = "") -> None:
        super().__init__(name, label, membervalue)

    def _definition(self) -> str:
        self._checked(self._membervalue)
        return super()._definition()

    def _one(self) -> str:
        self._checked(self._membervalue)
        return super()._one()

    def _checked(self, value: object) -> str | None:
        if not (value is None or isinstance(value, str)):
            raise TypeError(f"the text member {self.name} holds {value!r}, which is not a string")
        return value

    def deftext(self) -> TreeElement:
        """Return the defText element."""
        return _tree(wire.define("Text", self.name, self.label, self._checked(self.membervalue)))

    def onetext(self) -> TreeElement:
        """Return the oneText element."""
        return _tree(wire.one("Text", self.name, self._checked(self.membervalue)))


class NumberMember(PropertyMember):
    """Number, kept as text: a str is kept as it is, any other value is converted with `str`.

    Attributes:
        format: A printf format for one number, or `%<w>.<f>m` for sexagesimal display; empty means `%g`.
        min, max, step: Text, as sent in the definition; empty means 0. Equal `min` and `max` mean no limits.
    """

    kind = "Number"
    _makers = ("defnumber", "onenumber")

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
        """Return the value as a float.

        Raises:
            TypeError: The value is not a number.
        """
        return getfloat(self._membervalue)

    def getformattedvalue(self) -> str:
        """Return the value as the format shows it.

        Raises:
            TypeError: The value is not a number, or the format can't show it.
        """
        return self.format_number(self.getfloatvalue())

    def format_number(self, value: float) -> str:
        """Return a number as the format of this member shows it.

        Raises:
            TypeError: The format can't show the number.
        """
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
        """Return the defNumber element."""
        return _tree(NumberMember._definition(self))

    def onenumber(self) -> TreeElement:
        """Return the oneNumber element."""
        return _tree(NumberMember._one(self))


def _number_text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


class BLOBMember(PropertyMember):
    """Binary data.

    The value is any object with a buffer (bytes, bytearray, memoryview, mmap, a NumPy array), the path (str or
    `pathlib.Path`) of a file to read, or an open binary file, which is read from its start and stays open.

    Raises:
        ValueError: `blobsize` is not an int.

    Attributes:
        blobsize: The `size` attribute to send; 0 stands for the size of the content before compression.
        blobformat: The `format` attribute to send; if empty and the value is a path, the suffixes of the path are sent.
        compress: Whether to compress the content with zlib and add `.z` to the format.
    """

    kind = "BLOB"
    _makers = ("defblob", "oneblob")

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
            raise ValueError(f"the blobsize of member {name} must be an int, not {blobsize!r}")
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
        """Read the content of a BLOB value.

        Raises:
            ValueError: The content is empty, can't be read or is not bytes.
        """
        return bytes(read_content(value))

    def _key(self) -> tuple[Hashable, ...]:
        return (self.name, self.label)

    def _definition(self) -> str:
        return wire.define("BLOB", self.name, self.label, None)

    def format_of(self, value: object) -> str:
        """Return the `format` attribute for a value: `blobformat`, else the suffixes of a path, else empty."""
        if self.blobformat:
            return self.blobformat
        if isinstance(value, str | os.PathLike):
            from pathlib import PurePath

            return "".join(PurePath(value).suffixes)
        return ""

    def defblob(self) -> TreeElement:
        """Return the defBLOB element."""
        return _tree(BLOBMember._definition(self))

    def oneblob(self, value: object = None) -> TreeElement:
        """Return the oneBLOB element with this value, or with the current one if `value` is None."""
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
    """Return the value if it is a NumPy array, otherwise None. Raises ValueError if it holds Python objects."""
    # Where NumPy is not loaded there are no arrays; nor are there any while another thread is just loading it.
    ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)
    if ndarray is None or not isinstance(value, ndarray):
        return None
    if value.dtype.hasobject:
        raise ValueError("an array of Python objects is not binary data")
    array: np.ndarray[Any, Any] = value
    return array


def buffer_of(value: Any) -> memoryview | None:
    """Return the buffer of an object as a flat run of bytes; None if the object has no buffer.

    The object's own memory is returned; it is only copied if it is not contiguous or memoryview can't cast it.

    Raises:
        ValueError: The object is an array of Python objects.
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
    """Return the content of a BLOB value; paths and files are read, which may block.

    Raises:
        ValueError: The content is empty, can't be read, or is not bytes.
    """
    content = buffer_of(value)
    if content is None:
        try:
            content = buffer_of(_read(value))
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"the BLOB value {value!r} can't be read: {error}") from error
    if content is None:
        raise ValueError(f"reading the BLOB value {value!r} did not return bytes")
    if not len(content):
        raise ValueError("the BLOB value is empty")
    return content


def _read(value: Any) -> Any:
    if hasattr(value, "seek") and callable(getattr(value, "read", None)):
        value.seek(0)
        return value.read()
    with open(value, "rb", closefd=not isinstance(value, int)) as file:
        return file.read()
