"""Recordings written by tests, and the commands that make and play recordings."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from indifast._parser import Element, Tokenizer
from indifast.recording import Direction, Party, Recorder, Recording
from indifast.transport.blobs import BlobContent, BlobMessage
from tests.support.blackbox import Channel, Child, python_environment
from tests.support.commands import INDIFAST

DEFINITION = (
    '<defNumberVector device="Dome" name="ANGLE" label="Angle" group="Main" state="Idle" perm="rw" timeout="60"'
    ' timestamp="2020-01-02T03:04:05"><defNumber name="AZ" label="Azimuth" format="%g" min="0" max="360" step="1">10'
    '</defNumber><defNumber name="ALT" label="Altitude" format="%g" min="0" max="90" step="1">20</defNumber>'
    "</defNumberVector>"
)
PICTURE = (
    '<defBLOBVector device="Dome" name="PICTURE" label="Picture" group="Main" state="Idle" perm="ro">'
    '<defBLOB name="ALL" label="All sky"/></defBLOBVector>'
)


def angle(value: float, state: str = "Busy") -> str:
    return (
        f'<setNumberVector device="Dome" name="ANGLE" state="{state}" timestamp="2020-01-02T03:04:06">'
        f'<oneNumber name="AZ">{value}</oneNumber></setNumberVector>'
    )


def elements(text: str) -> list[Element]:
    return Tokenizer(relay=True).feed(text.encode())


def picture(data: bytes, *, encoded: bool = True) -> BlobMessage:
    """Return a message with a BLOB. If it is not encoded, a large one will be encoded in a thread."""
    attributes = {"device": "Dome", "name": "PICTURE", "state": "Ok", "timestamp": "2020-01-02T03:04:07"}
    message = BlobMessage.from_members("setBLOBVector", attributes, [BlobContent("ALL", ".fits", data)])
    if encoded:
        message.release()
    return message


def write(path: Path, messages: Iterable[str | BlobMessage], *, blobs: bool = True, close: bool = True) -> Recorder:
    """Write a recording of the messages of one driver."""
    recorder = Recorder(str(path), source="a test", blobs=blobs)
    for message in messages:
        for one in elements(message) if isinstance(message, str) else [message]:
            recorder.put(Direction.FROM, Party.DRIVER, "dome", one)
    if close:
        recorder.close()
        assert not recorder.left_out
    return recorder


def recorded(
    path: Path,
    seconds: Sequence[float],
    messages: Sequence[str | BlobMessage],
    *,
    version: int = 2,
    end: float | None = None,
) -> Path:
    """Write a recording in which each message has the time given for it; by default, it ends with the last message."""
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    with mock.patch("indifast.recording.writer.time", clock), mock.patch("indifast.recording.writer.utc_now") as now:
        now.return_value = datetime(2026, 11, 21, 20, 15)
        recorder = Recorder(str(path), source="a test", blobs=True, max_waiting=1 << 40)
        for moment, message in zip([*seconds, end or max(seconds)], [*messages, ""], strict=True):
            clock.monotonic = partial(float, moment)
            for one in elements(message) if isinstance(message, str) else [message]:
                recorder.put(Direction.FROM, Party.DRIVER, "dome", one)
        recorder.close()
    if version == 1:
        path.write_bytes(gzip.compress(as_text(path)))
    return path


def as_text(path: Path) -> bytes:
    """Return a recording as one of version 1, which is nothing but text."""
    with Recording(str(path)) as recording:
        return b"".join(recording.text())


def command(folder: Path, *words: object) -> Child:
    """Start a command of `indifast`; its output goes to the same file as its messages."""
    return Child([*INDIFAST, *map(str, words)], folder, env=python_environment())


class Replay(Child):
    """`indifast replay` on a port that the kernel chooses."""

    def __init__(self, folder: Path, *words: object, program: Sequence[str] = INDIFAST) -> None:
        super().__init__([*program, "replay", "--port", "0", *map(str, words)], folder, env=python_environment())

    @property
    def port(self) -> int:
        found = re.search(r" on localhost:(\d+)", self.until_stderr(" on localhost:"))
        assert found is not None
        return int(found[1])

    def client(self, ask: bytes = b'<getProperties version="1.7"/>') -> Channel:
        """Connect a client that sends a request."""
        channel = Channel.connect(self.port)
        channel.send(ask)
        return channel


def read(message: bytes) -> Element:
    """Return the element that a message consists of."""
    (element,) = Tokenizer().feed(message)
    return element


def values(message: bytes) -> dict[str, str]:
    """Return the values in a message, by member."""
    return read(message).values()


def content(message: bytes) -> bytes:
    """Return the BLOB in a message."""
    return read(message).members[0].data or b""
