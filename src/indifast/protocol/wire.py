"""How messages are written, byte for byte. Nothing else of the package writes XML.

Attributes in double quotes and in a fixed order, members without white space between them, ` />` at the end of an
element without content, UTF-8. No terminator: what stands between messages is the stream's business.

Members are written first, as text: `one`, `define`, `define_number`. A message takes them as they are. What a driver
sends at a high rate is written without a mapping for its attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from indifast._base64 import encode_into, encoded_length
from indifast._parser import escape_attr, escape_text
from indifast.protocol.message import Buffer, Wire
from indifast.protocol.vocabulary import VERSION

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement


# -- elements


def _start(tag: str, attributes: Mapping[str, str | None]) -> str:
    """`<tag name="value"` without its end; attributes whose value is None are left out."""
    written = [f' {name}="{escape_attr(value)}"' for name, value in attributes.items() if value is not None]
    return f"<{tag}{''.join(written)}"


def start_tag(tag: str, attributes: Mapping[str, str | None]) -> str:
    """`<tag name="value">`; attributes whose value is None are left out."""
    return f"{_start(tag, attributes)}>"


def element(tag: str, attributes: Mapping[str, str | None], content: str = "") -> str:
    """One element; `content` is XML already, see `text_element`."""
    start = _start(tag, attributes)
    return f"{start}>{content}</{tag}>" if content else f"{start} />"


def text_element(tag: str, attributes: Mapping[str, str | None], text: str) -> str:
    """One element that holds text."""
    return element(tag, attributes, escape_text(text))


def passed_on(attributes: Mapping[str, str]) -> dict[str, str | None]:
    """Return those of the attributes received that may be written again, in any element but a oneBLOB.

    libindi can't read a name that has `-`, `:` or `.` in it, and believes `enclen` and `attached` wherever they stand.
    The tokenizer leaves them out as well where it writes what it has read.
    """
    return {
        name: value for name, value in attributes.items() if name.isidentifier() and name not in ("enclen", "attached")
    }


def tree(source: TreeElement) -> str:
    """An element of `xml.etree.ElementTree`, without comments and what stands behind elements, such as indentation.

    TypeError if there is anything but text in it.
    """
    if callable(source.tag):  # a comment or an instruction
        return ""
    for value in (source.tag, *source.attrib, *source.attrib.values()):
        if not isinstance(value, str):
            raise TypeError(f"{value!r} can't be written as XML")
    return element(source.tag, source.attrib, escape_text(source.text or "") + "".join(map(tree, source)))


# -- messages without members


def message(text: str | None, timestamp: str | None, device: str | None = None) -> Wire:
    """A message for the user, from a device or from the system."""
    attributes = {"device": device, "timestamp": timestamp, "message": text}
    return Wire("message", device, None, element("message", attributes).encode())


def del_property(device: str, name: str | None = None, timestamp: str | None = None, text: str | None = None) -> Wire:
    """A property is gone, or the whole device when no name is given."""
    attributes = {"device": device, "name": name, "timestamp": timestamp, "message": text}
    return Wire("delProperty", device, name, element("delProperty", attributes).encode())


def get_properties(device: str | None = None, name: str | None = None, *, via: str | None = None) -> Wire:
    """Ask for definitions: of everything, of a device, or of one property of it. `via`: see `protocol/via.py`."""
    device, name = device or None, name or None  # an empty one would not be understood everywhere
    attributes = {"version": VERSION, "device": device, "name": name, "via": via}
    return Wire("getProperties", device, name, element("getProperties", attributes).encode())


def enable_blob(device: str, name: str | None, policy: str) -> Wire:
    """Say whether BLOBs are wanted: of a device, or of one property of it."""
    name = name or None
    text = text_element("enableBLOB", {"device": device, "name": name}, policy)
    return Wire("enableBLOB", device, name, text.encode())


def ping_request(uid: str) -> Wire:
    """A question that is answered once all before it is done."""
    return Wire("pingRequest", None, None, element("pingRequest", {"uid": uid}).encode())


def ping_reply(uid: str) -> Wire:
    """The answer to a pingRequest."""
    return Wire("pingReply", None, None, element("pingReply", {"uid": uid}).encode())


# -- vectors


def one(kind: str, name: str, text: str | None) -> str:
    """A member of an update or a command; None is an empty text."""
    start = f'<one{kind} name="{escape_attr(name)}"'
    return f"{start}>{escape_text(text)}</one{kind}>" if text else f"{start} />"


def define(kind: str, name: str, label: str, text: str | None) -> str:
    """A member of a definition, of any kind but a number; None is an empty text."""
    start = f'<def{kind} name="{escape_attr(name)}" label="{escape_attr(label)}"'
    return f"{start}>{escape_text(text)}</def{kind}>" if text else f"{start} />"


def define_number(name: str, label: str, form: str, low: str, high: str, step: str, text: str | None) -> str:
    """A number of a definition. Clients drop one with an empty limit or step: it is written as 0."""
    start = (
        f'<defNumber name="{escape_attr(name)}" label="{escape_attr(label)}" format="{escape_attr(form)}" '
        f'min="{escape_attr(low or "0")}" max="{escape_attr(high or "0")}" step="{escape_attr(step or "0")}"'
    )
    return f"{start}>{escape_text(text)}</defNumber>" if text else f"{start} />"


def vector(tag: str, attributes: Mapping[str, str | None], members: str) -> Wire:
    """A def…, set… or new… vector; `attributes` hold device and name, `members` is XML already."""
    return Wire(tag, attributes["device"], attributes["name"], element(tag, attributes, members).encode())


def set_vector(
    kind: str, device: str, name: str, state: str, timestamp: str, timeout: str | None, text: str, members: str
) -> Wire:
    """An update; without a time-out if that is None, without a message if `text` is empty.

    `state` and `timestamp` are written as they are: they hold nothing that XML would take for something else.
    """
    tag = f"set{kind}Vector"
    start = f'<{tag} device="{escape_attr(device)}" name="{escape_attr(name)}" state="{state}" timestamp="{timestamp}"'
    if timeout is not None:
        start += f' timeout="{escape_attr(timeout)}"'
    if text:
        start += f' message="{escape_attr(text)}"'
    return Wire(tag, device, name, (f"{start}>{members}</{tag}>" if members else f"{start} />").encode())


class Definition:
    """A definition that is written but for its time stamp and its message, to be sent again and again."""

    def __init__(
        self, kind: str, attributes: Mapping[str, str | None], timeout: str | None, members: Iterable[str]
    ) -> None:
        """`attributes` are those in front of the time stamp, device and name among them."""
        self._tag = tag = f"def{kind}Vector"
        self._device, self._name = attributes["device"], attributes["name"]
        content = "".join(members)
        self._head = f'{_start(tag, attributes)} timestamp="'
        self._middle = '"' if timeout is None else f'" timeout="{escape_attr(timeout)}"'
        self._tail = f">{content}</{tag}>" if content else " />"

    def at(self, timestamp: str, text: str) -> Wire:
        """The message; without a message for people if `text` is empty."""
        said = f' message="{escape_attr(text)}"' if text else ""
        written = f"{self._head}{timestamp}{self._middle}{said}{self._tail}"
        return Wire(self._tag, self._device, self._name, written.encode())


def with_timestamp(data: bytes, timestamp: str) -> bytes:
    """The same message, written here or by the tokenizer, with another time stamp in the place of its own."""
    start, end, rest = data.partition(b">")
    before, mark, value = start.partition(b' timestamp="')  # which stands in no other value: quotes are references
    if not mark:
        return data
    return before + mark + timestamp.encode() + value[value.index(b'"') :] + end + rest


def begins_with(data: bytes, tag: str, name: str) -> bool:
    """Whether the first attribute of a message, written here or by the tokenizer, is this one."""
    return data.startswith(f'<{tag} {name}="'.encode())


def with_first(data: bytes, tag: str, name: str, value: str | None) -> bytes:
    """The same message with this attribute as its first, in the place of what it has there already. None: without."""
    if not data.startswith(f"<{tag}".encode()):  # what takes the place of a message that can't be read
        return data
    at = len(tag) + 1
    end = data.index(b'"', at + len(name) + 3) + 1 if begins_with(data, tag, name) else at
    attribute = "" if value is None else f' {name}="{escape_attr(value)}"'
    return data[:at] + attribute.encode() + data[end:]


# -- BLOBs


class BlobHead(NamedTuple):
    """What is written of a BLOB beside its content."""

    name: str
    format: str | None
    """None: not said."""
    size: int
    length: int
    """Bytes of its content; 0: the member is named without content."""


def around_blobs(tag: str, attributes: Mapping[str, str | None], blobs: Iterable[BlobHead]) -> list[bytes]:
    """A vector in pieces, between which the base64 of each BLOB that has content belongs."""
    pieces = []
    piece = start_tag(tag, attributes)
    for blob in blobs:
        start = _blob_start(blob)
        if blob.length:
            pieces.append(f"{piece}{start}>".encode())
            piece = "</oneBLOB>"
        else:
            piece += f"{start} />"
    pieces.append(f"{piece}</{tag}>".encode())
    return pieces


def attached_blobs(tag: str, attributes: Mapping[str, str | None], blobs: Iterable[BlobHead]) -> bytes:
    """A vector the BLOBs of which travel as descriptors beside it."""
    members = [
        f'{_blob_start(blob)} len="{blob.length}" attached="true" />' if blob.length else f"{_blob_start(blob)} />"
        for blob in blobs
    ]
    return f"{start_tag(tag, attributes)}{''.join(members)}</{tag}>".encode()


def _blob_start(blob: BlobHead) -> str:
    return _start("oneBLOB", {"name": blob.name, "format": blob.format, "size": str(blob.size)})


def inline_blobs(
    tag: str, attributes: Mapping[str, str | None], blobs: Sequence[tuple[BlobHead, Buffer]]
) -> bytes | bytearray:
    """A vector with its BLOBs in base64, in one buffer: the content is read once and written once."""
    if not blobs:
        return element(tag, attributes).encode()
    pieces = around_blobs(tag, attributes, [head for head, _ in blobs])
    contents = [content for head, content in blobs if head.length]
    out = bytearray(sum(map(len, pieces)) + sum(encoded_length(len(content)) for content in contents))
    view = memoryview(out)
    position = 0
    for number, piece in enumerate(pieces):
        view[position : position + len(piece)] = piece
        position += len(piece)
        if number < len(contents):
            position += encode_into(contents[number], view[position:])
    return out
