"""What a client sends, written from the model and a program's values."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from indifast.client.propertymembers import SWITCH_VALUES, BLOBMember, suffixes
from indifast.client.snapvectors import Vector
from indifast.protocol import wire
from indifast.protocol.message import Wire
from indifast.protocol.timestamps import timestamp_text

logger = logging.getLogger("indifast.client.ipyclient")


def stamp_text(timestamp: object, name: str) -> str | None:
    """The timestamp of a command, by default now; None, with a log line, for what is no time."""
    if timestamp is None:
        return timestamp_text(datetime.now(UTC))
    if not isinstance(timestamp, datetime):
        logger.warning("%s: nothing was sent, %r is no datetime", name, timestamp)
        return None
    if timestamp.tzinfo is not None:
        timestamp = timestamp.astimezone(UTC)
    return timestamp_text(timestamp)


def new_vector(tag: str, device: str, name: str, stamp: str, members: str) -> Wire:
    """A new…Vector around members that are XML already."""
    return wire.vector(tag, {"device": device, "name": name, "timestamp": stamp}, members)


def switches(vector: Vector, members: Mapping[str, str]) -> str:
    """The switches given that exist and have a valid value; those to be Off first, so that a rule is never broken."""
    known = [(name, members[name]) for name in vector.data if name in members and members[name] in SWITCH_VALUES]
    known.sort(key=lambda item: item[1] == "On")
    return "".join([wire.one("Switch", name, value) for name, value in known])


COMPLETED = frozenset({"TextVector", "NumberVector"})
"""Vectors of which the members that were not given go along, unless asked otherwise."""


def sent(vector: Vector, members: Mapping[str, Any], complete: bool = True) -> dict[str, Any]:
    """What a command carries: the members given and, of texts and numbers if `complete`, the others as they stand.

    Nobody can read a write-only vector: what its definition says of the others, as an empty password, is never sent.
    """
    if not complete or vector.perm == "wo" or vector.vectortype not in COMPLETED:
        return {name: members[name] for name in vector.data if name in members}
    return {name: members.get(name, member.membervalue) for name, member in vector.data.items()}


def texts(vector: Vector, members: Mapping[str, str], complete: bool = True) -> str:
    """The texts to send, see `sent`."""
    parts = []
    for name, value in sent(vector, members, complete).items():
        if not isinstance(value, str):
            raise TypeError(f"{vector.name}: the text {name} must be a str, not {type(value).__name__}")
        parts.append(wire.one("Text", name, value))
    return "".join(parts)


def numbers(vector: Vector, members: Mapping[str, Any], complete: bool = True) -> str:
    """The numbers to send, see `sent`."""
    parts = []
    for name, value in sent(vector, members, complete).items():
        parts.append(wire.one("Number", name, value if isinstance(value, str) else str(value)))
    return "".join(parts)


async def send_command(
    vector: Vector | None, timestamp: datetime | None, members: Mapping[str, Any], complete: bool
) -> None:
    """Send a command to a live vector; nothing where there is none."""
    if vector is None:
        return
    try:
        await vector._send(timestamp, members, complete)
    except Exception:
        logger.exception("%s %s: the command was not sent", vector.devicename, vector.name)
        raise


async def new_blobs(vector: Vector, stamp: str, members: Mapping[str, Any]) -> Wire:
    """A newBLOBVector; files are read and content is encoded in a thread."""
    given = [(vector.data[name], value) for name, value in members.items() if name in vector.data]
    attributes: dict[str, str | None] = {"device": vector.devicename, "name": vector.name, "timestamp": stamp}
    loop = asyncio.get_running_loop()
    data = await loop.run_in_executor(None, _encode_blobs, attributes, given)
    return Wire("newBLOBVector", vector.devicename, vector.name, data)  # type: ignore[arg-type] # any buffer will do


def _encode_blobs(attributes: dict[str, str | None], given: list[tuple[BLOBMember, Any]]) -> bytearray | bytes:
    blobs = []
    for member, (content, size, form) in given:
        data = BLOBMember.getbytes(content)
        written_format = form or suffixes(content) or member.blobformat or None
        blobs.append((wire.BlobHead(member.name, written_format, size or len(data), len(data)), data))
    return wire.inline_blobs("newBLOBVector", attributes, blobs)
