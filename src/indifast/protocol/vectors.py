"""Vectors as messages carry them: definitions, updates and commands, each read from an element.

Drivers, clients and tools read them here, so that all treat missing and damaged parts alike:

| | definition | update | command |
|---|---|---|---|
| no device or no name | refused | refused | refused |
| a member without a name | left out | left out | refused |
| a member of another kind | left out | read as if it were of this kind | refused |
| a member that is not in the vector | | returned | refused |
| a value that can't be read | nan, Off or Idle, with the text as received | left out | refused |
| no member with a name | refused | only the state | refused |
| state missing or unknown | Idle | None: it stays as it is | |
| perm or rule missing or unknown | ro, OneOfMany | | |
| format, min, max or step missing or empty | `%g`, 0, 0, 0 (no range) | | |

"Refused" means the whole message, by a `VectorError`. What is left out or replaced is listed in `faults`. What is
merely absent is not a fault, and neither is an empty value in a definition: some drivers write one where they have no
value.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from indifast.protocol.escape import for_log
from indifast.protocol.numbers import DEFAULT_FORMAT, commanded_number, read_integer, read_number
from indifast.protocol.vocabulary import PERMISSIONS, RULES, STATES, SWITCH_STATES

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast._parser import Element
    from indifast.protocol.message import Opened

Source: TypeAlias = "Element | Opened | TreeElement"
"""A received message, or an element of `xml.etree.ElementTree` from a program that makes events itself."""

WORDS: dict[str, Sequence[str]] = {"Switch": SWITCH_STATES, "Light": STATES}
"""The possible values of the kinds that have only a few."""

_DEFAULT_WORDS = {"Switch": "Off", "Light": "Idle"}


class VectorError(Exception):
    """Nothing in a message can be used."""


class NumberError(VectorError):
    """A command asks for a value that is not a number."""


class Part(NamedTuple):
    """A member as written in a message. Without a name, `name` is empty; without BLOB content, `data` is None."""

    tag: str
    name: str
    attributes: Mapping[str, str]
    text: str
    data: bytes | None


class DefinedMember(NamedTuple):
    """A member of a definition."""

    label: str
    """The label, which may be empty; the name if the message gives none."""
    text: str
    """The text as written in the message."""
    value: str
    """For texts and BLOBs, the text; for other kinds, the stripped text, or the default word if it can't be read."""
    received: str | None
    """The stripped text if it can't be read, so that `value` or `number` is a default; otherwise None."""
    number: float
    """The value of a number; nan if it can't be read."""
    details: tuple[str, str, str, str]
    """For numbers: format, min, max, step."""


@dataclass(slots=True)
class Definition:
    """What a def…Vector says."""

    kind: str
    device: str
    name: str
    label: str
    """The label, which may be empty; the name if the message gives none."""
    group: str | None
    state: str
    perm: str
    rule: str
    timeout: str | None
    message: str
    members: dict[str, DefinedMember] = field(default_factory=dict)
    nameless: int = 0
    """Number of members left out because they have no name."""
    faults: list[str] = field(default_factory=list)
    """What was left out or replaced, in sentences."""


@dataclass(slots=True)
class Update:
    """What a set…Vector says, except the content of BLOBs: see `blobs`."""

    kind: str
    device: str
    name: str
    state: str | None
    """The state; None if it stays as it is."""
    timeout: str | None
    message: str
    values: dict[str, str] = field(default_factory=dict)
    """Values of the members that can be read, by name. Texts are as written, other values are stripped."""
    faults: list[str] = field(default_factory=list)
    """What was left out, in sentences."""


class Blob(NamedTuple):
    """The content of a BLOB member with its announced size and format; `format` is None if there is none."""

    data: bytes
    size: int
    format: str | None


# -- Access to elements


def attributes_of(source: Source) -> Mapping[str, str]:
    """Return the attributes of the root."""
    return source.attrs if hasattr(source, "attrs") else source.attrib


def parts_of(source: Source) -> Iterator[Part]:
    """Yield the members as written. A BLOB whose text is not base64 has no content."""
    if hasattr(source, "members"):
        for member in source.members:
            tag = member.tag
            yield Part(tag, member.name, member.attrs, member.text, member.data if tag == "oneBLOB" else None)
        return
    for child in source:
        tag, text = child.tag, child.text or ""
        yield Part(tag, child.get("name", ""), child.attrib, text, _content(text) if tag == "oneBLOB" else None)


def _content(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text) or None
    except binascii.Error:
        return None


def _kind(source: Source) -> str:
    """Return the kind, such as `Number` for a defNumberVector, setNumberVector or newNumberVector."""
    return source.tag[3 : -len("Vector")]


def _names(attributes: Mapping[str, str]) -> tuple[str, str]:
    device, name = attributes.get("device"), attributes.get("name")
    if not device:
        raise VectorError("no device name")
    if not name:
        raise VectorError("no vector name")
    return device, name


# -- Values


def state_of(text: str | None) -> str | None:
    """Return the state that a text names; None if it is not one of the four words."""
    return text if text in STATES else None


def read_value(kind: str, text: str) -> str | None:
    """Return the value in the text of a member, or None if it can't be read. Texts stay as they are."""
    if kind == "Text":
        return text
    text = text.strip()
    if kind == "Number":
        return None if read_number(text) is None else text
    return text if text in WORDS[kind] else None


def unreadable(kind: str, name: str, text: str) -> str:
    """Return a sentence, safe to show in a log or terminal, that says why a value can't be read."""
    text = text.strip()
    given = f"'{for_log(text, 40)}'" if text else "an empty text"
    wanted = "a number" if kind == "Number" else f"one of {', '.join(WORDS[kind])}"
    return f"{given} for {for_log(name)} is not {wanted}"


# -- Definitions


def definition(source: Source) -> Definition:
    """Read a def…Vector.

    Raises:
        VectorError: It has no device, no name, or no member with a name.
    """
    attributes = attributes_of(source)
    device, name = _names(attributes)
    kind = _kind(source)
    faults: list[str] = []
    read = Definition(
        kind,
        device,
        name,
        attributes.get("label", name),
        attributes.get("group"),
        _word(attributes, "state", STATES, "Idle", faults),
        _word(attributes, "perm", PERMISSIONS, "ro", faults) if kind != "Light" else "ro",
        _word(attributes, "rule", RULES, "OneOfMany", faults) if kind == "Switch" else "",
        attributes.get("timeout"),
        attributes.get("message", ""),
        faults=faults,
    )
    tag, define = f"def{kind}", _DEFINE[kind]
    for part in parts_of(source):
        if not part.name:
            read.nameless += 1
        elif part.tag != tag:
            faults.append(f"{for_log(part.name)} is a {part.tag}, which does not belong in a {source.tag}: left out")
        else:
            read.members[part.name] = define(kind, part, faults)
    if not read.members:
        raise VectorError(f"a definition without members{' that have a name' if read.nameless else ''}")
    return read


def _word(attributes: Mapping[str, str], key: str, allowed: Sequence[str], default: str, faults: list[str]) -> str:
    word = attributes.get(key, "")
    if word in allowed:
        return word
    if word.strip():
        faults.append(f"{key} is '{for_log(word, 40)}', not one of {', '.join(allowed)}: taken as {default}")
    return default


_NO_DETAILS = ("", "", "", "")


def _defined_text(kind: str, part: Part, faults: list[str]) -> DefinedMember:
    return DefinedMember(part.attributes.get("label", part.name), part.text, part.text, None, math.nan, _NO_DETAILS)


def _defined_word(kind: str, part: Part, faults: list[str]) -> DefinedMember:
    name, attributes, text = part.name, part.attributes, part.text
    word = text.strip()
    received = None
    if word not in WORDS[kind]:
        if word:
            faults.append(unreadable(kind, name, word))
        word, received = _DEFAULT_WORDS[kind], word
    return DefinedMember(attributes.get("label", name), text, word, received, math.nan, _NO_DETAILS)


def _defined_number(kind: str, part: Part, faults: list[str]) -> DefinedMember:
    name, attributes, text = part.name, part.attributes, part.text
    value = text.strip()
    number, received = read_number(value), None
    if number is None:
        if value:
            faults.append(unreadable(kind, name, value))
        number, received = math.nan, value
    details = (
        _given(attributes, "format", DEFAULT_FORMAT),
        _given(attributes, "min", "0"),
        _given(attributes, "max", "0"),
        _given(attributes, "step", "0"),
    )
    return DefinedMember(attributes.get("label", name), text, value, received, number, details)


def _given(attributes: Mapping[str, str], key: str, default: str) -> str:
    return attributes.get(key, "").strip() or default


_DEFINE: dict[str, Callable[[str, Part, list[str]], DefinedMember]] = {
    "Text": _defined_text,
    "BLOB": _defined_text,
    "Switch": _defined_word,
    "Light": _defined_word,
    "Number": _defined_number,
}


# -- Updates


def update(source: Source) -> Update:
    """Read a set…Vector.

    Raises:
        VectorError: It has no device or no name.
    """
    attributes = attributes_of(source)
    kind = _kind(source)
    read = Update(
        kind,
        *_names(attributes),
        state_of(attributes.get("state")),
        attributes.get("timeout"),
        attributes.get("message", ""),
    )
    if kind != "BLOB":
        texts = {part.name: part.text for part in parts_of(source) if part.name}
        read.values = readable(kind, texts, read.faults)
    return read


def readable(kind: str, texts: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """Return the values that can be read, by member. For each of the others, add a sentence to `faults`."""
    values = {}
    for name, text in texts.items():
        value = read_value(kind, text)
        if value is None:
            faults.append(f"{unreadable(kind, name, text)}: left out")
        else:
            values[name] = value
    return values


def blobs(source: Source, faults: list[str]) -> dict[str, Blob]:
    """Return the contents in a setBLOBVector, by member.

    A member without content and size is not a fault: such a message only changes the state.
    """
    contents = {}
    for part in parts_of(source):
        if not part.name:
            continue
        if part.data:
            contents[part.name] = Blob(part.data, blob_size(part.attributes, part.data), part.attributes.get("format"))
        elif blob_size(part.attributes, None):
            faults.append(without_content(part.name))
    return contents


def blob_size(attributes: Mapping[str, str], data: bytes | None) -> int:
    """Return the size that a oneBLOB announces, or that of its content if it announces none."""
    size = read_integer(attributes.get("size", ""))
    return size if size is not None and size >= 0 else len(data or b"")


def without_content(name: str) -> str:
    """Return a sentence that says that a BLOB announces content but has none."""
    return f"the BLOB {for_log(name)} has no content: left out"


# -- Commands


def command(source: Source, kind: str, known: Collection[str]) -> dict[str, str]:
    """Return the values that a new…Vector asks for, by member. For BLOBs, use `sent_blobs`.

    Args:
        source: The message.
        kind: The kind of the vector.
        known: The names of its members.

    Raises:
        VectorError: There are no values, or not all of them can be accepted.
    """
    read = _commanded_number if kind == "Number" else _commanded_word
    values = {part.name: read(kind, part) for part in _commanded(source, kind, known)}
    if not values:
        raise VectorError("no values")
    return values


def sent_blobs(source: Source, known: Collection[str]) -> dict[str, Blob]:
    """Return the contents that a newBLOBVector brings, by member. See `command`.

    Raises:
        VectorError: There are no contents, or not all of them can be accepted.
    """
    contents = {}
    for part in _commanded(source, "BLOB", known):
        size = read_integer(part.attributes.get("size", ""))
        if size is None:
            raise VectorError(f"a BLOB with the invalid size '{for_log(part.attributes.get('size', ''), 40)}'")
        if not part.data:
            raise VectorError("a BLOB without content")
        contents[part.name] = Blob(part.data, size, part.attributes.get("format"))
    if not contents:
        raise VectorError("no values")
    return contents


def _commanded(source: Source, kind: str, known: Collection[str]) -> Iterator[Part]:
    """Yield the members after checking that each is of the right kind and in the vector."""
    for part in parts_of(source):
        if part.tag != f"one{kind}":
            raise VectorError(f"{part.tag} instead of one{kind}")
        if not part.name or part.name not in known:
            raise VectorError(f"unknown member '{for_log(part.name)}'")
        yield part


def _commanded_word(kind: str, part: Part) -> str:
    value = read_value(kind, part.text)
    if value is None:
        raise VectorError(unreadable(kind, part.name, part.text))
    return value


def _commanded_number(kind: str, part: Part) -> str:
    text = part.text.strip()
    try:
        commanded_number(text)
    except ValueError as error:
        raise NumberError(f"{part.name}: {error}") from None
    return text
