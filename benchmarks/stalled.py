"""What a client that reads nothing costs nine others, and how it affects the server's memory.

One executable driver sends frames of 4 MiB (.bin) as fast as it can to nine TCP clients that compare every byte: once
to these alone, and once beside another client that has asked for the BLOBs but reads none. Memory is the server's
largest resident set while frames pass. The queues have their default size (128 MB).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.chain import encoded_length, frames_environment
from benchmarks.fanout import collect, readers, start
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import CPP, OURS, Bound, Goal, Row
from indifast.protocol.limits import DEFAULT_LIMITS

READERS = 9
FRAME = 4 << 20
ENVIRONMENT = frames_environment(FRAME)
STALL = b"<getProperties version='1.7'/><enableBLOB device='Wire'>Also</enableBLOB>"
ALONE, BESIDE = "9 readers alone", "9 readers beside a stalled client"
MORE = "memory for the stalled client"


def resident(pid: int) -> float:
    """Return the MB of memory that a process uses."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_one(server: peers.Server, stalled: bool, seconds: float) -> dict[str, float]:
    """Make one run: MB/s of all readers, and the server's largest resident set in MB.

    Raises:
        Failed: A reader was lost, or frames were dropped.
    """
    with (
        server(str(peers.compile_c("wire")), environment=ENVIRONMENT) as (port, pid),
        readers(port, READERS, seconds, ENVIRONMENT) as children,
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        largest = [resident(pid)]
        over = threading.Event()

        def sample() -> None:
            while not over.wait(0.05):
                largest.append(resident(pid))

        if stalled:
            sock.sendall(STALL)
            sock.recv(1)  # the first definition arrives: the server knows this client
        start(children)
        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            figures = collect(children, seconds)
        finally:
            over.set()
            sampler.join()
    if figures["missed"]:
        raise Failed(f"{figures['missed']:.0f} frames dropped")
    return {"total": figures["total"], "memory": max(largest), "frames": figures["frames"]}


def measure(settings: Settings) -> Iterable[Row]:
    memory: dict[str, Row] = {}
    servers = {name: one for name, one in peers.servers().items() if name in (OURS, CPP)}
    for title, stalled in ((ALONE, False), (BESIDE, True)):
        runs = {name: partial(measure_one, one, stalled) for name, one in servers.items()}
        turns = settings.turns(title, runs)
        yield turns.row("total", f"{title}, all together", "MB/s")
        memory[title] = turns.row("memory", f"{title}, server's memory", "MB")
        yield memory[title]
    yield difference(memory[BESIDE], memory[ALONE])


def difference(beside: Row, alone: Row) -> Row:
    """Return how much more memory a server has beside a stalled client: each run less the median without."""
    medians = {name: alone.median(name) for name in beside.figures}
    figures = {
        name: [figure - median for figure in beside.figures[name]]
        for name, median in medians.items()
        if median is not None
    }
    return replace(beside, title=MORE, figures=figures)


PROGRAM = Program(
    "stalled",
    "A client that reads nothing",
    __doc__ or "",
    measure,
    timed=4,
    goals=(
        Goal(f"{BESIDE}, all together", ">=", (Bound(0.9, OURS, f"{ALONE}, all together"),)),
        Goal(MORE, "<=", (Bound(round((DEFAULT_LIMITS.queue + encoded_length(FRAME)) / 1e6)),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
