"""Commands beside frames: how long a command to another device takes while a link is full of frames.

`python -m benchmarks.beside [--runs 5] [--seconds 20] [--rates 20,100,1000] [--delays 0,20] [--side 2048]`

A client in Python is behind a link (`network.py`: a token bucket with a queue of 20 ms). The driver of a camera
(`csrc/wire.c`) writes frames of a star field, 16 bit, twice as fast as the link takes them. On the same connection, the
client sends commands to a second driver of the same server, and takes the time until the answer. “In pieces”: both
sides have agreed on raw frames in pieces, between which answers go. “{base64}”: they have not, as between programs
that know only INDI; an answer waits for the end of a frame, and for what the sockets hold. Of that, few commands fit
into a run, so its “99 %” is the slowest of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from functools import partial

from benchmarks import links, network, peers
from benchmarks.network import Speed
from benchmarks.program import Failed, Program, Run, Settings, main, tell
from benchmarks.results import OURS, OURS_BASE64, Bound, Goal, Row

PIECES = f"{OURS}, in pieces"
RATES, DELAYS = "20,100,1000", "0,20"
CAMERA = 2

FIGURES = {
    "p50": ("command, median", "ms", 1, 1e3),
    "p99": ("command, 99 %", "ms", 1, 1e3),
    "rate": ("frame rate", "per s", 2, 1.0),
}
"""Title, unit, decimal places, and factor."""


def run(speed: Speed, raw: bool, side: int, seconds: float) -> dict[str, float]:
    """Make one run: seconds of a command, and frames per second."""
    frames = links.frames_file(links.STARS, side)
    size = frames.stat().st_size / links.DISTINCT
    pace = round(size * 8 / (speed.rate * 1e6) / CAMERA * 1e6) if speed.rate else 0
    environment = {"WIRE_FRAMES": str(frames), "WIRE_ENCLEN": "1", "WIRE_PACE": str(pace)}
    drivers = [str(peers.compile_c("wire")), str(links.small_driver(links.OF_OTHER))]
    with network.link(speed) as (near, far), peers.serving(*drivers, environment=environment, at=near) as (port, _):
        words = [near.host, str(port), str(int(raw)), f"{seconds:g}", links.OF_OTHER]
        child = subprocess.Popen(
            [*far.enter, sys.executable, "-m", "benchmarks.beside_client", *words],
            cwd=peers.HERE.parent,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCHMARK_STDERR") else subprocess.DEVNULL,
            text=True,
        )
        with peers.ended([child]):
            result = peers.told_by(child, seconds + 150)
    if not result:
        raise Failed("the client had no result")
    return {name: result[name] for name in FIGURES}


def measure(settings: Settings) -> Iterable[Row]:
    rates = links.chosen(settings.options["rates"], 20.0, float)
    delays = links.chosen(settings.options["delays"], 0.0, float)
    for speed in [Speed(rate, delay) for delay in delays for rate in rates]:
        if why := network.missing(speed):
            tell(f"{speed}: not measured: {why}")
            yield Row(f"{speed}: not measured: {why}", "", {})
            continue
        side = settings.options["side"]
        runs: dict[str, Run] = {name: partial(run, speed, name == PIECES, side) for name in (PIECES, OURS_BASE64)}
        turns = settings.turns(str(speed), runs)
        for figure, (title, unit, digits, scale) in FIGURES.items():
            yield turns.row(figure, f"{speed}: {title}", unit, digits=digits, scale=scale)


PROGRAM = Program(
    "beside",
    "Links: commands beside frames",
    (__doc__ or "").format(base64=OURS_BASE64),
    measure,
    timed=12,
    overhead=5,
    goals=(Goal("20 Mbit/s: command, 99 %", "<=", (Bound(150),), PIECES),),
    options={"rates": RATES, "delays": DELAYS, "side": 2048},
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
