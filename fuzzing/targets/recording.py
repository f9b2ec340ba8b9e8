"""Recordings: a file that is damaged, or none, is told as that; everything before the damage is read and played."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fuzzing.checks import check_output, seen
from fuzzing.inputs import Input
from fuzzing.targets.driver import MemoryLink
from fuzzing.world import running
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.recording import container, reader
from indifast.recording.fileformat import Head, RecordingError, head_line, parse_head, parse_title, title_line
from indifast.recording.player import Player
from indifast.recording.reader import Recording
from indifast.recording.summary import summarize
from indifast.routing.link import Demand

TITLE = b'<!-- indifast recording 1 {"began": "2026-11-21T20:15:00.000000", "blobs": true, "source": "here"} -->\n'
SMALL = Limits(attribute=64, element=1000, blob=100, depth=4, members=10)
CHUNK = 7
"""Bytes read at a time, in comparison with all at once."""


def run(data: bytes) -> None:
    """Read a recording: a byte of options, then the file, or what is to be packed in one: gzip, or a container."""
    given = Input(data)
    options = given.byte()
    content = given.rest()
    if options & 1:
        content = TITLE + content
    if options & 2:
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
            file.write(content)
        content = packed.getvalue()
    if options & 32:
        content = container.MAGIC + b"".join(container.block(container.TITLE, (TITLE,), 0)) + mended(content)
    limits = SMALL if options & 4 else DEFAULT_LIMITS
    with _file(content) as path:
        found = _read(path, limits)
        assert found == _in_pieces(path, limits), "it matters how much is read at a time"
        _compare_text(path, limits, found)
        _summarize(path)
        _play(path, now=bool(options & 8), start_at=0.5 if options & 16 else 0.0)


def _read(path: str, limits: Limits) -> object:
    """Read all; returns what does not depend on the size of chunks."""
    records: list[object] = []
    recording: Recording | None = None
    try:
        with Recording(path, limits) as recording:
            assert parse_title(title_line(recording.title)[4:-4]) == recording.title
            seconds = 0.0
            for record in recording:
                assert seconds <= record.seconds, "time goes backwards"
                seconds = record.seconds
                _check_head(record.head)
                records.append((record.seconds, record.head, record.message and seen(record.message)))
        assert (recording.cut is None) is recording.ended
    except RecordingError as error:
        assert str(error).startswith(path)
        return records, "damaged", None if recording is None else recording.skipped
    return records, recording.ended, recording.skipped


def mended(content: bytes) -> bytes:
    """Return blocks with lengths that are possible, and with the right checksums: without them, nothing is read."""
    made = bytearray()
    while len(content) >= container.HEADER:
        kind, front, length, time = struct.unpack_from("<4sIQQ", content)
        content = content[container.HEADER :]
        block = bytearray(content[: min(length, len(content))])
        content = content[len(block) :]
        front = min(front, len(block), container.MAX_FRONT)
        if kind == container.FRAME:
            _mend_pieces(block, front)
        elif kind == container.STATE and front == 12:
            block[8:12] = zlib.crc32(block[front:]).to_bytes(4, "little")
        rest = block[front:] if kind in (container.FRAME, container.STATE) else b""
        made += b"".join(container.block(kind, (block[:front],), time, len(rest))) + rest
    return bytes(made) + content


def _mend_pieces(block: bytearray, front: int) -> None:
    """Write the checksums of the pieces of a frame, as far as there are pieces."""
    with suppress(struct.error):
        (count,) = struct.unpack_from("<H", block)
        table, offset = 8 + 16 * count, front
        for number in range(count):
            (length,) = struct.unpack_from("<Q", block, 8 + 16 * number + 8)
            for _ in range(min(-(-length // container.PIECE), front // 8)):
                (size,) = struct.unpack_from("<I", block, table)
                if table + 8 > front:
                    return
                struct.pack_into("<I", block, table + 4, zlib.crc32(block[offset : offset + size]))
                table, offset = table + 8, offset + size


def _compare_text(path: str, limits: Limits, found: object) -> None:
    """Check that a recording reads the same when it is written as text."""
    try:
        with Recording(path, limits) as recording:
            text = b"".join(recording.text())
    except RecordingError:
        return
    with _file(text) as other:
        assert _read(other, limits) == found, "as text, it says something else"


def _check_head(head: Head) -> None:
    """Check that a comment says the same when it is written again."""
    again = parse_head(head_line(head)[4:-4])
    assert (again.time, again.direction, again.party) == (head.time, head.direction, head.party)


def _in_pieces(path: str, limits: Limits) -> object:
    usual, reader._CHUNK = reader._CHUNK, CHUNK
    try:
        return _read(path, limits)
    finally:
        reader._CHUNK = usual


def _summarize(path: str) -> None:
    with suppress(RecordingError):
        summarize(path).as_dict()


def _play(path: str, *, now: bool, start_at: float) -> None:
    """Play to a link, as fast as it takes it, with definitions asked for in between."""
    with running() as loop:
        link = MemoryLink(Demand(inline=True, attached=False))
        player = Player(path, link, speed=None, now=now, start_at=start_at)
        playing = loop.create_task(player.play())
        loop.settle()
        assert playing.done()
        error = playing.exception()
        assert error is None or isinstance(error, RecordingError), repr(error)
        for found in player._devices.find(None):
            link.send(found.definition())
            answer = found.answer("text", "2026-11-21T20:15:00")
            if answer is not None:
                link.send(answer)
        check_output(bytes(link.sent))


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """Give the path of a file in memory."""
    fd = os.memfd_create("recording", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
