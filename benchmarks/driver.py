"""How fast a Python driver updates a property and answers getProperties: indifast compared with indipydriver.

Each library serves the same driver (`driver_program.py`) with its own server in one process, and one TCP client counts
what it receives.

* Updates: `send_setVector` of a vector with 3 numbers, 1000 times in a row, until the client has them all; then again.
* Definitions: the answers to getProperties for 1000 vectors of 3 numbers. The pause before each request does not count
  (indifast's server combines requests that arrive in quick succession).
"""

from __future__ import annotations

import importlib.util
import socket
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.program import Program, Run, Settings, main
from benchmarks.results import OURS, OURS_UVLOOP, Bound, Goal, Row

PROGRAM_FILE = Path(__file__).with_name("driver_program.py")
UPDATES = VECTORS = 1000
GET = b'<getProperties version="1.7" />'
PEER = "indipydriver"
ROWS = {"updates": "updates of 3 numbers", "definitions": "definitions of 3 numbers"}
PAUSE = {"updates": 0.0, "definitions": 0.3}
"""Seconds between two requests."""


class Client:
    """Counts the elements that close with a given tag."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)

    def time(self, request: bytes, closing: bytes, count: int) -> float:
        """Send a request, and return the seconds until the last of `count` elements has arrived."""
        begin = time.perf_counter()
        self._socket.sendall(request)
        tail = b""
        while count > 0:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            data = tail + data
            count -= data.count(closing)
            tail = data[-len(closing) + 1 :]
        return time.perf_counter() - begin

    def close(self) -> None:
        self._socket.close()


def measure_one(python: str, library: str, loop: str, task: str, seconds: float) -> dict[str, float]:
    """Make one run: updates or definitions per second."""
    port = peers.free_port()
    with peers.process([python, str(PROGRAM_FILE), library, str(port), str(VECTORS), loop]) as child:
        peers.wait_for_port(port, child)
        client = Client(port)
        try:
            client.time(GET, b"</defNumberVector>", VECTORS)  # warm-up
            request, closing, count = _send(UPDATES), b"</setNumberVector>", UPDATES
            if task == "definitions":
                request, closing, count = GET, b"</defNumberVector>", VECTORS
            client.time(request, closing, count)
            total, spent = 0, 0.0
            end = time.monotonic() + seconds
            while not total or time.monotonic() < end:
                time.sleep(PAUSE[task])
                spent += client.time(request, closing, count)
                total += count
        finally:
            client.close()
    return {task: total / spent}


def _send(count: int) -> bytes:
    """Return the command that asks for `count` updates."""
    member = f'<oneNumber name="x">{count}</oneNumber>'
    return f'<newNumberVector device="Device" name="control">{member}</newNumberVector>'.encode()


def measure(settings: Settings) -> Iterable[Row]:
    contenders = {OURS: (sys.executable, "indifast", "asyncio")}
    if importlib.util.find_spec("uvloop"):
        contenders[OURS_UVLOOP] = (sys.executable, "indifast", "uvloop")
    if peers.python_peer().exists():
        contenders[PEER] = (str(peers.python_peer()), "indipydriver", "asyncio")
    for task, title in ROWS.items():
        runs: dict[str, Run] = {name: partial(measure_one, *how, task) for name, how in contenders.items()}
        yield settings.turns(title, runs).row(task, title, "per s")


PROGRAM = Program(
    "driver",
    "A Python driver",
    __doc__ or "",
    measure,
    timed=6,
    goals=(
        Goal(ROWS["updates"], ">=", (Bound(5, PEER),)),
        Goal(ROWS["definitions"], ">=", (Bound(10, PEER),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
