"""Memory: what a server holds for large frames, and what idle clients cost.

`python -m benchmarks.memory [--runs 5] [--seconds 5]`

* Large frames: an executable driver sends inline frames of 64 MiB raw, as fast as they are taken, to 10 TCP clients
  that read as fast as they can. The figure is the most memory that the server used above idle, in encoded frames.
* Idle clients: 1000 clients have asked for all properties and say nothing more. The figures are the server's memory for
  each of them and its processor time per second: none, as no timer runs while nothing happens, except for a message to
  each client every 30 s that reveals dead connections (`keepalive`).

indipyserver accepts at most 10 clients.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from benchmarks import peers
from benchmarks.chain import encoded_length, frames_environment
from benchmarks.processes import Peaks, cpu_seconds, memory, wait_until_quiet
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import OURS_ALONE, PYTHON_PEER, Bound, Goal, Row

LARGE = 64 << 20
LONG = 5.0
"""Seconds that the slowest contenders need for such frames, at least."""
READERS = 10
IDLE = 1000
SETTLED = 3.0
"""Seconds without any message, after which clients count as idle: a server may watch what it has sent for a while."""

HELD = f"64 MiB frames to {READERS} clients, most held"
THROUGHPUT = "the same, total"
EACH = f"{IDLE} idle clients, memory of each"
CPU = f"{IDLE} idle clients, processor time"


def allow_many_files() -> None:
    """Raise the limit of open files for a thousand connections, here and in child processes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def crowd(port: int, count: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run the clients of `crowd.py`, and yield their process when all are connected; `go` starts them.

    Raises:
        Failed: Not all clients could connect.
    """
    with subprocess.Popen(
        [sys.executable, str(peers.HERE / "crowd.py"), str(port), str(count), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("BENCHMARK_STDERR") else subprocess.DEVNULL,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            if child.stdout.readline().strip() != "ready":
                raise Failed(f"not all of {count} clients could connect")
            yield child
        finally:
            child.kill()


def go(child: subprocess.Popen[str], seconds: float) -> tuple[list[int], float]:
    """Start a crowd, and return the bytes that each client received, and the seconds.

    Raises:
        Failed: A client was disconnected, or frames stopped coming.
    """
    try:
        out, _ = child.communicate("go\n", timeout=seconds + 90)
    except subprocess.TimeoutExpired:
        raise Failed("the clients did not finish in time") from None
    if not out.strip():
        raise Failed("a client was disconnected, or frames stopped coming")
    result = json.loads(out)
    return result["wire_bytes"], result["seconds"]


def held(server: peers.Server, seconds: float) -> dict[str, float]:
    """Make one run: encoded frames held above idle, and MB/s to all clients together."""
    environment = frames_environment(LARGE)
    seconds = max(seconds, LONG)
    with (
        server(str(peers.compile_c("wire")), environment=environment) as (port, pid),
        crowd(port, READERS, seconds) as child,
    ):
        wait_until_quiet([pid])
        peaks = Peaks([pid])
        received, elapsed = go(child, seconds)
        most = peaks.bytes()[0]
    if min(received) < encoded_length(LARGE):
        raise Failed("a client received less than one frame")
    return {"held": most / encoded_length(LARGE), "rate": sum(received) / elapsed / 1e6}


def idle(server: peers.Server, seconds: float) -> dict[str, float]:
    """Make one run: KiB for each client, and milliseconds of processor time per second."""
    driver = str(peers.HERE / "drivers" / "stamp.py")
    with server(driver) as (port, pid):
        with crowd(port, 1, 0):
            wait_until_quiet([pid])
        before = memory(pid)
        with crowd(port, IDLE, 0):
            wait_until_quiet([pid])
            taken = memory(pid) - before
            time.sleep(SETTLED)
            spent, start = cpu_seconds(pid), time.monotonic()
            time.sleep(seconds)
            spent = cpu_seconds(pid) - spent
            elapsed = time.monotonic() - start
    return {"each": taken / IDLE / 1024, "cpu": spent / elapsed * 1e3}


def measure(settings: Settings) -> Iterable[Row]:
    allow_many_files()

    def runs(run: Callable[..., Mapping[str, float]], servers: Mapping[str, peers.Server]) -> dict[str, Run]:
        return {name: partial(run, server) for name, server in servers.items()}

    servers = peers.servers(queue=2000)
    turns = settings.turns(HELD, runs(held, {**servers, OURS_ALONE: peers.serving_alone}))
    yield turns.row("held", HELD, "frames", digits=2)
    yield turns.row("rate", THROUGHPUT, "MB/s")
    takes_many = {name: server for name, server in servers.items() if name != PYTHON_PEER}
    turns = settings.turns(EACH, runs(idle, takes_many))
    yield turns.row("each", EACH, "KiB", digits=1)
    yield turns.row("cpu", CPU, "ms/s", digits=3)


PROGRAM = Program(
    "memory",
    "Memory: large frames, and idle clients",
    __doc__ or "",
    measure,
    timed=9,
    overhead=4,
    goals=(
        Goal(HELD, "<=", (Bound(4), Bound(1.1, OURS_ALONE))),
        Goal(EACH, "<=", (Bound(40),)),
        Goal(CPU, "<=", (Bound(0),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
