"""Codec benchmark of `indifast bench`: `python -m indifast.cli.bench.codec SECONDS` prints one line of JSON.

Rates are GB of decoded bytes per second: the median for each job, with all jobs taking turns.
"""

from __future__ import annotations

import base64
import json
import random
import statistics
import sys
import time
from collections.abc import Callable

from indifast import codec

SIZE = 4 << 20
COLUMNS = 72

ROWS = ("encode", "decode", "decode, lines of 72", "encode, same buffer", "decode, same buffer")
"""The last two write into an existing buffer, the others return new bytes."""

Job = Callable[[], object]


class Work:
    """A frame, its base64, and the jobs that convert them."""

    def __init__(self) -> None:
        self.raw = random.Random(1).randbytes(SIZE)
        self.text = base64.b64encode(self.raw)
        self.lines = b"\n".join(self.text[at : at + COLUMNS] for at in range(0, len(self.text), COLUMNS))
        self.encoded, self.decoded = bytearray(len(self.text)), bytearray(SIZE)

    def jobs(self) -> dict[tuple[str, str], Job]:
        """Return the jobs by row and contender."""
        source, target = memoryview(bytearray(self.raw)), memoryview(bytearray(SIZE))

        def copy() -> None:
            target[:] = source

        found: dict[tuple[str, str], Job] = {
            ("encode", "indifast"): lambda: codec.encode(self.raw),
            ("decode", "indifast"): lambda: codec.decode(self.text),
            ("decode, lines of 72", "indifast"): lambda: codec.decode(self.lines),
            ("encode, same buffer", "indifast"): lambda: codec.encode_into(self.raw, self.encoded),
            ("decode, same buffer", "indifast"): lambda: codec.decode_into(self.text, self.decoded),
            ("encode, same buffer", "memcpy"): copy,
            ("decode, same buffer", "memcpy"): copy,
        }
        try:
            import pybase64
        except ImportError:
            return found
        return found | {
            ("encode", "pybase64"): lambda: pybase64.b64encode(self.raw),
            ("decode", "pybase64"): lambda: pybase64.b64decode(self.text, validate=True),
            ("decode, lines of 72", "pybase64"): lambda: pybase64.b64decode(self.lines),
        }

    def wrong(self) -> list[str]:
        """Compare the results of our codec with the standard library, and report the rows that differ."""
        self.encoded[:], self.decoded[:] = bytes(len(self.encoded)), bytes(len(self.decoded))
        codec.encode_into(self.raw, self.encoded)
        codec.decode_into(self.text, self.decoded)
        results = (
            codec.encode(self.raw) == self.text,
            codec.decode(self.text) == self.raw,
            codec.decode(self.lines) == self.raw,
            self.encoded == self.text,
            self.decoded == self.raw,
        )
        return [f"{row}: wrong bytes" for row, right in zip(ROWS, results, strict=True) if not right]


def measure(seconds: float) -> dict[str, object]:
    """Run all jobs in turn for `seconds`, and return figures and faults."""
    work = Work()
    jobs = list(work.jobs().items())
    times: dict[tuple[str, str], list[float]] = {key: [] for key, _ in jobs}
    order = random.Random(0)
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end or not times[jobs[0][0]]:
        order.shuffle(jobs)
        for key, job in jobs:
            now = time.perf_counter()
            job()
            times[key].append(time.perf_counter() - now)
    figures = [[row, name, SIZE / statistics.median(taken) / 1e9] for (row, name), taken in sorted(times.items())]
    return {"figures": figures, "faults": work.wrong()}


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]))), flush=True)
