"""The codec compared with pybase64, the standard library and memcpy.

In every round each contender runs once, in a new order, so that all see the same machine, caches and heap. The figure
of a run is the median of its rounds, in GB/s of decoded bytes. “new bytes”: every result is a new object. “into a
buffer”: the result goes to the same memory every time, as with memcpy; “of memcpy” is the speed as a fraction of
memcpy's. pybase64 decodes strictly, except where the text has lines. All results are checked before the clock starts.

Frames for a link are compressed without loss: the bytes of each pixel are separated (“shuffle”), then LZ4 compresses
them in pieces of 1 MiB. One thread does this here, on a star field of 2048 x 2048 pixels with 16 bits.
"""

from __future__ import annotations

import base64
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping

import pybase64

from benchmarks.program import Failed, Program, Settings, main, tell
from benchmarks.results import OURS, Bound, Goal, Row
from indifast import _base64, compression
from indifast.cli.demo.starfield import StarField

SIZES = {"64 KiB": 64 << 10, "4 MiB": 4 << 20, "64 MiB": 64 << 20}
ROUNDS = 3  # at least
PEER, LIBRARY, MEMCPY = "pybase64", "base64", "memcpy"

Job = Callable[[], object]


def jobs(size: int) -> dict[str, dict[str, Job]]:
    """Return the jobs for one size, by task and contender."""
    raw = random.Random(size).randbytes(size)
    text = base64.b64encode(raw)
    lines = b"".join(text[i : i + 72] + b"\n" for i in range(0, len(text), 72))
    out, encoded = bytearray(size), bytearray(len(text))
    source, target = memoryview(bytearray(raw)), memoryview(bytearray(size))

    def memcpy() -> None:
        target[:] = source

    for function in (_base64.encode, pybase64.b64encode, base64.b64encode):
        _compare(function(raw), text)
    for decode in (_base64.decode, pybase64.b64decode, base64.b64decode):
        _compare(decode(text), raw)
        _compare(decode(lines), raw)
    for form in (text, lines):
        out[:] = bytes(size)
        _base64.decode_into(form, out)
        _compare(out, raw)
    _base64.encode_into(raw, encoded)
    _compare(encoded, text)
    return {
        "encode to new bytes": {
            OURS: lambda: _base64.encode(raw),
            PEER: lambda: pybase64.b64encode(raw),
            LIBRARY: lambda: base64.b64encode(raw),
        },
        "decode to new bytes": {
            OURS: lambda: _base64.decode(text),
            PEER: lambda: pybase64.b64decode(text, validate=True),
            LIBRARY: lambda: base64.b64decode(text),
        },
        "decode lines of 72 to new bytes": {
            OURS: lambda: _base64.decode(lines),
            PEER: lambda: pybase64.b64decode(lines),
            LIBRARY: lambda: base64.b64decode(lines),
        },
        "encode into a buffer": {OURS: lambda: _base64.encode_into(raw, encoded), MEMCPY: memcpy},
        "decode into a buffer": {OURS: lambda: _base64.decode_into(text, out), MEMCPY: memcpy},
        "decode lines of 72 into a buffer": {OURS: lambda: _base64.decode_into(lines, out), MEMCPY: memcpy},
    }


def compression_jobs() -> tuple[int, dict[str, dict[str, Job]]]:
    """Return the size of a frame, and the jobs with it; none if LZ4 is not installed."""
    frame = bytes(StarField(2048, 2048, stars=500).frame())
    if compression.LZ4 not in compression.installed():
        return len(frame), {COMPRESS: {}, INFLATE: {}}
    pieces = [frame[at : at + compression.PIECE] for at in range(0, len(frame), compression.PIECE)]
    width = compression.best_width(pieces[1])
    compressor = compression.Compressor(compression.LZ4, width)
    decompressor = compression.Decompressor(compression.LZ4, width)
    packed = [bytes(compressor.compress(piece)) for piece in pieces]
    room = [bytearray(len(piece)) for piece in pieces]

    def compress() -> None:
        for piece in pieces:
            compressor.compress(piece)

    def inflate() -> None:
        for data, out in zip(packed, room, strict=True):
            decompressor.decompress(data, len(out), out)

    inflate()
    _compare(b"".join(room), frame)
    return len(frame), {COMPRESS: {OURS: compress}, INFLATE: {OURS: inflate}}


def _compare(result: object, expected: bytes) -> None:
    if result != expected:
        raise Failed("a wrong byte")


def measure_one(size: int, work: Mapping[str, Mapping[str, Job]], seconds: float) -> dict[tuple[str, str], float]:
    """Make one run: GB/s by task and contender."""
    repeat = max(1, (256 << 10) // size)
    order = [(task, name, job) for task, contenders in work.items() for name, job in contenders.items()]
    times: dict[tuple[str, str], list[float]] = {}
    shuffled = random.Random(size)
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end or rounds < ROUNDS:
        rounds += 1
        shuffled.shuffle(order)
        for task, name, job in order:
            start = time.perf_counter()
            for _ in range(repeat):
                job()
            times.setdefault((task, name), []).append((time.perf_counter() - start) / repeat)
    return {key: size / statistics.median(values) / 1e9 for key, values in times.items()}


def measure(settings: Settings) -> Iterable[Row]:
    for label, size in SIZES.items():
        work = jobs(size)
        runs = []
        for number in range(settings.runs):
            tell(f"{label}, run {number + 1} of {settings.runs}")
            runs.append(measure_one(size, work, settings.seconds))
        for task, contenders in work.items():
            figures = {name: [run[task, name] for run in runs] for name in contenders}
            yield Row(f"{label}: {task}", "GB/s", figures, digits=2, x=size)
            if MEMCPY in contenders:
                parts = [run[task, OURS] / run[task, MEMCPY] for run in runs]
                yield Row(f"{label}: {task}, of memcpy", "fraction", {OURS: parts}, digits=2, x=size)
    size, work = compression_jobs()
    tell("compression")
    runs = [measure_one(size, work, settings.seconds) for _ in range(settings.runs)]
    for task, contenders in work.items():
        yield Row(task, "GB/s", {name: [run[task, name] for run in runs] for name in contenders}, digits=2)


COMPRESS, INFLATE = "star field: shuffle and LZ4", "star field: back from shuffle and LZ4"
NEW, LINES = "4 MiB: decode to new bytes", "4 MiB: decode lines of 72 to new bytes"

PROGRAM = Program(
    "codec",
    f"The base64 codec ({_base64.paths()[0]})",
    __doc__ or "",
    measure,
    timed=len(SIZES) + 1,
    overhead=0.3,
    goals=(
        Goal("4 MiB: encode to new bytes", ">=", (Bound(0.9, PEER),)),
        Goal(NEW, ">=", (Bound(0.9, PEER),)),
        Goal(LINES, ">=", (Bound(0.8, OURS, NEW), Bound(2.5, PEER))),
        *(
            Goal(f"{label}: {task} into a buffer", ">=", (Bound(0.5, MEMCPY),))
            for label in SIZES
            for task in ("decode", "decode lines of 72")
        ),
        *(Goal(task, ">=", (Bound(1),)) for task in (COMPRESS, INFLATE)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
