"""Time from a command, sent over TCP through a server to an executable driver, until its answer is back.

Client and driver are C programs (`csrc/small.c`). The client sends one command after the other; the figures are the
median and the 99th percentile of a run. The driver answers at once, either with one setNumberVector (Ok) or with two
that are written separately (Busy, then Ok). The clock stops at the last one.

“passing on (C)” is the floor: a C program (`csrc/pass.c`) that passes on what it reads without looking at it. All its
time is the kernel's: it sends and receives, and processes wake each other. A server has to read the message, choose its
receivers and keep their queues on top of that, twice for a command and its answer. In indifast, almost all of this time
is that of Python's interpreter, and little of it the tokenizer's. Its modules compiled with Cython as they are
take slightly longer: without types, compiled code looks up attributes more slowly than CPython's adaptive interpreter.
The writing half of a queue as a Cython class with typed fields saves 5 % of the instructions, which is too little for
a second language there.

One command follows the other here, so indifast's event loop stays awake between them (“Event loops” in the page on the
architecture). This saves more time than Python costs compared with C. With pauses between the commands, it saves
nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.program import Program, Settings, main
from benchmarks.results import CPP, OURS_ALONE, PASSING, Bound, Goal, Row

ROWS = {"command, Ok": "1", "command, Busy, Ok": "2"}


def ask(port: int, device: str, seconds: float, answers: str, pause: int = 0) -> dict[str, float]:
    """Send commands to a device, and return the microseconds per command: p50, p99."""
    done = subprocess.run(
        [str(peers.compile_c("small")), "ask", str(port), device, str(seconds), str(pause)],
        env={**os.environ, "SMALL_ANSWERS": answers},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return {"p50": result["p50"], "p99": result["p99"]}


def measure_one(server: peers.Server, answers: str, seconds: float) -> dict[str, float]:
    """Make one run: microseconds per command."""
    driver = str(peers.compile_c("small"))
    with server(driver, environment={"SMALL_ANSWERS": answers}) as (port, _):
        return ask(port, "Small", seconds, answers)


def measure(settings: Settings) -> Iterable[Row]:
    servers: dict[str, peers.Server] = {**peers.servers(), OURS_ALONE: peers.serving_alone, PASSING: peers.passing}
    for title, answers in ROWS.items():
        runs = {name: partial(measure_one, server, answers) for name, server in servers.items()}
        turns = settings.turns(title, runs)
        yield turns.row("p50", f"{title}, median", "µs")
        yield turns.row("p99", f"{title}, 99 %", "µs")


PROGRAM = Program(
    "latency",
    "Latency: a command and its answer",
    __doc__ or "",
    measure,
    timed=12,
    overhead=0.3,
    goals=(
        Goal("command, Ok, median", "<=", (Bound(0.95, CPP),)),
        Goal("command, Ok, median", "<=", (Bound(1.05, OURS_ALONE),)),
        Goal("command, Ok, 99 %", "<=", (Bound(1, CPP),)),
        Goal("command, Busy, Ok, median", "<=", (Bound(300),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
