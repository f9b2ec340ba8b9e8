"""Recordings made by hand, and the commands that make and play them as processes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from indifast._parser import Element, Tokenizer
from indifast.recording import Direction, Party, Recorder
from indifast.transport.blobs import BlobContent, BlobMessage
from tests.support.blackbox import Channel, Child, python_environment

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
    """A message with a BLOB, encoded already or not; a large one is encoded in a thread then."""
    attributes = {"device": "Dome", "name": "PICTURE", "state": "Ok", "timestamp": "2020-01-02T03:04:07"}
    message = BlobMessage.from_members("setBLOBVector", attributes, [BlobContent("ALL", ".fits", data)])
    if encoded:
        message.release()
    return message


def write(path: Path, messages: Iterable[str | BlobMessage], *, blobs: bool = True, close: bool = True) -> Recorder:
    """A recording of what one driver said."""
    recorder = Recorder(str(path), source="a test", blobs=blobs)
    for message in messages:
        for one in elements(message) if isinstance(message, str) else [message]:
            recorder.put(Direction.FROM, Party.DRIVER, "dome", one)
    if close:
        recorder.close()
        assert not recorder.left_out
    return recorder


def command(folder: Path, *words: object) -> Child:
    return Child([sys.executable, "-m", "indifast", *map(str, words)], folder, env=python_environment())


class Replay(Child):
    """`indifast replay` on a port of its own."""

    def __init__(self, folder: Path, *words: object) -> None:
        argv = [sys.executable, "-m", "indifast", "replay", "--port", "0", *map(str, words)]
        super().__init__(argv, folder, env=python_environment())

    @property
    def port(self) -> int:
        found = re.search(r" on localhost:(\d+)", self.until_stderr(" on localhost:"))
        assert found is not None
        return int(found[1])

    def client(self, ask: bytes = b'<getProperties version="1.7"/>') -> Channel:
        channel = Channel.connect(self.port)
        channel.send(ask)
        return channel


def values(message: bytes) -> dict[str, str]:
    (element,) = Tokenizer().feed(message)
    return element.values()
