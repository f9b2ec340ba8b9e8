"""How fast frames pass from an executable driver at full speed to many TCP clients that read as fast as they can.

Every client is a `csrc/wire.c` process that compares every byte of every frame (4 MiB, lines of 72 characters, with
`enclen`). The clock of all clients starts when the last one has its first frame. A contender that disconnects a client
or damages a byte has failed. On a machine with eight cores or more, “{relay}” reads, looks for the ends of frames and
sends by four threads.

“no server” is one C process that does nothing but send the same frames to all clients. It uses epoll and writes 256 KiB
at a time, and every client gets a frame before the next frame begins, so it is as fair as a server has to be. An unfair
sender can send more in total, to few clients.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import CPP, KERNEL, PYTHON_PEER, RELAY, Bound, Goal, Row
from benchmarks.serve_indipyserver import MOST_CONNECTIONS

CLIENTS = (10, 50)


@contextmanager
def readers(
    port: int, clients: int, seconds: float, environment: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run clients that share a time window and are all connected before the first frame; end them afterwards."""
    command = [str(peers.compile_c("wire")), "receive", str(port), str(seconds)]
    with peers.window(clients) as window:
        children = [
            subprocess.Popen(
                command,
                env={**os.environ, **environment, **window, "WIRE_WAIT": "1" if number else "2"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for number in range(clients)
        ]
        with peers.ended(children):
            for child in children:
                assert child.stdout is not None
                child.stdout.readline()
            yield children


def too_many(_: float) -> dict[str, float]:
    """Fail like indipyserver, which takes fewer clients."""
    raise Failed(f"takes no more than {MOST_CONNECTIONS} connections")


def start(children: Sequence[subprocess.Popen[str]]) -> None:
    """Make the first client start the frames: indipyserver has no room for an eleventh connection."""
    assert children[0].stdin is not None
    children[0].stdin.write("\n")
    children[0].stdin.flush()


def measure_one(
    contender: peers.Contender, clients: int, environment: Mapping[str, str], seconds: float
) -> dict[str, float]:
    """Make one run: MB/s on the wire of all clients, missed frames, the slowest client's rate by the fastest's."""
    wire = peers.compile_c("wire")
    with (
        contender(wire, environment) as port,
        readers(port, clients, seconds, environment) as children,
    ):
        start(children)
        return collect(children, seconds)


def collect(children: Sequence[subprocess.Popen[str]], seconds: float) -> dict[str, float]:
    """Return the figures of clients that were started.

    Raises:
        Failed: A client was lost, or received damaged frames.
    """
    rates: list[float] = []
    missed, frames, lost = 0, 0, 0
    for child in children:
        result = peers.told_by(child, seconds)
        if child.returncode or not result or result["wrong"] or result["frames"] < 2:
            lost += 1
            continue
        missed += result["missed"]
        frames += result["frames"]
        rates.append(result["wire_bytes"] / result["seconds"] / 1e6)
    if lost:
        raise Failed(f"{lost} of {len(children)} clients lost; {sum(rates):.0f} MB/s to the others")
    return {"total": sum(rates), "missed": missed, "fairness": min(rates) / max(rates), "frames": frames}


@contextmanager
def relay(driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run the relay in C with four threads."""
    with peers.relaying(str(driver), environment=environment, threads=4) as (port, _):
        yield port


def contenders(many_cores: bool = peers.MANY_CORES) -> dict[str, peers.Contender]:
    """Return the contenders, with the C++ server as it is started by default: a client may be 128 MB behind."""
    found = {**peers.installed(queue=None), KERNEL: peers.nothing_to_many}
    return {**found, RELAY: relay} if many_cores else found


def goals(many_cores: bool = peers.MANY_CORES) -> tuple[Goal, ...]:
    """Return the goals. Where readers that compare leave cores to the server, it has to use them."""
    each = (
        goal
        for clients in CLIENTS
        for goal in (
            Goal(f"{clients} clients, all together", ">=", (Bound(0.9, KERNEL),)),
            Goal(f"{clients} clients, slowest by fastest", ">=", (Bound(0.9),)),
        )
    )
    most = f"{max(CLIENTS)} clients, all together"
    more = (Goal(most, ">=", (Bound(3, CPP),)), Goal(most, ">=", (Bound(0.6, RELAY),)))
    return (*each, *(more if many_cores else (Goal(most, ">=", (Bound(1, CPP),)),)))


def measure(settings: Settings) -> Iterable[Row]:
    environment = {"WIRE_BYTES": str(settings.options["size"]), "WIRE_WRAP": "72", "WIRE_ENCLEN": "1"}
    for clients in CLIENTS:
        runs: dict[str, Run] = {
            name: partial(measure_one, one, clients, environment) for name, one in contenders().items()
        }
        if PYTHON_PEER in runs and clients > MOST_CONNECTIONS:
            runs[PYTHON_PEER] = too_many
        turns = settings.turns(f"{clients} clients", runs)
        yield turns.row("total", f"{clients} clients, all together", "MB/s")
        yield turns.row("fairness", f"{clients} clients, slowest by fastest", "", digits=2)
        yield turns.row("missed", f"{clients} clients, frames left out", "")


PROGRAM = Program(
    "fanout",
    "Fan-out: one driver, many clients",
    (__doc__ or "").format(relay=RELAY),
    measure,
    timed=10,
    overhead=1.5,
    options={"size": 4 << 20},
    goals=goals(),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
