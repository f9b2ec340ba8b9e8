"""The text of recordings: INDI messages, each preceded by a comment with the time, direction and party.

    <!-- indifast recording 2 {"began": "2026-11-21T20:15:00.000000", "blobs": true, "source": "observatory:7624"} -->
    <!-- 2026-11-21T20:15:00.001734 from driver indi_simulator_ccd -->
    <defNumberVector device="CCD Simulator" …

A `<` in the text or attributes of a message is written as a reference, so `<!--` can only begin a comment.

Version 2 is this text in a container, see `indifast.recording.container`. Version 1 is the text itself, or the text
compressed by gzip.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from indifast.protocol.escape import printable

VERSION, TEXT_VERSION = 2, 1
"""The versions in the title of a container, and of a file that is nothing but text."""

BEGIN = b"<!--"
END = b"-->"

MAX_COMMENT = 16 << 10
"""Longest comment in bytes; a longer one means that the file is damaged."""

_MAX_LABEL = 1000  # characters
_TITLE = "indifast recording"
_EPOCH, _MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)


class RecordingError(Exception):
    """Raised for a file that is not a recording or is damaged. The message is one sentence."""


class Direction(Enum):
    """What a record says about a party."""

    FROM = "from"
    """The party sent this message."""
    TO = "to"
    """This message was sent to the party. Contents of BLOBs are left out, as they are recorded with their sender."""
    LOST = "lost"
    """The connection to the party ended, and its devices are gone. No message follows."""
    NOTE = "note"
    """A note about the recording itself, in place of the name. No message follows."""
    END = "end"
    """The recording was ended properly. Nothing follows."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and hashes are needed for every message


class Party(Enum):
    """Kind of the party that sends or receives a message."""

    DRIVER = "driver"
    CLIENT = "client"
    REMOTE = "remote"
    """A server that is linked to the recorded one."""
    SERVER = "server"
    """The server itself: the one that recorded, or the one that a client recorded."""

    __hash__ = object.__hash__


_WITHOUT_PARTY = (Direction.NOTE, Direction.END)


@dataclass(frozen=True, slots=True)
class Head:
    """Comment before a message."""

    time: datetime
    """UTC, without a time zone; never earlier than that of the previous record."""
    direction: Direction
    party: Party = Party.SERVER
    label: str = ""
    """Name of the party, or text of a note."""


@dataclass(frozen=True, slots=True)
class Title:
    """Comment at the beginning of the file."""

    began: datetime
    source: str
    """What was recorded, for people."""
    blobs: bool
    """Whether the contents of BLOBs were to be recorded."""


def title_line(title: Title, version: int = VERSION) -> bytes:
    """Return the first line of a recording."""
    facts = {"began": stamp(title.began), "blobs": title.blobs, "source": title.source}
    text = json.dumps(facts).replace("--", "-\\u002d")
    return f"<!-- {_TITLE} {version} {text} -->\n".encode()


def head_line(head: Head) -> bytes:
    """Return the line before a message."""
    return head_start(head.time) + b"%06d" % head.time.microsecond + head_rest(head.direction, head.party, head.label)


def head_start(second: datetime) -> bytes:
    """Return the beginning of the line before a message, up to the six digits of the microseconds."""
    return f"<!-- {second.replace(tzinfo=None, microsecond=0).isoformat()}.".encode()


def head_rest(direction: Direction, party: Party, label: str) -> bytes:
    """Return the rest of that line, after the microseconds."""
    words = [direction.value]
    if direction not in _WITHOUT_PARTY:
        words.append(party.value)
    if label:
        words.append(_one_line(label))
    return f" {' '.join(words)} -->\n".encode("utf-8", "replace")


def parse_title(comment: bytes, latest: int = VERSION) -> Title:
    """Parse the first comment, given without its `<!--` and `-->`, of any version up to `latest`.

    Raises:
        ValueError: The comment is not that of a recording, or the recording is of a later version of the format.
    """
    text = comment.decode().strip()
    if not text.startswith(_TITLE + " "):
        raise ValueError("not an indifast recording")
    version, _, facts = text[len(_TITLE) + 1 :].partition(" ")
    if version not in map(str, range(1, latest + 1)):
        raise ValueError(f"a recording of version {version[:20]}, but this indifast reads no version above {latest}")
    found = json.loads(facts)
    return Title(_parse_stamp(found["began"]), str(found["source"]), bool(found["blobs"]))


def parse_head(comment: bytes) -> Head:
    """Parse the comment before a message.

    Raises:
        ValueError: It is not such a comment.
    """
    words = comment.decode().strip().split(" ", 2)
    direction = Direction(words[1] if len(words) > 1 else "")
    time, rest = _parse_stamp(words[0]), words[2] if len(words) > 2 else ""
    if direction in _WITHOUT_PARTY:
        return Head(time, direction, label=rest)
    party, _, label = rest.partition(" ")
    return Head(time, direction, Party(party), label)


def stamp(time: datetime) -> str:
    """Format a time as `YYYY-MM-DDTHH:MM:SS.ffffff`."""
    return time.replace(tzinfo=None).isoformat(timespec="microseconds")


def microseconds(time: datetime) -> int:
    """Return a UTC time without a time zone as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def utc_now() -> datetime:
    """Return the current UTC time of this machine, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _parse_stamp(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is not None:
        raise ValueError("a time with a time zone")
    return time


def _one_line(text: str) -> str:
    """Return a label in a form that ends neither the comment nor the line."""
    text = printable(text[:_MAX_LABEL]).strip()
    while "--" in text:
        text = text.replace("--", "- -")
    return text
