"""Start: the time for an import, and for a server until it listens and until it answers.

`python -m benchmarks.start [--runs 5] [--starts 20]`

Every figure of a run is the median of `starts` starts of a process; the kinds of process take turns. Each figure
includes the start of the interpreter. An import is timed until its process ends. indifast imports its classes when they
are first used; the second import row includes them.

A server listens when a client can connect. It answers when a connected client has the first definition of an executable
driver. Both times count from the start of the process, and the client waits between the two.
The server is `indifast-server`, whose native front listens; `indifast serve` is Python from the beginning.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.program import Failed, Program, Settings, main, tell
from benchmarks.results import CPP, OURS, PYTHON_PEER, Bound, Goal, Row

BARE = "Python"
"""The interpreter alone."""

NOTHING = "an interpreter that does nothing"
ASYNCIO = "import asyncio"
IMPORT = "import of the library"
CLASSES = "import of driver and server"
LISTENING = "server, until it listens"
ANSWERING = "server, until it answers"
SERVING = "`indifast serve`, until it listens"


def environment() -> dict[str, str]:
    """Return an environment in which modules are compiled only once, like those of installed packages."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(peers.BUILD / "bytecode"), "WIRE_BYTES": "3"}


def finished(command: list[str]) -> float:
    """Return the seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - start


def listening(command: Callable[[int], list[str]]) -> float:
    """Return the seconds from the start of a process until it takes a connection."""
    with served(command) as (start, _):
        return time.perf_counter() - start


def answering(command: Callable[[int], list[str]]) -> float:
    """Return the seconds from the start of a process until a client has a definition from its driver."""
    with served(command) as (start, sock):
        sock.settimeout(peers.PATIENCE)
        sock.sendall(b"<getProperties version='1.7'/>")
        received = b""
        while b"<defSwitchVector" not in received:
            data = sock.recv(1 << 16)
            if not data:
                raise Failed("the server closed the connection")
            received += data
        return time.perf_counter() - start


@contextmanager
def served(command: Callable[[int], list[str]]) -> Iterator[tuple[float, socket.socket]]:
    """Run a server, and connect as soon as possible; yield the time at which it was started, and the connection."""
    port = peers.free_port()
    start = time.perf_counter()
    with subprocess.Popen(
        command(port), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            with connected(port, child, start + peers.PATIENCE) as sock:
                yield start, sock
        finally:
            child.terminate()
            child.wait(peers.PATIENCE)


def connected(port: int, child: subprocess.Popen[bytes], deadline: float) -> socket.socket:
    while time.perf_counter() < deadline and child.poll() is None:
        sock = socket.socket()
        if sock.connect_ex(("127.0.0.1", port)) == 0:
            return sock
        sock.close()
        time.sleep(0.0001)
    raise Failed("the server did not start")


def serve(program: list[str], port: int) -> list[str]:
    return [*program, "-p", str(port), "-u", f"/tmp/indifast-start-{port}", str(peers.compile_c("wire"))]


def serve_python(port: int) -> list[str]:
    return [
        str(peers.python_peer()),
        str(peers.HERE / "serve_indipyserver.py"),
        f"127.0.0.1:{port}",
        str(peers.compile_c("wire")),
    ]


def kinds() -> dict[str, dict[str, Callable[[], float]]]:
    """Return the starts to measure, by contender and row."""
    here = sys.executable
    front = Path(sysconfig.get_path("scripts"), "indifast-server")
    found: dict[str, dict[str, Callable[[], float]]] = {
        BARE: {
            NOTHING: partial(finished, [here, "-c", "pass"]),
            ASYNCIO: partial(finished, [here, "-c", "import asyncio"]),
        },
        OURS: {
            IMPORT: partial(finished, [here, "-c", "import indifast"]),
            CLASSES: partial(finished, [here, "-c", "from indifast import IPyDriver, IPyServer"]),
            LISTENING: partial(listening, partial(serve, [str(front)])),
            ANSWERING: partial(answering, partial(serve, [str(front)])),
            SERVING: partial(listening, partial(serve, [here, "-m", "indifast", "serve"])),
        },
    }
    if shutil.which("indiserver"):
        cpp = partial(serve, ["indiserver"])
        found[CPP] = {LISTENING: partial(listening, cpp), ANSWERING: partial(answering, cpp)}
    if peers.python_peer().exists():
        python = str(peers.python_peer())
        found[PYTHON_PEER] = {
            IMPORT: partial(finished, [python, "-c", "import indipydriver"]),
            CLASSES: partial(finished, [python, "-c", "import indipydriver, indipyserver"]),
            LISTENING: partial(listening, serve_python),
            ANSWERING: partial(answering, serve_python),
        }
    return found


def round_of(found: Mapping[str, Mapping[str, Callable[[], float]]], count: int) -> dict[tuple[str, str], float]:
    """Start everything in turn, `count` times; return the medians in milliseconds by row and contender."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(count):
        for name, starts in found.items():
            for title, start in starts.items():
                times.setdefault((title, name), []).append(start())
    return {key: statistics.median(several) * 1e3 for key, several in times.items()}


def measure(settings: Settings) -> Iterable[Row]:
    count = 3 if settings.quick else settings.options["starts"]
    rounds = []
    for number in range(settings.runs):
        tell(f"start, run {number + 1} of {settings.runs}")
        rounds.append(round_of(kinds(), count))
    for title in (NOTHING, ASYNCIO, IMPORT, CLASSES, LISTENING, ANSWERING, SERVING):
        figures = {name: [one[title, name] for one in rounds] for of, name in rounds[0] if of == title}
        yield Row(title, "ms", figures, digits=1)


PROGRAM = Program(
    "start",
    "Start",
    __doc__ or "",
    measure,
    timed=1,
    overhead=6,
    options={"starts": 20},
    goals=(
        Goal(IMPORT, "<=", (Bound(1.5, BARE, ASYNCIO),)),
        Goal(LISTENING, "<=", (Bound(1.5, CPP),)),
        Goal(SERVING, "<=", (Bound(5, BARE, NOTHING),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
