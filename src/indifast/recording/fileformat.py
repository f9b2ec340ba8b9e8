"""How a recording is written: gzip over INDI messages, each behind a comment that says when, which way and who.

    <!-- indifast recording 1 {"began": "2026-11-21T20:15:00.000000", "blobs": true, "source": "observatory:7624"} -->
    <!-- 2026-11-21T20:15:00.001734 from driver indi_simulator_ccd -->
    <defNumberVector device="CCD Simulator" …

A `<` within a message is always a reference, so `<!--` begins a comment and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from indifast.protocol.escape import printable

VERSION = 1

BEGIN = b"<!--"
END = b"-->"

MAX_COMMENT = 16 << 10
"""Bytes of a comment; a longer one is damage."""

_MAX_LABEL = 1000  # characters
_TITLE = "indifast recording"


class RecordingError(Exception):
    """A file that is no recording, or is damaged: one sentence."""


class Direction(Enum):
    """What a record tells about a party."""

    FROM = "from"
    """It said this message."""
    TO = "to"
    """It was told this message; contents of BLOBs are left out, as somebody has said them."""
    LOST = "lost"
    """The connection with it has ended, and its devices with it. No message."""
    NOTE = "note"
    """Something about the recording itself, in the place of the name. No message."""
    END = "end"
    """The recording was ended in good order. No message, and nothing behind it."""

    __hash__ = object.__hash__  # that of Enum is written in Python, and is asked for with every message


class Party(Enum):
    """Who speaks or is spoken to."""

    DRIVER = "driver"
    CLIENT = "client"
    REMOTE = "remote"
    """A server that is linked to the recorded one."""
    SERVER = "server"
    """The server itself: the recorded one, or the one that a client recorded."""

    __hash__ = object.__hash__


_WITHOUT_PARTY = (Direction.NOTE, Direction.END)


@dataclass(frozen=True, slots=True)
class Head:
    """The comment in front of a message."""

    time: datetime
    """UTC, without a zone; never before that of an earlier record."""
    direction: Direction
    party: Party = Party.SERVER
    label: str = ""
    """The name of the party, or the text of a note."""


@dataclass(frozen=True, slots=True)
class Title:
    """The comment at the beginning of the file."""

    began: datetime
    source: str
    """What was recorded, for people."""
    blobs: bool
    """Whether the contents of BLOBs were to be recorded."""


def title_line(title: Title) -> bytes:
    """The first line."""
    facts = {"began": stamp(title.began), "blobs": title.blobs, "source": title.source}
    text = json.dumps(facts).replace("--", "-\\u002d")
    return f"<!-- {_TITLE} {VERSION} {text} -->\n".encode()


def head_line(head: Head) -> bytes:
    """The line in front of a message."""
    return head_start(head.time) + b"%06d" % head.time.microsecond + head_rest(head.direction, head.party, head.label)


def head_start(second: datetime) -> bytes:
    """The beginning of such a line, up to the six digits of the microseconds."""
    return f"<!-- {second.replace(tzinfo=None, microsecond=0).isoformat()}.".encode()


def head_rest(direction: Direction, party: Party, label: str) -> bytes:
    """The rest of it."""
    words = [direction.value]
    if direction not in _WITHOUT_PARTY:
        words.append(party.value)
    if label:
        words.append(_one_line(label))
    return f" {' '.join(words)} -->\n".encode("utf-8", "replace")


def parse_title(comment: bytes) -> Title:
    """What the first comment says, without its `<!--` and `-->`.

    Raises:
        ValueError: it is something else, or a later version of the format.
    """
    text = comment.decode().strip()
    if not text.startswith(_TITLE + " "):
        raise ValueError("no recording of indifast")
    version, _, facts = text[len(_TITLE) + 1 :].partition(" ")
    if version != str(VERSION):
        raise ValueError(f"a recording of version {version[:20]}, which this indifast ({VERSION}) does not know")
    found = json.loads(facts)
    return Title(_parse_stamp(found["began"]), str(found["source"]), bool(found["blobs"]))


def parse_head(comment: bytes) -> Head:
    """What the comment in front of a message says. ValueError when it is none."""
    words = comment.decode().strip().split(" ", 2)
    direction = Direction(words[1] if len(words) > 1 else "")
    time, rest = _parse_stamp(words[0]), words[2] if len(words) > 2 else ""
    if direction in _WITHOUT_PARTY:
        return Head(time, direction, label=rest)
    party, _, label = rest.partition(" ")
    return Head(time, direction, Party(party), label)


def stamp(time: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffff`."""
    return time.replace(tzinfo=None).isoformat(timespec="microseconds")


def utc_now() -> datetime:
    """The time of this machine, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _parse_stamp(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is not None:
        raise ValueError("a time with a zone")
    return time


def _one_line(text: str) -> str:
    """A label that ends no comment and no line."""
    text = printable(text[:_MAX_LABEL]).strip()
    while "--" in text:
        text = text.replace("--", "- -")
    return text
