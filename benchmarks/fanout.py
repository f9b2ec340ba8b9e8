"""How frames pass from one executable driver, as fast as it can, to many TCP clients that read as fast as they can.

Every client is a process of `csrc/wire.c` that compares every byte of every frame (4 MiB, lines of 72 characters, with
`enclen`); time runs for all of them together, from when the last one has its first frame. A contender that disconnects
a client, or damages a byte, has failed. “no server” is one C process that does nothing but send the same frames to all
clients: with epoll, 256 KiB at a time, all clients having a frame before the next one begins, so that it is as fair as
a server has to be. A sender that is not can send more in all, to few clients.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from benchmarks import peers
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import KERNEL, PYTHON_PEER, Bound, Goal, Row
from benchmarks.serve_indipyserver import MOST_CONNECTIONS

CLIENTS = (10, 50)


@contextmanager
def readers(
    port: int, clients: int, seconds: float, environment: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """So many clients, all of them there before the first frame; gone at the end. Their time runs together."""
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
    """What indipyserver makes of this many clients."""
    raise Failed(f"takes no more than {MOST_CONNECTIONS} connections")


def start(children: Sequence[subprocess.Popen[str]]) -> None:
    """Let the first client start the frames: indipyserver has no place for an eleventh connection."""
    assert children[0].stdin is not None
    children[0].stdin.write("\n")
    children[0].stdin.flush()


def measure_one(
    contender: peers.Contender, clients: int, environment: Mapping[str, str], seconds: float
) -> dict[str, float]:
    """One run: MB/s on the wire of all clients, clients lost, frames missed, slowest by fastest."""
    wire = peers.compile_c("wire")
    with (
        contender(wire, environment) as port,
        readers(port, clients, seconds, environment) as children,
    ):
        start(children)
        return collect(children, seconds)


def collect(children: Sequence[subprocess.Popen[str]], seconds: float) -> dict[str, float]:
    """The figures of clients that were started. Raises Failed when one was lost, or got what it should not."""
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


def contenders() -> dict[str, peers.Contender]:
    """The C++ server as it is started by default: a client may be 128 MB behind."""
    return {**peers.installed(queue=None), KERNEL: peers.nothing_to_many}


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
    __doc__ or "",
    measure,
    timed=10,
    overhead=1.5,
    options={"size": 4 << 20},
    goals=tuple(
        goal
        for clients in CLIENTS
        for goal in (
            Goal(f"{clients} clients, all together", ">=", (Bound(0.9, KERNEL),)),
            Goal(f"{clients} clients, slowest by fastest", ">=", (Bound(0.9),)),
        )
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
