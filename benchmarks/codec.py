"""The codec beside pybase64, the standard library and memcpy: `python -m benchmarks.codec`.

Every round runs each of them once, in a new order, so that all see the same machine, caches and heap; the table shows
medians.
Rates count decoded bytes. "fresh": every result is a new bytes object; "reused": it goes to the same buffer.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pybase64

from indifast import _base64

SIZES = (64 << 10, 4 << 20, 64 << 20)
SECONDS = 6.0  # per size and path
ROUNDS = 5  # at least


def jobs(size: int) -> dict[str, Callable[[], object]]:
    """What is measured for one size."""
    raw = random.Random(size).randbytes(size)
    text = base64.b64encode(raw)
    lines = b"".join(text[i : i + 72] + b"\n" for i in range(0, len(text), 72))
    out, encoded = bytearray(size), bytearray(len(text))
    source, target = memoryview(bytearray(raw)), memoryview(bytearray(size))

    def memcpy() -> None:
        target[:] = source

    return {
        "memcpy": memcpy,
        "encode fresh": lambda: _base64.encode(raw),
        "encode reused": lambda: _base64.encode_into(raw, encoded),
        "decode fresh": lambda: _base64.decode(text),
        "decode reused": lambda: _base64.decode_into(text, out),
        "decode 72 fresh": lambda: _base64.decode(lines),
        "decode 72 reused": lambda: _base64.decode_into(lines, out),
        "pybase64 encode": lambda: pybase64.b64encode(raw),
        "pybase64 decode": lambda: pybase64.b64decode(text, validate=True),
        "pybase64 decode 72": lambda: pybase64.b64decode(lines),
        "base64 encode": lambda: base64.b64encode(raw),
        "base64 decode": lambda: base64.b64decode(text),
        "base64 decode 72": lambda: base64.b64decode(lines),
    }


RATIOS = (
    ("encode fresh", "pybase64 encode"),
    ("decode fresh", "pybase64 decode"),
    ("decode 72 fresh", "pybase64 decode 72"),
    ("decode 72 fresh", "decode fresh"),
    ("decode reused", "memcpy"),
    ("decode 72 reused", "memcpy"),
    ("encode reused", "memcpy"),
)


def measure(size: int, seconds: float) -> dict[str, float]:
    """Median rates in GB/s, by job."""
    repeat = max(1, (256 << 10) // size)
    times: dict[str, list[float]] = {"memcpy": []}
    work = list(jobs(size).items())
    order = random.Random(size)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times["memcpy"]) < ROUNDS:
        order.shuffle(work)
        for name, job in work:
            start = time.perf_counter()
            for _ in range(repeat):
                job()
            times.setdefault(name, []).append((time.perf_counter() - start) / repeat)
    return {name: size / statistics.median(times[name]) / 1e9 for name in sorted(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per size and path (default: %(default)s)")
    parser.add_argument("--path", choices=_base64.paths(), action="append", help="default: the fastest")
    options = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for path in options.path or _base64.paths()[:1]:
        _base64.use_path(path)
        rates = {f"{size >> 10} KiB": measure(size, options.seconds) for size in SIZES}
        results[path] = rates
        print(f"\n| {path}, GB/s | {' | '.join(rates)} |\n|---|{'---:|' * len(rates)}")
        for name in rates["64 KiB"]:
            print(f"| {name} | {' | '.join(f'{rate[name]:.2f}' for rate in rates.values())} |")
        for name, of in RATIOS:
            print(f"| {name} / {of} | {' | '.join(f'{rate[name] / rate[of]:.2f}' for rate in rates.values())} |")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
