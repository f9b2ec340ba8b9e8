"""Writing of messages, byte for byte. Nothing else in the package writes XML.

Attributes are in double quotes and in a fixed order, there is no white space between members, an element without
content ends in ` />`, and the encoding is UTF-8. Messages have no terminator: streams decide what separates them.

Members are written first, as text, by `one`, `define` and `define_number`. Messages take them as they are. Messages
that drivers send at a high rate are written without a mapping for their attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from indifast._base64 import encode_into, encoded_length
from indifast._parser import escape_attr, escape_text
from indifast.protocol.message import INLINE, Buffer, Routable, Wire
from indifast.protocol.vocabulary import VERSION

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement


# -- Elements


def _start(tag: str, attributes: Mapping[str, str | None]) -> str:
    """Return `<tag name="value"`, a start tag without its end; attributes whose value is None are left out."""
    written = [f' {name}="{escape_attr(value)}"' for name, value in attributes.items() if value is not None]
    return f"<{tag}{''.join(written)}"


def start_tag(tag: str, attributes: Mapping[str, str | None]) -> str:
    """Return `<tag name="value">`; attributes whose value is None are left out."""
    return f"{_start(tag, attributes)}>"


def element(tag: str, attributes: Mapping[str, str | None], content: str = "") -> str:
    """Return one element. `content` is XML already; for text, use `text_element`."""
    start = _start(tag, attributes)
    return f"{start}>{content}</{tag}>" if content else f"{start} />"


def text_element(tag: str, attributes: Mapping[str, str | None], text: str) -> str:
    """Return one element that contains text."""
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
    """Return an element of `xml.etree.ElementTree` as XML.

    Comments are left out, and so is text after elements, such as indentation.

    Raises:
        TypeError: A tag, or the name or value of an attribute, is not a string.
    """
    if callable(source.tag):  # a comment or an instruction
        return ""
    for value in (source.tag, *source.attrib, *source.attrib.values()):
        if not isinstance(value, str):
            raise TypeError(f"{value!r} can't be written as XML")
    return element(source.tag, source.attrib, escape_text(source.text or "") + "".join(map(tree, source)))


def parsed(message: Routable) -> TreeElement:
    """Return a message as an element of `xml.etree.ElementTree`, with its BLOBs inline."""
    from xml.etree.ElementTree import fromstring

    return fromstring(b"".join(message.parts(INLINE) or ()))


# -- Instructions

PIECES_FOLLOW = b"<?indi-pieces?>"
"""Stands before a raw frame that comes in pieces."""


MORE = b"more"
"""Stands before a piece that does not complete a compressed block."""


def piece_head(number: int, length: int) -> bytes:
    """Return what stands before a piece of a raw frame: its number, from 1, and how many bytes follow."""
    return b"<?indi-piece %d %d?>" % (number, length)


def beginning_head(number: int, length: int) -> bytes:
    """Return what stands before a piece with the first bytes of a compressed block, or further ones but the last."""
    return b"<?indi-piece %d %d %b?>" % (number, length, MORE)


def packed_head(number: int, length: int, method: str, width: int, size: int) -> bytes:
    """Return what stands before a piece that completes a compressed block of `size` bytes."""
    return b"<?indi-piece %d %d %b %d %d?>" % (number, length, method.encode(), width, size)


# -- Messages without members


def message(text: str | None, timestamp: str | None, device: str | None = None) -> Wire:
    """Return a message for the user, from a device or from the system."""
    attributes = {"device": device, "timestamp": timestamp, "message": text}
    return Wire("message", device, None, element("message", attributes).encode())


def del_property(device: str, name: str | None = None, timestamp: str | None = None, text: str | None = None) -> Wire:
    """Return the deletion of a property, or of the whole device if no name is given."""
    attributes = {"device": device, "name": name, "timestamp": timestamp, "message": text}
    return Wire("delProperty", device, name, element("delProperty", attributes).encode())


def get_properties(device: str | None = None, name: str | None = None, *, via: str | None = None) -> Wire:
    """Return a request for definitions of everything, of a device, or of one of its properties.

    For `via`, see `protocol/via.py`.
    """
    device, name = device or None, name or None  # not all programs understand an empty one
    attributes = {"version": VERSION, "device": device, "name": name, "via": via}
    return Wire("getProperties", device, name, element("getProperties", attributes).encode())


def enable_blob(device: str, name: str | None, policy: str) -> Wire:
    """Return a message that says whether BLOBs of a device, or of one of its properties, are wanted."""
    name = name or None
    text = text_element("enableBLOB", {"device": device, "name": name}, policy)
    return Wire("enableBLOB", device, name, text.encode())


def ping_request(uid: str) -> Wire:
    """Return a question that the peer answers when everything before it is done."""
    return Wire("pingRequest", None, None, element("pingRequest", {"uid": uid}).encode())


def ping_reply(uid: str) -> Wire:
    """Return the answer to a pingRequest."""
    return Wire("pingReply", None, None, element("pingReply", {"uid": uid}).encode())


# -- Vectors


def one(kind: str, name: str, text: str | None) -> str:
    """Return a member of an update or a command. None stands for empty text."""
    start = f'<one{kind} name="{escape_attr(name)}"'
    return f"{start}>{escape_text(text)}</one{kind}>" if text else f"{start} />"


def define(kind: str, name: str, label: str, text: str | None) -> str:
    """Return a member of a definition of any kind except numbers. None stands for empty text."""
    start = f'<def{kind} name="{escape_attr(name)}" label="{escape_attr(label)}"'
    return f"{start}>{escape_text(text)}</def{kind}>" if text else f"{start} />"


def define_number(name: str, label: str, form: str, low: str, high: str, step: str, text: str | None) -> str:
    """Return a number of a definition. Empty limits and steps become 0, because clients drop numbers that have one."""
    start = (
        f'<defNumber name="{escape_attr(name)}" label="{escape_attr(label)}" format="{escape_attr(form)}" '
        f'min="{escape_attr(low or "0")}" max="{escape_attr(high or "0")}" step="{escape_attr(step or "0")}"'
    )
    return f"{start}>{escape_text(text)}</defNumber>" if text else f"{start} />"


def vector(tag: str, attributes: Mapping[str, str | None], members: str) -> Wire:
    """Return a def…, set… or new… vector. `attributes` contain device and name; `members` is XML already."""
    return Wire(tag, attributes["device"], attributes["name"], element(tag, attributes, members).encode())


def set_vector(
    kind: str, device: str, name: str, state: str, timestamp: str, timeout: str | None, text: str, members: str
) -> Wire:
    """Return an update, without a timeout if that is None, and without a message if `text` is empty.

    `state` and `timestamp` are written as they are: they contain nothing that XML requires to be escaped.
    """
    tag = f"set{kind}Vector"
    start = f'<{tag} device="{escape_attr(device)}" name="{escape_attr(name)}" state="{state}" timestamp="{timestamp}"'
    if timeout is not None:
        start += f' timeout="{escape_attr(timeout)}"'
    if text:
        start += f' message="{escape_attr(text)}"'
    return Wire(tag, device, name, (f"{start}>{members}</{tag}>" if members else f"{start} />").encode())


class Definition:
    """A definition that is written once, except for its timestamp and message, to be sent again and again."""

    def __init__(
        self, kind: str, attributes: Mapping[str, str | None], timeout: str | None, members: Iterable[str]
    ) -> None:
        """Write everything that stays the same.

        Args:
            kind: The kind of the vector.
            attributes: The attributes before the timestamp, including device and name.
            timeout: The timeout, if any.
            members: The members as XML.
        """
        self._tag = tag = f"def{kind}Vector"
        self._device, self._name = attributes["device"], attributes["name"]
        content = "".join(members)
        self._head = f'{_start(tag, attributes)} timestamp="'
        self._middle = '"' if timeout is None else f'" timeout="{escape_attr(timeout)}"'
        self._tail = f">{content}</{tag}>" if content else " />"

    def at(self, timestamp: str, text: str) -> Wire:
        """Return the definition with a timestamp, and with a message for the user unless `text` is empty."""
        note = f' message="{escape_attr(text)}"' if text else ""
        written = f"{self._head}{timestamp}{self._middle}{note}{self._tail}"
        return Wire(self._tag, self._device, self._name, written.encode())


def with_timestamp(data: bytes, timestamp: str) -> bytes:
    """Return a message, written here or by the tokenizer, with its timestamp (if any) replaced."""
    start, end, rest = data.partition(b">")
    before, mark, value = start.partition(b' timestamp="')  # not part of a value: quotes in values are references
    if not mark:
        return data
    return before + mark + timestamp.encode() + value[value.index(b'"') :] + end + rest


def begins_with(data: bytes, tag: str, name: str) -> bool:
    """Return whether the first attribute of a message, written here or by the tokenizer, is this one."""
    return data.startswith(f'<{tag} {name}="'.encode())


def with_first(data: bytes, tag: str, name: str, value: str | None) -> bytes:
    """Return a message with this attribute as its first, replacing one that is already there; None only removes it."""
    if not data.startswith(f"<{tag}".encode()):  # a substitute for a message that can't be read
        return data
    at = len(tag) + 1
    end = data.index(b'"', at + len(name) + 3) + 1 if begins_with(data, tag, name) else at
    attribute = "" if value is None else f' {name}="{escape_attr(value)}"'
    return data[:at] + attribute.encode() + data[end:]


# -- BLOBs


class BlobHead(NamedTuple):
    """What is written about a BLOB besides its content."""

    name: str
    format: str | None
    """The format; None to leave it out."""
    size: int
    length: int
    """Bytes of the content; 0 writes the member without content."""


def around_blobs(tag: str, attributes: Mapping[str, str | None], blobs: Iterable[BlobHead]) -> list[bytes]:
    """Return a vector in pieces. The base64 of each BLOB with content belongs between two of them."""
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


def blobs_beside(tag: str, attributes: Mapping[str, str | None], blobs: Iterable[BlobHead], how: str) -> bytes:
    """Return a vector whose BLOBs travel beside it: as descriptors ("true"), or as raw bytes ("raw")."""
    members = [
        f'{_blob_start(blob)} len="{blob.length}" attached="{how}" />' if blob.length else f"{_blob_start(blob)} />"
        for blob in blobs
    ]
    return f"{start_tag(tag, attributes)}{''.join(members)}</{tag}>".encode()


def _blob_start(blob: BlobHead) -> str:
    return _start("oneBLOB", {"name": blob.name, "format": blob.format, "size": str(blob.size)})


def inline_blobs(
    tag: str, attributes: Mapping[str, str | None], blobs: Sequence[tuple[BlobHead, Buffer]]
) -> bytes | bytearray:
    """Return a vector with its BLOBs as base64, in one buffer: the content is read once and written once."""
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
