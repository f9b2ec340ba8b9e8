"""Pinned baseline of the benchmarks: what is stored, and what counts as a regression.

One file has a section for each kind of machine, because a speed measured on one says little about another: they differ
in the codec's SIMD path and in the speed of memory. Within a section a benchmark is stored as the ratio of its minimum
to the minimum of a calibration loop timed right before and after it, so that a machine that is slow today (a busy
neighbour, a lower clock) is not mistaken for slow code.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_BLOCK = bytes(range(256)) * 512
_TABLE = bytes(reversed(range(256)))


@dataclass(frozen=True)
class Measurement:
    """The minimum of a benchmark in one run, and of the calibration loop next to it, in seconds."""

    minimum: float
    calibration: float

    @property
    def normalised(self) -> float:
        """The minimum as a multiple of the calibration loop: the figure that is compared."""
        return self.minimum / self.calibration


@dataclass(frozen=True)
class Verdict:
    """A benchmark compared with its pinned figure."""

    name: str
    measured: Measurement
    pinned: float | None
    limit: float

    @property
    def change(self) -> float | None:
        """Relative change: 0.3 is 30 % slower than pinned, negative is faster. None without a pinned figure."""
        return None if self.pinned is None else self.measured.normalised / self.pinned - 1

    @property
    def regressed(self) -> bool:
        """True if the benchmark is slower than pinned by more than the limit; False without a pinned figure."""
        return self.change is not None and self.change > self.limit


def calibration_loop() -> int:
    """Do what the benchmarks do for about a millisecond: interpreted code, dictionary access, a pass over memory."""
    total = 0
    table: dict[int, int] = {}
    for index in range(4000):
        table[index & 255] = total
        total = (total + (index ^ (total >> 3))) & 0xFFFFFFFF
    return total + len(_BLOCK.translate(_TABLE)) + len(table)


def calibrate(seconds: float = 0.1) -> float:
    """Run the calibration loop for the given time, at least once, and return the seconds of its fastest pass."""
    best = float("inf")
    start = time.perf_counter()
    end = start + seconds
    while True:
        calibration_loop()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best
        start = now


def machine_key() -> str:
    """Return a name for the kind of machine and interpreter that measurements belong to."""
    return f"{_processor()}, {os.cpu_count()} CPUs, {platform.python_implementation()} {platform.python_version()[:4]}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in facts:
        return platform.machine()
    return f"{facts['model name']} family {facts.get('cpu family')} model {facts.get('model')}"


def load(path: Path, key: str) -> dict[str, float]:
    """Return the pinned normalised minima by benchmark for one kind of machine; empty if none are pinned."""
    if not path.exists():
        return {}
    section = json.loads(path.read_text())["machines"].get(key, {"benchmarks": {}})
    return {name: entry["normalised"] for name, entry in section["benchmarks"].items()}


def accept(path: Path, key: str, measured: Mapping[str, Measurement], *, complete: bool) -> None:
    """Pin the measured figures.

    The file is replaced in one step, so that an interrupted run leaves the old one.

    Args:
        path: The baseline file.
        key: The kind of machine.
        measured: The measurements by benchmark.
        complete: Whether every benchmark was run. Pinned figures of others are then dropped, because those benchmarks
            no longer exist.
    """
    content = json.loads(path.read_text()) if path.exists() else {"machines": {}}
    kept = {} if complete else content["machines"].get(key, {"benchmarks": {}})["benchmarks"]
    entries = {name: {**asdict(one), "normalised": one.normalised} for name, one in measured.items()}
    content["machines"][key] = {
        "accepted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "benchmarks": dict(sorted({**kept, **entries}.items())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
