"""All that is said in a run. Each message carries its number, so that whoever receives one can be asked what it was.

The number stands in the attribute `timestamp`, which nothing on the way looks at. The values and BLOBs of a message
follow from its number: what arrives can be compared to the last byte without being kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from indifast._parser import Tokenizer
from indifast.protocol import wire
from indifast.protocol.message import Opened, Routable, Wire
from indifast.transport.blobs import BlobContent, BlobMessage

CONTROL = "control"
FRAME = "frame"

_STATES = ("Idle", "Ok", "Busy", "Alert")
_ODD = ("<&>", 'é"ß', "\u2028 \U0001f52d", "]]>", "a  b", "'", "")


class BlobMember(NamedTuple):
    """Content of one member of a frame, as it was sent."""

    name: str
    format: str
    size: int


@dataclass(slots=True)
class Said:
    """One message that an actor has said."""

    number: int
    speaker: str
    """The actor, and which of its lives it was in."""
    tag: str
    device: str | None
    name: str | None
    at: float
    values: dict[str, str] = field(default_factory=dict)
    blobs: tuple[BlobMember, ...] = ()
    forged: bool = False
    """Whether the speaker has no right to say it."""
    damaged: bool = False
    """Whether it is no message at all."""

    @property
    def stamp(self) -> str:
        return f"#{self.number}"

    @property
    def property(self) -> tuple[str | None, str | None]:
        return self.device, self.name

    def __str__(self) -> str:
        about = ".".join(part for part in self.property if part is not None)
        return f"{self.tag} {about} {self.stamp} of {self.speaker}"


def content(number: int, member: str, size: int) -> bytes:
    """Return the content of a BLOB."""
    piece = b"%d.%s;" % (number, member.encode())
    return (piece * (size // len(piece) + 1))[:size]


def value(kind: str, number: int, at: int) -> str:
    """Return the text of a member."""
    match kind:
        case "Number":
            return str(number + at)
        case "Switch":
            return "On" if (number + at) % 3 == 0 else "Off"
        case "Light":
            return _STATES[(number + at) % 4]
    return f"{number}.{at} {_ODD[(number + at) % len(_ODD)]}".strip()


class Ledger:
    """What was said, by number."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.newest: dict[tuple[str | None, str | None, str], Said] = {}
        """Of each property, the newest message with values and the newest with content."""

    def say(
        self,
        now: float,
        speaker: str,
        tag: str,
        device: str | None,
        name: str | None,
        members: tuple[str, ...] = (),
        blobs: tuple[BlobMember, ...] = (),
        *,
        forged: bool = False,
    ) -> Said:
        """Enter a new message."""
        number = len(self.said) + 1
        kind = tag.removesuffix("Vector")[3:]
        values = {} if kind == "BLOB" else {member: value(kind, number, at) for at, member in enumerate(members)}
        said = Said(number, speaker, tag, device, name, now, values, blobs, forged)
        self.said.append(said)
        return said

    def find(self, stamp: str | None) -> Said | None:
        """Return the message with this stamp."""
        if stamp is None or not stamp.startswith("#"):
            return None
        number = int(stamp[1:])
        return self.said[number - 1] if 0 < number <= len(self.said) else None


def write(said: Said, members: tuple[str, ...] = ()) -> Routable:
    """Write a message. `members` are those of a BLOB vector's definition."""
    tag, device, name = said.tag, said.device, said.name
    if tag == "message":
        return wire.message(f"says {said.number}", said.stamp, device)
    if tag == "delProperty":
        assert device is not None
        return wire.del_property(device, name, said.stamp)
    kind = tag.removesuffix("Vector")[3:]
    attributes = _attributes(said)
    if said.blobs:
        return write_frame(said)[0]
    if tag.startswith("def"):
        if kind == "Number":
            body = "".join(
                wire.define_number(each, each, "%g", "0", "0", "0", text) for each, text in said.values.items()
            )
        else:
            texts = said.values or dict.fromkeys(members)
            body = "".join(wire.define(kind, each, each, text) for each, text in texts.items())
    else:
        body = "".join(wire.one(kind, each, text) for each, text in said.values.items())
    return wire.vector(tag, attributes, body)


def _attributes(said: Said) -> dict[str, str | None]:
    attributes = {"device": said.device, "name": said.name, "timestamp": said.stamp}
    if not said.tag.startswith("new"):
        attributes["state"] = _STATES[said.number % 4]
    return attributes


def write_frame(said: Said) -> tuple[BlobMessage, list[bytearray]]:
    """Write a message with BLOBs; return it with the buffers in which these are."""
    buffers = [bytearray(content(said.number, blob.name, blob.size)) for blob in said.blobs]
    contents = [BlobContent(blob.name, blob.format, buffer) for blob, buffer in zip(said.blobs, buffers, strict=True)]
    return BlobMessage.from_members(said.tag, _attributes(said), contents), buffers


class Mark(NamedTuple):
    """What identifies a message wherever it is seen."""

    tag: str
    device: str | None
    name: str | None
    what: str
    """Its stamp, or the text of what has none."""


def mark_of(message: Routable | Opened) -> Mark:
    """Return what identifies a message."""
    tag = message.tag
    element = message if isinstance(message, Opened) else message.element()
    attrs = element.attrs
    what = attrs.get("timestamp") or attrs.get("uid") or attrs.get("message")
    if what is None:
        what = element.text if tag == "enableBLOB" else ""
    return Mark(tag, message.device, message.name, what)


def damaged(said: Said, fds: list[int]) -> Routable:
    """Return what looks like a message with attached BLOBs, but ends wrongly."""
    said.damaged = True
    xml = (
        f'<setBLOBVector device="{said.device}" name="{said.name}" timestamp="{said.stamp}">'
        f'<oneBLOB name="m0" size="7" format=".bin" attached="true"/>'
        f"</oneBLOB></setBLOBVector>"
    )
    return Damaged(said, xml.encode(), fds)


class Damaged(Wire):
    """Bytes that are no message, with descriptors."""

    blob = True

    def __init__(self, said: Said, data: bytes, fds: list[int]) -> None:
        super().__init__(said.tag, said.device, said.name, data)
        self._fds = fds

    def fds(self) -> list[int]:  # type: ignore[override]
        return self._fds


def parse(xml: bytes) -> Routable:
    """Return the one message that some XML holds."""
    (element,) = Tokenizer(relay=True).feed(xml)
    return element
