"""How fast a client's frames reach a driver: newBLOBVectors of 4 MiB over TCP, three in flight at a time.

The client is a C program (`csrc/wire.c`). The Python servers have a Python driver inside their process; behind the C++
server the driver is a C program, which receives the frames as descriptors. Every driver compares every byte and answers
each frame. Figures are MB/s of content. The base64 is one long line without `enclen`, because indiserver 1.9.9 crashes
on anything else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import CPP, OURS, OURS_UVLOOP, PYTHON_PEER, Bound, Goal, Row

TITLE = "upload, client to driver"


@contextmanager
def python_driver(package: str, loop: str, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a server with the driver in its own process; yield the port."""
    port, python = (0, sys.executable) if package == "indifast" else (peers.free_port(), str(peers.python_peer()))
    texts = peers.BUILD / f"frames-{os.getpid()}"
    program = str(peers.HERE / "upload_driver.py")
    with texts.open("wb") as out:
        subprocess.run(
            [str(peers.compile_c("wire")), "print"], env={**os.environ, **environment}, stdout=out, check=True
        )
    try:
        with (
            texts.open("rb") as frames,
            peers.process([python, program, package, str(port), loop], stdin=frames) as child,
        ):
            port = peers.first_number(child)
            peers.wait_for_port(port, child)
            yield port
    finally:
        texts.unlink()


@contextmanager
def c_driver(environment: Mapping[str, str]) -> Iterator[int]:
    """Run the C++ server with the C driver; yield the port."""
    driver = str(peers.compile_c("wire"))
    with peers.serving_cpp(driver, environment={**environment, "WIRE_TAKE": "1"}, queue=2000) as (port, _):
        yield port


def measure_one(
    contender: Callable[[], AbstractContextManager[int]], environment: Mapping[str, str], seconds: float
) -> dict[str, float]:
    """Make one run: MB/s of content, and the number of frames."""
    with contender() as port:
        done = subprocess.run(
            [str(peers.compile_c("wire")), "upload", str(port), str(seconds)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["wrong"] or result["frames"] < 2:
        raise Failed("{frames} frames arrived, {wrong} answers reported damage".format(**result))
    return {"rate": result["raw_bytes"] / result["seconds"] / 1e6, "frames": result["frames"]}


def measure(settings: Settings) -> Iterable[Row]:
    environment = {"WIRE_BYTES": str(settings.options["size"]), "WIRE_WRAP": "0"}
    drivers: dict[str, Callable[[], AbstractContextManager[int]]] = {
        OURS: partial(python_driver, "indifast", "asyncio", environment),
        OURS_UVLOOP: partial(python_driver, "indifast", "uvloop", environment),
        CPP: partial(c_driver, environment),
        PYTHON_PEER: partial(python_driver, "indipydriver", "asyncio", environment),
    }
    runs: dict[str, Run] = {
        name: partial(measure_one, drivers[name], environment) for name in peers.servers() if name in drivers
    }
    yield settings.turns(TITLE, runs).row("rate", TITLE, "MB/s")


PROGRAM = Program(
    "upload",
    "Upload: one client, one driver",
    __doc__ or "",
    measure,
    timed=4,
    options={"size": 4 << 20},
    goals=(Goal(TITLE, ">=", (Bound(3, PYTHON_PEER),)), Goal(TITLE, ">=", (Bound(3, CPP),))),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
