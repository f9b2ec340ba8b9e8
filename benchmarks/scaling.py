"""Scaling: how cost grows with frame size, and with the number of clients, servers in a row and properties.

`python -m benchmarks.scaling [--runs 5] [--seconds 5]`

Each point is one short run, and several of them if a goal is about it. Frames are inline, in lines of 72 characters
with `enclen`, from an executable driver that sends as fast as they are taken. Processor time is that of the server, or
of all servers in a row, per megabyte delivered.

* By frame size: to one client that compares every byte.
* By number of clients: frames of 256 KiB, with all clients in one process that counts bytes. Where threads write,
  handing each frame to them and back takes processor time, and all clients together usually get more. Where all sockets
  have become full at some time, they tend to stay so, and a point may take twice as long.
* By number of servers in a row: frames of 4 MiB; processor time, and the time that a small update takes (p50).
  “{passing}” is the floor: a C program in the place of each server that only passes on what it reads.
* By number of cores: frames of 4 MiB to 10 clients and to 50, which throw them away inside the kernel. Everything runs
  on these cores, the driver and the clients, too. “{relay}” reads from the driver, looks for the end of each frame, and
  sends by as many threads; it is the least that a server has to do.
* By number of properties of a device: the time per property to define all of them to a client, and to deliver an update
  of each. The request comes after a rest, so with few properties the time is that of waking up. For a request,
  indifast's server runs about 90 functions of Python once, and each must first come from memory: ten properties do not
  make up for that, a hundred do.

indipyserver accepts at most 10 clients. A point is left out if a server lost frames or clients there, or did not reach
it in time.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import chain, peers
from benchmarks.curves import draw_curves
from benchmarks.memory import allow_many_files, crowd, go
from benchmarks.processes import cpu_seconds, wait_until_quiet
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import (
    CPP,
    OURS_ALONE,
    OURS_UVLOOP,
    PASSING,
    PYTHON_PEER,
    RELAY,
    Bound,
    Goal,
    Plot,
    Result,
    Row,
)

SECONDS = 1.0
SIZES = tuple(1 << shift for shift in range(16, 30, 2))
"""64 KiB to 256 MiB."""
CLIENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
HOPS = (1, 2, 3, 4)
CORES = (1, 2, 4, 8, 16)
LEAD = {10: 1.4, 50: 1.5}
"""By the number of clients, how many times as fast as the C++ server the frames are to go on two cores."""
OF_RELAY = 0.8
"""The same, as part of what the relay in C does."""
DISCARDERS = tuple(LEAD)
PROPERTIES = (10, 100, 1000, 10_000)

SMALL_FRAME = 256 << 10
FRAME = 4 << 20
SLOWEST = 80e6
"""Bytes per second: larger frames get more time, so that the unfinished frame at the end of a run matters little."""
PATIENCE = 60.0
COMMAND = "<newNumberVector device='Many' name='GO'><oneNumber name='n'>{}</oneNumber></newNumberVector>"

FRAME_TIME = "time by frame size"
FRAME_CPU = "server's processor time by frame size"
CLIENT_TIME = "time by clients"
CLIENT_CPU = "server's processor time by clients"
HOP_CPU = "servers' processor time by servers"
HOP_UPDATE = "a small update by servers"
CORE_TIME = {count: f"time by cores, {count} clients" for count in DISCARDERS}
DEFINE = "definition by properties"
UPDATE = "update by properties"

CURVES = {
    FRAME_TIME: ("frame-time", "µs/MB", "bytes of a frame"),
    FRAME_CPU: ("frame-cpu", "µs/MB", "bytes of a frame"),
    CLIENT_TIME: ("client-time", "µs/MB", "clients"),
    CLIENT_CPU: ("client-cpu", "µs/MB", "clients"),
    HOP_CPU: ("hop-cpu", "µs/MB", "servers in a row"),
    HOP_UPDATE: ("hop-update", "µs", "servers in a row"),
    **{title: (f"core-time-{count}", "µs/MB", "cores") for count, title in CORE_TIME.items()},
    DEFINE: ("property-definition", "µs", "properties"),
    UPDATE: ("property-update", "µs", "properties"),
}
"""Name of the plot, unit, label of the x axis."""


def one_frame_size(server: peers.Server, size: int, seconds: float) -> dict[str, float]:
    """Measure the microseconds per MB on the wire: elapsed time and processor time."""
    figures = chain.frames(server, 1, size, max(seconds, size / SLOWEST))
    return {FRAME_TIME: 1e6 / figures["rate"], FRAME_CPU: figures["cpu 1"] * 1e3}


def one_crowd(server: peers.Server, count: int, seconds: float) -> dict[str, float]:
    """Measure the microseconds per MB delivered to any of the clients: elapsed time and processor time."""
    environment = chain.frames_environment(SMALL_FRAME)
    with (
        server(str(peers.compile_c("wire")), environment=environment) as (port, pid),
        crowd(port, count, seconds) as child,
    ):
        wait_until_quiet([pid])
        before = cpu_seconds(pid)
        received, elapsed = go(child, seconds)
        spent = cpu_seconds(pid) - before
    megabytes = sum(received) / 1e6
    return {CLIENT_TIME: elapsed * 1e6 / megabytes, CLIENT_CPU: spent * 1e6 / megabytes}


def one_chain(server: peers.Server, hops: int, seconds: float) -> dict[str, float]:
    """Measure the microseconds of processor time of all servers per MB on the wire."""
    figures = chain.frames(server, hops, FRAME, seconds)
    return {HOP_CPU: sum(figures[f"cpu {number}"] for number in range(1, hops + 1)) * 1e3}


def one_update(server: peers.Server, hops: int, seconds: float) -> dict[str, float]:
    """Measure the microseconds that an update takes."""
    return {HOP_UPDATE: chain.latency(server, hops, seconds)}


@contextmanager
def only_cores(count: int) -> Iterator[None]:
    """Let this process, and those that it starts, use only some of the cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def discarded(port: int, clients: int, seconds: float, environment: Mapping[str, str]) -> dict[str, float]:
    """Have clients throw frames away; return the rate to all together, and that of the slowest by the fastest's.

    Raises:
        Failed: A connection was lost, or frames stopped coming.
    """
    command = [str(peers.compile_c("wire")), "discard", str(port), str(seconds), str(clients)]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        result = peers.told_by(child, seconds)
    if child.returncode or not result:
        raise Failed("a connection was lost, or frames stopped coming")
    return {"rate": result["wire_bytes"] / result["seconds"] / 1e6, "fairness": result["least"] / result["most"]}


def one_core_count(clients: int, server: peers.Server, cores: int, seconds: float) -> dict[str, float]:
    """Measure the microseconds per MB delivered to any of the clients."""
    environment = chain.frames_environment(FRAME)
    with only_cores(cores), server(str(peers.compile_c("wire")), environment=environment) as (port, pid):
        wait_until_quiet([pid])
        return {CORE_TIME[clients]: 1e6 / discarded(port, clients, seconds, environment)["rate"]}


def one_device(server: peers.Server, count: int, seconds: float) -> dict[str, float]:
    """Measure the microseconds per property to answer getProperties (the best of three), and per update."""
    with server(str(peers.HERE / "drivers" / "many.py"), environment={"MANY_PROPERTIES": str(count)}) as (port, pid):
        wait_until_quiet([pid])
        # One connection for everything: indipyserver stays busy after one was closed.
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            times = []
            for _ in range(3):
                start = time.perf_counter()
                sock.sendall(b"<getProperties version='1.7'/>")
                _until(sock, b"</defNumberVector>", count + 1)
                times.append(time.perf_counter() - start)
                wait_until_quiet([pid])
            rounds = max(1, 10_000 // count)
            updates, start = 0, time.perf_counter()
            while not updates or time.perf_counter() < start + seconds:
                sock.sendall(COMMAND.format(rounds).encode())
                _until(sock, b"</setNumberVector>", rounds * count + 1)
                updates += rounds * count + 1
            elapsed = time.perf_counter() - start
    return {DEFINE: min(times) / (count + 1) * 1e6, UPDATE: elapsed / updates * 1e6}


def _until(sock: socket.socket, word: bytes, count: int) -> None:
    """Read until `word` has come `count` times.

    Raises:
        Failed: The connection was closed, or that took too long.
    """
    tail = b""
    deadline = time.monotonic() + PATIENCE
    while count > 0:
        data = sock.recv(1 << 20)
        if not data or time.monotonic() > deadline:
            raise Failed(f"{count} of {word.decode()} did not come")
        count -= (tail + data).count(word)
        tail = data[-len(word) + 1 :]


def measure(settings: Settings) -> Iterable[Row]:
    allow_many_files()
    short = replace(settings, seconds=min(settings.seconds, SECONDS), quick=True)
    several = {goal.row for goal in PROGRAM.goals}  # a single run would be judged by chance
    servers = {name: server for name, server in peers.servers(queue=2000).items() if name != OURS_UVLOOP}
    with_floor: dict[str, peers.Server] = {**servers, PASSING: peers.passing}
    lost: set[tuple[object, str]] = set()

    def points(
        one: Callable[[peers.Server, int, float], Mapping[str, float]],
        places: Sequence[int],
        titles: Sequence[str],
        contenders: Mapping[str, peers.Server] = servers,
    ) -> Iterable[Row]:
        for place in places:
            judged = any(f"{title}: {place}" in several for title in titles)
            how = short if judged else replace(short, runs=1)
            runs: dict[str, Run] = {
                name: partial(one, server, place) for name, server in contenders.items() if (one, name) not in lost
            }
            turns = how.turns(f"{titles[0]}: {place}", runs)
            lost.update((one, name) for name, whys in turns.failures.items() if whys)  # larger numbers would fail, too
            for title in titles:
                yield replace(turns.row(title, f"{title}: {place}", CURVES[title][1], digits=1, x=place), failures={})

    yield from points(one_frame_size, SIZES, (FRAME_TIME, FRAME_CPU))
    yield from points(one_crowd, CLIENTS, (CLIENT_TIME, CLIENT_CPU), {**servers, OURS_ALONE: peers.serving_alone})
    yield from points(one_chain, HOPS, (HOP_CPU,))
    yield from points(one_update, HOPS, (HOP_UPDATE,), with_floor)
    on_cores: dict[str, peers.Server] = {name: server for name, server in servers.items() if name != PYTHON_PEER}
    on_cores |= {OURS_ALONE: peers.serving_alone, RELAY: peers.relaying}
    cores = [count for count in CORES if count <= len(os.sched_getaffinity(0))]
    for clients in DISCARDERS:
        one = partial(one_core_count, clients)
        yield from points(one, cores, (CORE_TIME[clients],), on_cores)
    yield from points(one_device, PROPERTIES, (DEFINE, UPDATE), with_floor)


def draw(result: Result, folder: Path) -> list[Plot]:
    """Draw a plot for each of `CURVES`, with all contenders."""
    plots = []
    for title, (name, unit, axis) in CURVES.items():
        rows = [row for row in result.rows if row.title.startswith(f"{title}:") and row.x is not None]
        if not rows:
            continue  # measured before there was this curve
        base = None if axis == "servers in a row" else 2 if axis in ("bytes of a frame", "cores") else 10
        file = f"scaling-{name}.png"
        draw_curves(folder / file, result, rows, title=title, axis=axis, unit=unit, base=base)
        plots.append(Plot(file, f"{title}, {unit}"))
    return plots


PROGRAM = Program(
    "scaling",
    "Scaling",
    (__doc__ or "").format(relay=RELAY, passing=PASSING),
    measure,
    timed=20,
    overhead=2.5,
    draw=draw,
    goals=(
        Goal(f"{FRAME_TIME}: {FRAME}", "<=", (Bound(1, CPP),)),
        Goal(f"{FRAME_CPU}: {FRAME}", "<=", (Bound(0.9, CPP),)),
        Goal(f"{CLIENT_CPU}: {CLIENTS[-1]}", "<=", (Bound(1, CPP),)),
        Goal(f"{HOP_UPDATE}: {HOPS[-1]}", "<=", (Bound(1, CPP),)),
        Goal(f"{DEFINE}: {PROPERTIES[0]}", "<=", (Bound(1, CPP),)),
        *(
            goal
            for clients, lead in LEAD.items()
            for goal in (
                Goal(f"{CORE_TIME[clients]}: 2", "<=", (Bound(round(1 / lead, 3), CPP),)),
                Goal(f"{CORE_TIME[clients]}: 2", "<=", (Bound(round(1 / OF_RELAY, 3), RELAY),)),
                Goal(f"{CORE_TIME[clients]}: 2", "<=", (Bound(1, CPP),), contender=OURS_ALONE),
            )
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
