"""Chain: a driver, three servers in a row, a client.

`python -m benchmarks.chain [--runs 5] [--seconds 5] [--size 4194304]`

Each server is linked to the one before it; the C++ server reads the device as `Wire@127.0.0.1:port`. Inline frames go
from the driver of the first server to a client of the last. Both are `csrc/wire.c`, which compares every byte. “no
server” is the driver listening by itself.

* Processor time is that of one server alone, per megabyte on the wire.
* The latency of an update runs from just before the driver writes it until a client has it. Updates are sent one at a
  time, and the figure is the median (p50) of each run.
* “passing on (C)” is the floor for that: a C program (`csrc/pass.c`) in the place of each server that passes on what it
  reads without looking at it. What a server takes beyond it is spent in the interpreter (see the latency of commands).
* Memory is the most that any of the servers held above idle, in encoded frames of 32 MiB raw, divided by its two links:
  the one that frames arrive by and the one that they leave by. (Two frames of 64 MiB are more than a queue may hold by
  default.)

The C++ server (1.9.9) reads what comes from another server eight bytes at a time, a few MB per second. It is left out
where frames are large.
"""

from __future__ import annotations

import re
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers, relay
from benchmarks.processes import Peaks, cpu_seconds, wait_until_quiet
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import CPP, KERNEL, OURS, PASSING, Bound, Goal, Row

HOPS = 3
LARGE = 32 << 20
RATE = f"{HOPS} servers, throughput"
CPU = [f"processor time, server {number}" for number in range(1, HOPS + 1)]
LATENCY = [f"small update, {number} server{'s' if number > 1 else ''}, p50" for number in range(1, HOPS + 1)]
PER_HOP = "small update, per further server"
MEMORY = "memory per link, the server that held most"
LINKS = 2
"""Links of each server: one for incoming and one for outgoing frames."""

_STAMP = re.compile(rb"message=[\"'](\d+)[\"']")


@contextmanager
def chained(
    server: peers.Server, driver: Path, device: str, hops: int, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, list[int]]]:
    """Run servers in a row; yield the port of the last one, and the process IDs from the first to the last."""
    with ExitStack() as stack:
        port, pid = stack.enter_context(server(str(driver), environment=environment))
        pids = [pid]
        for _ in range(hops - 1):
            port, pid = stack.enter_context(server(f"{device}@127.0.0.1:{port}", environment=environment))
            pids.append(pid)
        yield port, pids


def frames_environment(size: int) -> dict[str, str]:
    """Return the environment for frames as C++ drivers send them."""
    return {"WIRE_BYTES": str(size), "WIRE_WRAP": "72", "WIRE_ENCLEN": "1"}


def encoded_length(nbytes: int) -> int:
    """Return the size of the base64 of such a frame on the wire."""
    characters = nbytes // 3 * 4
    return characters + -(-characters // 72)


def receive(port: int, seconds: float, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a client of `csrc/wire.c`, and return its result.

    Raises:
        Failed: Frames are damaged or missing.
    """
    result = relay.receive(port, seconds, environment)
    if result["wrong"] or result["missed"] or result["frames"] < 2:
        raise Failed("{wrong} of {frames} frames damaged, {missed} missed".format(**result))
    return result


def frames(server: peers.Server, hops: int, size: int, seconds: float) -> dict[str, float]:
    """Make one run: MB/s on the wire, and milliseconds of processor time per MB for each server."""
    environment = frames_environment(size)
    with chained(server, peers.compile_c("wire"), "Wire", hops, environment) as (port, pids):
        wait_until_quiet(pids)
        before = [cpu_seconds(pid) for pid in pids]
        result = receive(port, seconds, environment)
        spent = [cpu_seconds(pid) - then for pid, then in zip(pids, before, strict=True)]
    megabytes = result["frames"] * encoded_length(size) / 1e6
    costs = {f"cpu {number}": seconds / megabytes * 1e3 for number, seconds in enumerate(spent, 1)}
    return {"rate": result["wire_bytes"] / result["seconds"] / 1e6, "frames": result["frames"], **costs}


def bare(size: int, seconds: float) -> dict[str, float]:
    """Make one run without servers: the driver listens itself."""
    environment = frames_environment(size)
    with peers.nothing(peers.compile_c("wire"), environment) as port:
        result = receive(port, seconds, environment)
    return {"rate": result["wire_bytes"] / result["seconds"] / 1e6, "frames": result["frames"]}


def latency(server: peers.Server, hops: int, seconds: float) -> float:
    """Return the microseconds from the writing of an update to its arrival at a client, p50."""
    driver = peers.HERE / "drivers" / "stamp.py"
    with chained(server, driver, "Stamp", hops) as (port, pids):
        wait_until_quiet(pids)
        with socket.create_connection(("127.0.0.1", port), timeout=peers.PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(b"<getProperties version='1.7'/>")
            _until(sock, b"</defNumberVector>")
            times: list[float] = []
            end = time.monotonic() + seconds
            while not times or time.monotonic() < end:
                sock.sendall(
                    b"<newNumberVector device='Stamp' name='N'><oneNumber name='n'>1</oneNumber></newNumberVector>"
                )
                data = _until(sock, b"</setNumberVector>")
                now = time.monotonic_ns()
                stamps = _STAMP.findall(data)
                times.append((now - int(stamps[-1])) / 1e3)
    return statistics.median(times)


def _until(sock: socket.socket, word: bytes) -> bytes:
    seen = b""
    while word not in seen:
        data = sock.recv(1 << 16)
        if not data:
            raise Failed("the server closed the connection")
        seen += data
    return seen


def latencies(server: peers.Server, seconds: float) -> dict[str, float]:
    """Make one run: the latency through 1 to `HOPS` servers, and what each further server adds."""
    found = [latency(server, hops, seconds / HOPS) for hops in range(1, HOPS + 1)]
    figures = {str(hops): microseconds for hops, microseconds in enumerate(found, 1)}
    return {**figures, "hop": (found[-1] - found[0]) / (HOPS - 1)}


def peak(server: peers.Server, seconds: float) -> dict[str, float]:
    """Make one run with large frames: encoded frames held above idle, per link, by the server that held most."""
    environment = frames_environment(LARGE)
    with chained(server, peers.compile_c("wire"), "Wire", HOPS, environment) as (port, pids):
        wait_until_quiet(pids)
        peaks = Peaks(pids)
        result = receive(port, seconds, environment)
        held = peaks.bytes()
    return {"held": max(held) / encoded_length(LARGE) / LINKS, "frames": result["frames"]}


def measure(settings: Settings) -> Iterable[Row]:
    servers = peers.servers(queue=2000)
    size = settings.options["size"]

    def runs(run: Callable[..., Mapping[str, float]], *arguments: Any) -> dict[str, Run]:
        return {name: partial(run, server, *arguments) for name, server in servers.items()}

    turns = settings.turns(RATE, {**runs(frames, HOPS, size), KERNEL: partial(bare, size)})
    yield turns.row("rate", RATE, "MB/s")
    for number, title in enumerate(CPU, 1):
        yield turns.row(f"cpu {number}", title, "ms/MB", digits=3)
    turns = settings.turns("latency", {**runs(latencies), PASSING: partial(latencies, peers.passing)})
    for hops, title in enumerate(LATENCY, 1):
        yield turns.row(str(hops), title, "µs")
    yield turns.row("hop", PER_HOP, "µs")
    servers.pop(CPP, None)
    yield settings.turns(MEMORY, runs(peak)).row("held", MEMORY, "frames", digits=2)


PROGRAM = Program(
    "chain",
    "Chain: three servers in a row",
    __doc__ or "",
    measure,
    timed=13,
    overhead=3.7,
    options={"size": 4 << 20},
    goals=(
        Goal(RATE, ">=", (Bound(300), Bound(1 / 8, KERNEL)), any_of=True),
        *(Goal(title, "<=", (Bound(1.3, OURS, CPU[0]),)) for title in CPU[1:]),
        *(Goal(title, "<=", (Bound(1, CPP),)) for title in LATENCY),
        Goal(PER_HOP, "<=", (Bound(150),)),
        Goal(MEMORY, "<=", (Bound(2),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
