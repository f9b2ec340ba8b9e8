"""Thousands of viewers of live frames.

A camera of 640 by 480 pixels with 16 bits (FITS, stars on noise) sends frames to `indifast web`, which makes previews
of 640 pixels and sends them to all viewers, who are one process in C (`csrc/viewers.c`). Each viewer asks for four
frames, and for two more with every second that has arrived. There are more frames than can reach everybody, so every
viewer is always sent the newest as soon as there is room for it. “{kernel}” is a C program that only sends
(`csrc/pictures.c`): frames of the same size, as fast as they are taken, to as many connections of the same program, of
which it reads nothing. Every 200 ms another viewer joins, and leaves in the middle of its second preview; the time is
that from connecting to the last byte of the first one. Memory is that of the process, above what it takes when one
viewer has come and gone.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial

from benchmarks import peers
from benchmarks.processes import cpu_seconds, memory
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import KERNEL, OURS, Bound, Goal, Row
from benchmarks.web import serving
from benchmarks.web_viewers import PATH
from indifast.web.bounds import LIVE_AHEAD

SIZE = 640, 480
EVERY = 2
FIRST = json.dumps({"more": LIVE_AHEAD, "view": {"size": SIZE[0]}})
NEXT = json.dumps({"more": EVERY})
JOINING = 200
"""Milliseconds between two that join."""

PASSING = 100
"""Room for those who join."""


class Crowd:
    """Running viewers, who have all been sent something.

    Args:
        port: Where they look.
        count: How many there are.
        every: With every which frame it asks for others; 0: never.
        joining: Milliseconds between two that join; 0: nobody does.
    """

    def __init__(self, port: int, count: int, every: int = EVERY, joining: int = 0) -> None:
        words = [str(peers.compile_c("viewers")), str(port), str(count), PATH, FIRST, NEXT, str(every), str(joining)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        seen = self._out.readline().strip()
        if seen != str(count):
            self._process.kill()
            raise Failed(f"{seen or 'none'} of {count} viewers have seen something")

    def begin(self) -> None:
        """Begin to measure."""
        self._in.write("\n")
        self._in.flush()

    def end(self) -> dict[str, float]:
        """End, and return what was measured."""
        self.begin()
        figures: dict[str, float] = json.loads(self._out.readline())
        self.close()
        if figures["lost"] or figures["wrong"]:
            raise Failed("{lost:.0f} viewers were lost, {wrong:.0f} frames are damaged".format(**figures))
        return figures

    def close(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def looked(port: int, count: int, every: int = EVERY, joining: int = 0) -> Iterator[Crowd]:
    """Run viewers."""
    crowd = Crowd(port, count, every, joining)
    try:
        yield crowd
    finally:
        crowd.close()


def figures_of(port: int, pid: int, count: int, every: int, idle: int, seconds: float) -> dict[str, float]:
    """Have viewers look for some time, while others join; return what they have seen, and what that took."""
    with looked(port, count, every) as crowd, looked(port, 0, every, JOINING) as joining:
        time.sleep(1)
        used = cpu_seconds(pid)
        crowd.begin()
        joining.begin()
        time.sleep(seconds)
        joins = joining.end()
        held, used = memory(pid), cpu_seconds(pid) - used
        seen = crowd.end()
    took = seen["seconds"]
    return {
        "rate": seen["bytes"] / took / 1e6,
        "least": seen["least"] / took,
        "size": seen["bytes"] / max(seen["frames"], 1),
        "cost": used / seen["bytes"],
        "memory": held - idle,
        "median": joins["join_median"],
        "slowest": joins["join_most"],
    }


def measure_ours(count: int, rate: float, seconds: float) -> dict[str, float]:
    """Make one run with `indifast web`."""
    with serving(rate, *SIZE, options=("--viewers", str(count + PASSING))) as (port, pid):
        with looked(port, 1):
            pass
        time.sleep(1)
        return figures_of(port, pid, count, EVERY, memory(pid), seconds)


def measure_kernel(count: int, size: int, seconds: float) -> dict[str, float]:
    """Make one run with the program that only sends."""
    with peers.process([str(peers.compile_c("pictures")), str(size), str(count)]) as sender:
        port = peers.first_number(sender)
        return figures_of(port, sender.pid, count, 0, memory(sender.pid), seconds)


def size_of_previews(rate: float) -> int:
    """Return how many bytes a preview takes, about."""
    with serving(rate, *SIZE) as (port, pid):
        return round(figures_of(port, pid, 1, EVERY, 0, 1.0)["size"]) - 10


def measure(settings: Settings) -> Iterable[Row]:
    """Run everything; gives the rows."""
    count, rate = int(settings.options["viewers"]), float(settings.options["rate"])
    title = f"{count} viewers"
    runs = {
        OURS: partial(measure_ours, count, rate),
        KERNEL: partial(measure_kernel, count, size_of_previews(rate)),
    }
    turns = settings.turns(title, runs)
    yield turns.row("rate", title, "MB/s, all together")
    yield turns.row("least", f"{title}, the slowest one", "previews/s", digits=2)
    yield turns.row("size", f"{title}, a preview", "kB", digits=1, scale=1e-3)
    yield turns.row("cost", f"{title}, processor", "ms for each MB", digits=3, scale=1e9)
    yield turns.row("memory", f"{title}, memory", "MB above idle", digits=1, scale=1e-6)
    yield turns.row("median", f"{title}, joining, median", "ms until the first preview", scale=1000)
    yield turns.row("slowest", f"{title}, joining, the slowest one", "ms until the first preview", scale=1000)


VIEWERS = 10_000

PROGRAM = Program(
    "viewers",
    "Thousands of viewers",
    (__doc__ or "").replace("{kernel}", KERNEL),
    measure,
    timed=2,
    overhead=15.0,
    options={"viewers": VIEWERS, "rate": 3.0},
    goals=(
        Goal(f"{VIEWERS} viewers", ">=", (Bound(0.7, KERNEL),)),
        Goal(f"{VIEWERS} viewers, memory", "<=", (Bound(500),)),
        Goal(f"{VIEWERS} viewers, joining, the slowest one", "<=", (Bound(1000),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
