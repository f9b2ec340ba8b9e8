"""How fast inline frames pass from an executable driver through a server to one TCP client.

    python -m benchmarks.relay [--seconds 5] [--runs 5] [--json FILE]

The driver and the client are the two ends of `csrc/wire.c`: the client compares every byte of every frame. Frames of
4 MiB in lines of 72 characters, once with a right `enclen` (as C++ drivers send) and once without (as Python drivers
do). The contenders take turns, so that all of them see the same machine; the figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers, report


class DamagedFrames(Exception):
    """A server that changes or loses frames has no speed."""


def measure(contender: peers.Contender, seconds: float, environment: Mapping[str, str]) -> float:
    """MB/s on the wire in one run. Raises DamagedFrames."""
    wire = peers.compile_c("wire")
    with contender(wire, environment) as port:
        done = subprocess.run(
            [str(wire), "receive", str(port), str(seconds)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["wrong"] or result["missed"] or result["frames"] < 2:
        raise DamagedFrames(str(result))
    return float(result["wire_bytes"] / result["seconds"] / 1e6)


def compare(seconds: float, runs: int, size: int, enclen: bool) -> dict[str, list[float]]:
    """MB/s on the wire by contender, one figure per run, runs interleaved."""
    environment = {"WIRE_BYTES": str(size), "WIRE_WRAP": "72", "WIRE_ENCLEN": str(int(enclen))}
    figures: dict[str, list[float]] = {name: [] for name in peers.installed()}
    for _ in range(runs):
        for name, contender in peers.installed().items():
            figures[name].append(measure(contender, seconds, environment))
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="per run (default: 5)")
    parser.add_argument("--runs", type=int, default=5, help="of each contender (default: 5)")
    parser.add_argument("--size", type=int, default=4 << 20, help="raw bytes per frame (default: 4 MiB)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures")
    options = parser.parse_args(arguments)

    results: dict[str, dict[str, list[float]]] = {}
    for label, enclen in (("with enclen", True), ("without enclen", False)):
        results[label] = compare(options.seconds, options.runs, options.size, enclen)
    rows = []
    for name in peers.installed():
        row = [name]
        for figures in results.values():
            median = statistics.median(figures[name])
            row += [f"{median:.0f}", f"{median / statistics.median(figures['indifast']):.2f}"]
        rows.append(row)
    header = ["MB/s on the wire"] + [part for label in results for part in (label, "of indifast's")]
    print(report.table(header, rows))
    if options.json:
        settings = {"seconds": options.seconds, "runs": options.runs, "size": options.size}
        report.write_json(options.json, "relay", settings, dict(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
