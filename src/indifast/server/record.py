"""What the server's command writes down: all traffic, heads of messages, and what drivers say to people."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO

from indifast.protocol.message import Routable
from indifast.routing.peer import Kind, Peer
from indifast.transport.blobs import BlobMessage

logger = logging.getLogger(__name__)

_FLUSH = 0.2  # seconds until what was recorded is in the file
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?=T)")
_HEAD_ATTRIBUTES = 200  # characters of a message's head


def xml_of(message: Routable) -> str:
    """A message as it is written, without the content of its BLOBs."""
    data = message.head() if isinstance(message, BlobMessage) else b"".join(message.parts(False) or ())
    return data.decode("utf-8", "backslashreplace").rstrip()


def head_of(message: Routable) -> str:
    """The start tag of a message."""
    head = xml_of(message).split(">", 1)[0]
    return (head if len(head) <= _HEAD_ATTRIBUTES else head[:_HEAD_ATTRIBUTES] + "…") + ">"


class Recording:
    """A file of all that peers say and are told: INDI messages, each after a comment with time, direction and peer.

    Contents of BLOBs are left out. The file is appended to; it is a stream of INDI messages like any other. Raises
    OSError when it can't be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: IO[str] | None = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._loop = asyncio.get_running_loop()
        self._flush_due = False

    def note(self, direction: str, peer: Peer, message: Routable) -> None:
        """Record one message; `direction` is "from" or "to"."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")[:-6]
        label = peer.label.replace("--", "- -")
        self._do(lambda file: file.write(f"<!-- {now} {direction} {label} -->\n{xml_of(message)}\n"))
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_later(_FLUSH, self._flush)

    def close(self) -> None:
        self._do(lambda file: file.close())
        self._file = None

    def _flush(self) -> None:
        self._flush_due = False
        self._do(lambda file: file.flush())

    def _do(self, action: Callable[[IO[str]], object]) -> None:
        if self._file is None:
            return
        try:
            action(self._file)
        except OSError as exc:
            logger.error("nothing more is recorded in %s: %s", self._path, exc)
            self._file = None


class MessageLog:
    """What drivers say to people, one file per day: `folder/YYYY-MM-DD.islog` with lines `time: device: text`.

    Day and time are those of the message, as in libindi's indiserver.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def note(self, direction: str, peer: Peer, message: Routable) -> None:
        """Write down the `message` attribute of whatever a driver sends."""
        if direction != "from" or peer.kind is not Kind.DRIVER or isinstance(message, BlobMessage):
            return
        attributes = message.element().attrs
        text = attributes.get("message")
        if not text:
            return
        stamp = attributes.get("timestamp") or time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        day = _DATE.match(stamp)
        path = os.path.join(self._folder, f"{day[0] if day else time.strftime('%Y-%m-%d', time.gmtime())}.islog")
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{stamp}: {message.device or ''}: {text}\n")
        except OSError as exc:
            logger.error("message log: %s", exc)


def tell_head(direction: str, peer: Peer, message: Routable) -> None:
    """Log the head of a message (-vv)."""
    logger.info("%s: %s %s", peer.label, "read" if direction == "from" else "send", head_of(message))


def tell_xml(direction: str, peer: Peer, message: Routable) -> None:
    """Log a message (-vvv)."""
    logger.info("%s: %s %s", peer.label, "read" if direction == "from" else "send", xml_of(message))
