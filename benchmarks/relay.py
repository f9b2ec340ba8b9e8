"""How fast inline frames pass from an executable driver through a server to one TCP client.

The driver and the client are the two ends of `csrc/wire.c`. The driver sends frames of 4 MiB that differ in every page,
in lines of 72 characters: once with a correct `enclen` (as C++ drivers send it) and once without (as Python drivers
do). Figures are MB/s on the wire. “no server” is the same driver listening by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.program import Failed, Program, Settings, main
from benchmarks.results import CPP, KERNEL, Bound, Goal, Row

ROWS = {"with enclen": "1", "without enclen": "0"}


def receive(port: int, seconds: float, environment: Mapping[str, str], patience: float = 120) -> dict[str, Any]:
    """Run a client of `csrc/wire.c`, and return its result."""
    done = subprocess.run(
        [str(peers.compile_c("wire")), "receive", str(port), str(seconds)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds + patience,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure_one(contender: peers.Contender, environment: Mapping[str, str], seconds: float) -> dict[str, float]:
    """Make one run: MB/s on the wire, and the number of frames.

    Raises:
        Failed: Frames were changed or lost: such a server has no speed.
    """
    with contender(peers.compile_c("wire"), environment) as port:
        result = receive(port, seconds, environment)
    if result["wrong"] or result["missed"] or result["frames"] < 2:
        raise Failed("{wrong} of {frames} frames damaged, {missed} missed".format(**result))
    return {"rate": result["wire_bytes"] / result["seconds"] / 1e6, "frames": result["frames"]}


def measure(settings: Settings) -> Iterable[Row]:
    for title, enclen in ROWS.items():
        environment = {"WIRE_BYTES": str(settings.options["size"]), "WIRE_WRAP": "72", "WIRE_ENCLEN": enclen}
        runs = {name: partial(measure_one, one, environment) for name, one in peers.installed().items()}
        yield settings.turns(title, runs).row("rate", title, "MB/s")


PROGRAM = Program(
    "relay",
    "Relay: one driver, one client",
    __doc__ or "",
    measure,
    timed=10,
    overhead=0.3,
    options={"size": 4 << 20},
    goals=(
        Goal("with enclen", ">=", (Bound(1.1, CPP), Bound(0.9 if peers.MANY_CORES else 0.5, KERNEL))),
        Goal("without enclen", ">=", (Bound(6, CPP),)),
        Goal("without enclen", ">=", (Bound(0.95, "indifast", "with enclen"),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
