"""How many small updates pass from an executable driver that writes as fast as they are taken.

Driver and clients are C programs (`csrc/small.c`). The updates are numbered, so missing ones are counted. In the run
with one client, another client sends a command to a second driver every 10 ms. How long these commands take in the
meantime has a row of its own, which leaves out servers that have no time for them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from benchmarks import peers
from benchmarks.latency import ask
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import Bound, Goal, Row

CLIENTS = 10
ONE, MANY = "updates to 1 client", f"updates to {CLIENTS} clients, all together"


@contextmanager
def two_drivers() -> Iterator[list[str]]:
    """Yield the paths of two drivers: `Flood`, which floods, and `Small`, which answers commands."""
    program = peers.compile_c("small")
    paths = []
    for device, flood in (("Flood", "1"), ("Small", "0")):
        path = peers.BUILD / f"small_{device.lower()}_{os.getpid()}"
        path.write_text(f"#!/bin/sh\nSMALL_DEVICE={device} SMALL_FLOOD={flood} exec {program}\n")
        path.chmod(0o755)
        paths.append(path)
    try:
        yield [str(path) for path in paths]
    finally:
        for path in paths:
            path.unlink()


def measure_one(server: peers.Server, clients: int, seconds: float) -> dict[str, float]:
    """Make one run: updates per second of all clients, and with one client the microseconds of commands (p50)."""
    with two_drivers() as drivers, server(*drivers) as (port, _):
        ask(port, "Small", 0.0, "1")  # waits until the driver is defined
        with counters(port, clients, seconds) as children:
            meanwhile = {}
            if clients == 1:
                with contextlib.suppress(subprocess.SubprocessError):  # the server has no time for commands
                    meanwhile = {"meanwhile": ask(port, "Small", seconds * 0.8, "1", pause=10_000)["p50"]}
            return {**collect(children, seconds), **meanwhile}


@contextmanager
def counters(port: int, clients: int, seconds: float) -> Iterator[list[subprocess.Popen[str]]]:
    """Run clients that share a time window; the last one starts the flood."""
    command = [str(peers.compile_c("small")), "count", str(port), str(seconds)]
    children: list[subprocess.Popen[str]] = []
    with peers.window(clients) as window, peers.ended(children):
        for number in range(clients):
            waits = {"SMALL_WAIT": "1"} if number < clients - 1 else {}
            child = subprocess.Popen(
                command, env={**os.environ, **window, **waits}, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            children.append(child)
            assert child.stdout is not None
            child.stdout.readline()
        yield children


def collect(children: Sequence[subprocess.Popen[str]], seconds: float) -> dict[str, float]:
    """Return updates per second and dropped updates, for all clients together.

    Raises:
        Failed: A client got no updates, got them out of order, or ended too early.
    """
    rate, missed = 0.0, 0
    for child in children:
        result = peers.told_by(child, seconds) or {"count": 0, "disordered": 0, "seconds": 0}
        if result["disordered"] or not result["count"] or result["seconds"] < seconds:
            raise Failed("a client got {count} updates in {seconds:.1f} s, {disordered} out of order".format(**result))
        rate += result["count"] / result["seconds"]
        missed += result["missed"]
    return {"rate": rate, "missed": missed}


def measure(settings: Settings) -> Iterable[Row]:
    turns = settings.turns(ONE, {name: partial(measure_one, one, 1) for name, one in peers.servers().items()})
    yield turns.row("rate", ONE, "per s")
    yield turns.row("missed", f"{ONE}: left out", "")
    yield turns.row("meanwhile", "commands to another driver meanwhile, median", "µs")
    turns = settings.turns(MANY, {name: partial(measure_one, one, CLIENTS) for name, one in peers.servers().items()})
    yield turns.row("rate", MANY, "per s")
    yield turns.row("missed", f"{MANY}: left out", "")


PROGRAM = Program(
    "flood",
    "Flood: small updates",
    __doc__ or "",
    measure,
    timed=8,
    overhead=1.5,
    goals=(
        Goal(ONE, ">=", (Bound(100_000),)),
        Goal(f"{ONE}: left out", "<=", (Bound(0),)),
        Goal(MANY, ">=", (Bound(300_000),)),
        Goal(f"{MANY}: left out", "<=", (Bound(0),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
