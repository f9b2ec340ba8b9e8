"""Commands that a client sends, made from the model and a program's values."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from indifast.client.propertymembers import SWITCH_VALUES, BLOBMember, suffixes
from indifast.client.snapvectors import Vector
from indifast.protocol import wire
from indifast.protocol.message import Routable, Wire
from indifast.protocol.timestamps import timestamp_text
from indifast.transport.blobs import BlobContent, BlobMessage

logger = logging.getLogger("indifast.client.ipyclient")


def stamp_text(timestamp: object, name: str) -> str | None:
    """Return the timestamp of a command as text, the current time by default.

    Returns:
        The text, or None, after a warning in the log, if `timestamp` is not a datetime.
    """
    if timestamp is None:
        return timestamp_text(datetime.now(UTC))
    if not isinstance(timestamp, datetime):
        logger.warning("%s: nothing was sent, %r is not a datetime", name, timestamp)
        return None
    if timestamp.tzinfo is not None:
        timestamp = timestamp.astimezone(UTC)
    return timestamp_text(timestamp)


def new_vector(tag: str, device: str, name: str, stamp: str, members: str) -> Wire:
    """Return a new…Vector message around members that are already XML."""
    return wire.vector(tag, {"device": device, "name": name, "timestamp": stamp}, members)


def given(members: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the members given for a command, which may be None for nothing.

    Raises:
        TypeError: They are no mapping.
    """
    if members is None:
        return {}
    if not hasattr(members, "items"):
        raise TypeError(f"the members of a command must be a mapping of names to values, not {members!r}")
    return members


def switches(vector: Vector, members: Mapping[str, str]) -> str:
    """Return the XML of the given switches that exist and have a valid value.

    Switches to be turned Off come first, so that the rule is not broken in between.
    """
    known = [(name, members[name]) for name in vector.data if name in members and members[name] in SWITCH_VALUES]
    known.sort(key=lambda item: item[1] == "On")
    return "".join([wire.one("Switch", name, value) for name, value in known])


COMPLETED = frozenset({"TextVector", "NumberVector"})
"""Types of vectors whose other members are sent along with those given, unless the caller says otherwise."""


def sent(vector: Vector, members: Mapping[str, Any], complete: bool = True) -> dict[str, Any]:
    """Return the members that a command carries, with their values.

    These are the members given and, for texts and numbers if `complete`, all others with their current values.
    A write-only vector cannot be read, so the values in its definition, such as an empty password, are never sent.
    """
    if not complete or vector.perm == "wo" or vector.vectortype not in COMPLETED:
        return {name: members[name] for name in vector.data if name in members}
    return {name: members.get(name, member.membervalue) for name, member in vector.data.items()}


def texts(vector: Vector, members: Mapping[str, str], complete: bool = True) -> str:
    """Return the XML of the texts to send. See `sent`."""
    parts = []
    for name, value in sent(vector, members, complete).items():
        if not isinstance(value, str):
            raise TypeError(f"{vector.name}: the text {name} must be a str, not {type(value).__name__}")
        parts.append(wire.one("Text", name, value))
    return "".join(parts)


def numbers(vector: Vector, members: Mapping[str, Any], complete: bool = True) -> str:
    """Return the XML of the numbers to send. See `sent`."""
    parts = []
    for name, value in sent(vector, members, complete).items():
        parts.append(wire.one("Number", name, value if isinstance(value, str) else str(value)))
    return "".join(parts)


async def send_command(
    vector: Vector | None, timestamp: datetime | None, members: Mapping[str, Any], complete: bool
) -> None:
    """Send a command to a live vector; do nothing if `vector` is None."""
    if vector is None:
        return
    try:
        await vector._send(timestamp, members, complete)
    except Exception:
        logger.exception("%s %s: the command was not sent", vector.devicename, vector.name)
        raise


async def new_blobs(vector: Vector, stamp: str, members: Mapping[str, Any], *, raw: bool) -> Routable:
    """Return a newBLOBVector message. A thread reads files and, unless BLOBs are sent `raw`, encodes the content."""
    given = [(vector.data[name], value) for name, value in members.items() if name in vector.data]
    attributes: dict[str, str | None] = {"device": vector.devicename, "name": vector.name, "timestamp": stamp}
    loop = asyncio.get_running_loop()
    if raw:
        contents = await loop.run_in_executor(None, _kept_blobs, given)
        return BlobMessage.from_members("newBLOBVector", attributes, contents)
    data = await loop.run_in_executor(None, _encode_blobs, attributes, given)
    return Wire("newBLOBVector", vector.devicename, vector.name, data)  # type: ignore[arg-type] # any buffer will do


def _kept_blobs(given: list[tuple[BLOBMember, Any]]) -> list[BlobContent]:
    """Return the BLOBs with contents that do not change if the program fills its buffers again."""
    return [blob._replace(data=bytes(blob.data)) for blob in _blobs(given)]


def _encode_blobs(attributes: dict[str, str | None], given: list[tuple[BLOBMember, Any]]) -> bytearray | bytes:
    blobs = [
        (wire.BlobHead(blob.name, blob.format, blob.size or len(blob.data), len(blob.data)), blob.data)
        for blob in _blobs(given)
    ]
    return wire.inline_blobs("newBLOBVector", attributes, blobs)


def _blobs(given: list[tuple[BLOBMember, Any]]) -> Iterator[BlobContent]:
    for member, (content, size, form) in given:
        written_format = form or suffixes(content) or member.blobformat or None
        yield BlobContent(member.name, written_format, BLOBMember.getbytes(content), size)
