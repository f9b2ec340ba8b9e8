"""Recordings: frames written, read and passed over.

Star fields of 2048 x 2048 pixels with 16 bits, different each time, as a server receives them (base64) and as a driver
in the same process has them. “written” is everything until the file is closed, on the disk of this machine but without
waiting for the disk to have it. “gzip” is the former format: base64 in deflate, level 1. “LZ4” and “zstd” are what the
recorder chooses between: zstd while it keeps up, LZ4 when it falls behind. Every frame that is read is compared.
“by processor time” is what one core would write if it did nothing else, whoever else is busy; it counts all threads.
“in the middle” is the time from opening a recording of 50 frames to the first frame after nine tenths of it.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import OURS, Bound, Goal, Row
from indifast import compression
from indifast._base64 import encode
from indifast._parser import Tokenizer
from indifast.cli.demo.starfield import StarField
from indifast.recording import Direction, Party, Recorder, Recording
from indifast.recording.fileformat import Head, Title, head_line, title_line, utc_now
from indifast.transport.blobs import BlobContent, BlobMessage

GZIP, LZ4, ZSTD = "gzip", "only LZ4", "only zstd"
KINDS = {OURS: compression.installed(), LZ4: (compression.LZ4,), ZSTD: (compression.ZSTD,)}
SIDE = 2048
DIFFERENT = 8
WAITING = 64 << 20  # bytes; a queue of more would leave frames out
LONG = 50

DEFINITION = '<defBLOBVector device="Camera" name="CCD1" state="Ok" perm="ro"><defBLOB name="CCD1"/></defBLOBVector>'


def frames() -> list[bytes]:
    sky = StarField(SIDE, SIDE, stars=500)
    return [bytes(sky.frame()) for _ in range(DIFFERENT)]


def received(frame: bytes) -> BlobMessage:
    """Return a message as a server has it after it was received."""
    begin = b'<setBLOBVector device="Camera" name="CCD1" state="Ok"><oneBLOB name="CCD1" format=".fits" size="%d">'
    text = begin % len(frame) + encode(frame) + b"</oneBLOB></setBLOBVector>"
    (element,) = Tokenizer(relay=True).feed(text)
    return BlobMessage.of(element, [])


def own(frame: bytes) -> BlobMessage:
    """Return a message as a driver in the same process sends it."""
    attributes = {"device": "Camera", "name": "CCD1", "state": "Ok"}
    return BlobMessage.from_members("setBLOBVector", attributes, [BlobContent("CCD1", ".fits", frame)])


def write(path: Path, messages: Callable[[int], BlobMessage], methods: Sequence[str], until: float, most: int) -> int:
    """Record messages until a time, or as many as there may be; return how many."""
    with mock.patch("indifast.recording.writer.installed", lambda: tuple(methods)):
        recorder = Recorder(str(path), source="a benchmark", blobs=True, replace=True)
        for element in Tokenizer(relay=True).feed(DEFINITION.encode()):
            recorder.put(Direction.FROM, Party.DRIVER, "camera", element)
        count = 0
        while (not count or time.monotonic() < until) and count < most:
            if recorder.waiting > WAITING:
                time.sleep(0.001)
                continue
            recorder.put(Direction.FROM, Party.DRIVER, "camera", messages(count))
            count += 1
        recorder.close()
    if recorder.error or recorder.left_out or recorder.missed or recorder.frames != count:
        raise Failed(f"{recorder.error or recorder.left_out or recorder.missed} of {count} frames are missing")
    return count


def write_gzip(path: Path, messages: Callable[[int], BlobMessage], until: float) -> int:
    """Do the same in the former format."""
    compress = zlib.compressobj(1, zlib.DEFLATED, 31)
    count = 0
    with path.open("wb") as file:
        file.write(compress.compress(title_line(Title(utc_now(), "a benchmark", True), 1)))
        while not count or time.monotonic() < until:
            file.write(compress.compress(head_line(Head(utc_now(), Direction.FROM, Party.DRIVER, "camera"))))
            for part in messages(count).parts(False) or ():
                file.write(compress.compress(part))
            count += 1
        file.write(compress.compress(head_line(Head(utc_now(), Direction.END))))
        file.write(compress.flush())
    return count


def run_write(folder: Path, contender: str, messages: Sequence[BlobMessage], seconds: float) -> dict[str, float]:
    path = folder / "written"
    pick = lambda number: messages[number % len(messages)]  # noqa: E731
    begin, used = time.monotonic(), time.process_time()
    if contender == GZIP:
        count = write_gzip(path, pick, begin + seconds)
    else:
        count = write(path, pick, KINDS[contender], begin + seconds, sys.maxsize)
    taken, used, size = time.monotonic() - begin, time.process_time() - used, path.stat().st_size
    path.unlink()
    raw = count * _LENGTH
    return {"rate": raw / taken / 1e6, "core": raw / used / 1e6, "size": size / raw}


_LENGTH = -(-SIDE * SIDE * 2 // 2880) * 2880 + 2880


def run_read(path: Path, expected: Sequence[bytes], seconds: float) -> dict[str, float]:
    begin, count, compared = time.monotonic(), 0, 0.0
    while time.monotonic() - begin - compared < seconds:
        with Recording(str(path)) as recording:
            frames = (one.message for one in recording if one.message is not None and one.message.blob)
            for number, message in enumerate(frames):
                data = message.members[0].data
                before = time.monotonic()
                if data != expected[number % len(expected)]:
                    raise Failed("a wrong byte")
                compared += time.monotonic() - before
                count += 1
                if time.monotonic() - begin - compared >= seconds:
                    break
    return {"rate": count * _LENGTH / (time.monotonic() - begin - compared) / 1e6, "frames": count}


def run_middle(path: Path, seconds: float) -> dict[str, float]:
    """Open a recording after nine tenths of its time, and read until the first frame."""
    with Recording(str(path), contents=False) as recording:
        end = [record.seconds for record in recording][-1]
    begin = time.monotonic()
    with Recording(str(path)) as recording:
        recording.seek(end * 0.9)
        for record in recording:
            if record.seconds >= end * 0.9 and record.message is not None and record.message.blob:
                break
        else:
            raise Failed("no frame")
    return {"milliseconds": (time.monotonic() - begin) * 1000}


def measure(settings: Settings) -> Iterable[Row]:
    made = frames()
    assert len(made[0]) == _LENGTH
    with tempfile.TemporaryDirectory(dir=".", prefix=".recording-") as name:
        folder = Path(name)
        for label, kind in (("received in base64", received), ("of a driver in the same process", own)):
            messages = [kind(frame) for frame in made]
            names = (*KINDS, GZIP) if kind is received else KINDS
            turns = settings.turns(label, {each: partial(run_write, folder, each, messages) for each in names})
            yield turns.row("rate", f"written, {label}", "MB/s of frames")
            yield turns.row("core", f"written, {label}, by processor time", "MB/s of frames")
            if kind is received:
                yield turns.row("size", "size of the file", "of the frames", digits=2)
        new, old = folder / "new", folder / "old"
        messages = [received(frame) for frame in made]
        pick = lambda number: messages[number % len(messages)]  # noqa: E731
        write(new, pick, compression.installed(), float("inf"), LONG)
        with Recording(str(new)) as recording:
            compress = zlib.compressobj(1, zlib.DEFLATED, 31)
            with old.open("wb") as file:
                for chunk in recording.text():
                    file.write(compress.compress(chunk))
                file.write(compress.flush())
        files = {OURS: new, GZIP: old}
        turns = settings.turns("read", {name: partial(run_read, path, made) for name, path in files.items()})
        yield turns.row("rate", "read", "MB/s of frames")
        turns = settings.turns("in the middle", {name: partial(run_middle, path) for name, path in files.items()})
        yield turns.row("milliseconds", "opened in the middle", "ms", digits=1)


PROGRAM = Program(
    "recording",
    "Recordings",
    __doc__ or "",
    measure,
    timed=12,
    goals=(
        Goal("written, received in base64", ">=", (Bound(500),)),
        Goal("written, received in base64, by processor time", ">=", (Bound(500), Bound(8, GZIP))),
        Goal("written, of a driver in the same process", ">=", (Bound(500),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
