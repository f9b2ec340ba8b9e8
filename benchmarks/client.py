"""The client library compared with indipyclient: updates, BLOBs, memory, and the client with queues.

A plain process sends without pause, over TCP on loopback, to each library in turn, which runs in a process of its own.

* Updates are setNumberVectors with three members that reach `rxevent`.
* BLOBs are frames of 4 MiB, base64 in lines of 72 characters; every byte is compared.
* Memory is the peak above idle: with the model keeping the last frame, and with `frames(keep=False)`.
* The QueClient knows 400 vectors; its time per event includes the snapshot of them.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks import peers
from benchmarks.program import Failed, Program, Run, Settings, main
from benchmarks.results import OURS, OURS_UVLOOP, Bound, Goal, Row

FRAME = 4 << 20
DISTINCT = 4
PEER = "indipyclient"
PROGRAM_FILE = peers.HERE / "client_program.py"
NO_END = 10**9

UPDATES = "updates of 3 numbers"
BLOBS = "BLOBs of 4 MiB, content"
MEMORY = "BLOBs of 4 MiB, peak of memory above idle"
EVENT = "QueClient, an event"


def definition(name: str, members: int) -> str:
    numbers = "".join(
        f'<defNumber name="m{i}" format="%g" min="0" max="0" step="0">0</defNumber>' for i in range(members)
    )
    return f'<defNumberVector device="D" name="{name}" state="Idle" perm="rw" timeout="5">{numbers}</defNumberVector>'


def update(number: int) -> str:
    return (
        f'<setNumberVector device="D" name="N" state="Ok" timeout="5" timestamp="2024-01-02T03:04:05.{number:06d}">'
        f'<oneNumber name="m0">{number}.5</oneNumber><oneNumber name="m1">{number * 2}.25</oneNumber>'
        f'<oneNumber name="m2">{number}e-3</oneNumber></setNumberVector>\n'
    )


def frame(number: int) -> str:
    """Return a setBLOBVector whose content `client_program.py` knows."""
    text = base64.b64encode(random.Random(number).randbytes(FRAME)).decode()
    lines = "\n".join(text[at : at + 72] for at in range(0, len(text), 72))
    return (
        '<setBLOBVector device="D" name="B" state="Ok" timestamp="2024-01-02T03:04:05">'
        f'<oneBLOB name="img" size="{FRAME}" enclen="{len(text)}" format=".bin">\n{lines}\n</oneBLOB></setBLOBVector>'
    )


def send(kind: str, count: int, seconds: float) -> None:
    """Run the sending process, which serves one connection after another until killed.

    Each connection gets messages until `count` were sent or `seconds` have passed. The last message has the state
    Alert; the last frame is the next one in turn.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        first, blocks, last, step = definition("N", 3), ["".join(map(update, range(1000)))], update(0), 1000
        if kind == "blobs":
            first = '<defBLOBVector device="D" name="B" state="Idle" perm="ro"><defBLOB name="img"/></defBLOBVector>'
            blocks, last, step = [frame(number) for number in range(DISTINCT)], "", 1
        elif kind == "queues":
            first, blocks, last = "".join(definition(f"N{number}", 3) for number in range(400)), [], ""
        encoded = [block.encode() for block in blocks]
        alert = [block.replace(b'state="Ok"', b'state="Alert"', 1) for block in ([last.encode()] if last else encoded)]
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                try:
                    connection.sendall(first.encode())
                    number, end = 0, time.monotonic() + seconds
                    while encoded and number < count // step and (not number or time.monotonic() < end):
                        connection.sendall(encoded[number % len(encoded)])
                        number += 1
                    if alert:
                        connection.sendall(alert[number % len(alert)])
                    while connection.recv(4096):
                        pass
                except ConnectionError:
                    pass


@contextmanager
def sender(kind: str, count: int = NO_END, seconds: float = NO_END) -> Iterator[int]:
    """Run a process that calls `send`, and yield its port."""
    program = "import sys; from benchmarks.client import send; send(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))"
    with peers.process([sys.executable, "-c", program, kind, str(count), str(seconds)]) as child:
        yield peers.first_number(child)


def measure_one(python: str, module: str, loop: str, kind: str, task: str, seconds: float) -> dict[str, float]:
    """Make one run of one library.

    Raises:
        Failed: A frame was damaged.
    """
    with sender(kind, seconds=seconds) as port:
        done = subprocess.run(
            [python, str(PROGRAM_FILE), module, task, str(port), loop, str(seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=seconds + 240, text=True,
        )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if wrong := figures.pop("wrong", 0):
        raise Failed(f"{wrong} of {figures['frames']:.0f} frames damaged")
    return figures


def measure(settings: Settings) -> Iterable[Row]:
    contenders = {OURS: (sys.executable, "indifast.client", "asyncio")}
    if importlib.util.find_spec("uvloop"):
        contenders[OURS_UVLOOP] = (sys.executable, "indifast.client", "uvloop")
    if peers.python_peer().exists():
        contenders[PEER] = (str(peers.python_peer()), "indipyclient", "asyncio")

    def runs(kind: str, task: str = "count") -> dict[str, Run]:
        return {name: partial(measure_one, *how, kind, task) for name, how in contenders.items()}

    turns = settings.turns("updates", runs("updates"))
    yield turns.row("rate", UPDATES, "per s")
    yield turns.row("cpu_us", f"{UPDATES}, processor time each", "µs", digits=1)
    turns = settings.turns("BLOBs", runs("blobs"))
    yield turns.row("mb", BLOBS, "MB/s")
    yield turns.row("cpu_us", "BLOBs of 4 MiB, processor time each", "µs")
    yield turns.row("above_idle", MEMORY, "frames", digits=2)
    borrowed = settings.turns("borrowed BLOBs", {OURS: runs("blobs", "borrow")[OURS]})
    yield borrowed.row("above_idle", "the same, frames(keep=False)", "frames", digits=2)
    turns = settings.turns("queues", runs("queues", "queued"))
    yield turns.row("event_us", EVENT, "µs", digits=1)


PROGRAM = Program(
    "client",
    "A Python client",
    __doc__ or "",
    measure,
    timed=8,
    goals=(
        Goal(UPDATES, ">=", (Bound(3, PEER),)),
        Goal(BLOBS, ">=", (Bound(6, PEER),)),
        Goal(MEMORY, "<=", (Bound(2.2),)),
        Goal(EVENT, "<=", (Bound(0.02, PEER),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
