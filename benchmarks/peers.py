"""What stands between a driver and a client in a measurement: indifast's server, its peers, and nothing at all.

Each contender is a context manager that starts processes of its own and gives the TCP port where a client finds the
driver; whatever happens, its processes are gone at the end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.processes import descendants
from benchmarks.results import CPP, KERNEL, OURS, OURS_UVLOOP, PYTHON_PEER

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
PATIENCE = 20.0
"""Seconds that a process may take to come up."""

Contender = Callable[[Path, Mapping[str, str]], AbstractContextManager[int]]
"""Takes an executable driver and its environment."""


def compile_c(name: str) -> Path:
    """The program made of `csrc/NAME.c`, compiled if it is not there or older than a source."""
    source, target = HERE / "csrc" / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in source.parent.iterdir())
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        with made_anew(target) as new:
            subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(new), str(source)], check=True)
    return target


@contextmanager
def made_anew(program: Path) -> Iterator[Path]:
    """Where to put a program that takes the place of another one at the end: somebody may be starting that now."""
    new = program.with_name(f".{program.name}.{os.getpid()}")
    try:
        yield new
        new.chmod(0o755)
        new.replace(program)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def process(
    command: list[str], environment: Mapping[str, str] | None = None, stdin: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A child process with its output on a pipe; at the end it is gone, and so is all that it has started."""
    with subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("BENCHMARK_STDERR") else subprocess.DEVNULL,
        text=True,
        cwd=HERE.parent,
    ) as child:
        try:
            yield child
        finally:
            started = descendants(child.pid)
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
            for pid in started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def ended(children: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """All of these processes are gone at the end."""
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.communicate()


def told_by(child: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """What a measuring process prints as JSON, then ends; empty when nothing came a minute after so many seconds."""
    try:
        out, _ = child.communicate(timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        return {}
    told: dict[str, Any] = json.loads(out) if out.strip() else {}
    return told


@contextmanager
def nothing(driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """The driver listens itself: what the kernel gives."""
    with process([str(driver), "listen"], environment) as child:
        yield first_number(child)


@contextmanager
def nothing_to_many(driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """The same to any number of clients."""
    with process([str(driver), "serve"], environment) as child:
        yield first_number(child)


@contextmanager
def serving(
    *drivers: str, environment: Mapping[str, str] | None = None, uvloop: bool = False, unix: str = ""
) -> Iterator[tuple[int, int]]:
    """(port, process) of indifast's IPyServer with executable drivers; `unix`: abstract name of its local socket."""
    options = (["--uvloop"] if uvloop else []) + (["--unix", f"@{unix}"] if unix else [])
    with process([sys.executable, "-m", "benchmarks.serve", *options, *drivers], environment) as child:
        yield first_number(child), child.pid


@contextmanager
def serving_cpp(
    *drivers: str, environment: Mapping[str, str] | None = None, unix: str = "", queue: int | None = None
) -> Iterator[tuple[int, int]]:
    """(port, process) of the C++ server; `queue`: MB that a client may be behind, else what it does by default."""
    port = free_port()
    name = unix or f"/tmp/indifast-benchmark-{os.getpid()}-{port}"
    limits = [] if queue is None else ["-m", str(queue)]
    with process(["indiserver", "-p", str(port), "-u", name, *limits, *drivers], environment) as child:
        wait_for_port(port, child)
        yield port, child.pid


@contextmanager
def serving_python(*drivers: str, environment: Mapping[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """(port, process) of indipyserver with executable drivers."""
    port = free_port()
    command = [str(python_peer()), str(HERE / "serve_indipyserver.py"), str(port), *drivers]
    with process(command, environment) as child:
        wait_for_port(port, child)
        yield port, child.pid


Server = Callable[..., AbstractContextManager[tuple[int, int]]]
"""Takes executable drivers and `environment`; gives port and process."""


def servers(queue: int | None = None) -> dict[str, Server]:
    """The servers that can be measured here, by name; `queue` is for the C++ server."""
    found: dict[str, Server] = {OURS: serving}
    if importlib.util.find_spec("uvloop"):
        found[OURS_UVLOOP] = partial(serving, uvloop=True)
    if shutil.which("indiserver"):
        found[CPP] = partial(serving_cpp, queue=queue)
    if python_peer().exists():
        found[PYTHON_PEER] = serving_python
    return found


@contextmanager
def _port_alone(server: Server, driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    with server(str(driver), environment=environment) as (port, _):
        yield port


def installed(queue: int | None = 2000) -> dict[str, Contender]:
    """The contenders that can be measured here, by name. The queues of the C++ server's clients (MB) are by default so
    large that it does not cut off a reader for being slow."""
    return {name: partial(_port_alone, server) for name, server in servers(queue).items()} | {KERNEL: nothing}


def python_peer(environment: str = "d31") -> Path:
    """The interpreter that has the Python peers, which need not be there: `make bench-peers` makes it."""
    home = Path(os.environ.get("INDIFAST_PEERS") or HERE.parent / ".venv-peers")
    return home / environment / "bin" / "python"


def python_versions() -> dict[str, str]:
    """Versions of the Python peers, by package."""
    packages = ("indipydriver", "indipyserver", "indipyclient")
    if not python_peer().exists():
        return dict.fromkeys(packages, "not installed")
    program = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
    told = subprocess.run([str(python_peer()), "-c", program, *packages], stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(packages, told.stdout.split(), strict=True))


def first_number(child: subprocess.Popen[str]) -> int:
    """The number that a process prints when it is ready: a port. Raises RuntimeError when it ends instead."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.strip().isdigit():
        raise RuntimeError(f"{child.args!r} did not start")
    return int(line)


@contextmanager
def window(clients: int) -> Iterator[dict[str, str]]:
    """Environment of so many C clients whose time runs together, see `csrc/window.h`."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"window-{os.getpid()}"
    path.write_bytes(struct.pack("qd", clients, 0.0))
    try:
        yield {"WINDOW": str(path)}
    finally:
        path.unlink()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(port: int, child: subprocess.Popen[str]) -> None:
    """Return when somebody listens; raises when the child ends before, or nobody does for `PATIENCE` seconds.

    Nobody connects: a connection that goes away at once keeps indipyserver busy for good.
    """
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        if listened_on(port):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port}: {child.args!r} did not start")


def listened_on(port: int) -> bool:
    """Whether any process listens on a TCP port, as the kernel tells."""
    listening = f":{port:04X} "
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and f"{local} ".endswith(listening):
                return True
    return False
