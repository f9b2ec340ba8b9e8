"""Contenders between the driver and the client of a measurement: indifast's server, its peers, and no server at all.

Each contender is a context manager that starts its processes and yields the TCP port on which a client finds the
driver; its processes are ended in any case.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.processes import descendants
from benchmarks.results import CPP, KERNEL, OURS, OURS_UVLOOP, PYTHON_PEER

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
MANY_CORES = len(os.sched_getaffinity(0)) >= 8
"""Whether clients that look at what they receive leave enough cores to a server that uses several."""
PATIENCE = 60.0
"""Seconds that a process may take to start: the machine may be busy."""


@dataclass(frozen=True)
class Place:
    """Where processes run: on this machine as it is, or in a network namespace of `benchmarks.network`.

    Attributes:
        host: The address at which others reach what listens there.
        enter: The words before a command that runs there.
    """

    host: str = "127.0.0.1"
    enter: Sequence[str] = ()


HOME = Place()

Contender = Callable[[Path, Mapping[str, str]], AbstractContextManager[int]]
"""Called with an executable driver and its environment."""


def compile_c(name: str, *, tls: bool = False) -> Path:
    """Return the program made of `csrc/NAME.c`, compiled if it is missing or older than a source.

    `tls` is for programs that include `csrc/stream.h`: OpenSSL is compiled in.

    Raises:
        subprocess.CalledProcessError: The compiler failed, for example because OpenSSL's headers are missing.
    """
    source, target = HERE / "csrc" / f"{name}.c", BUILD / (f"{name}-tls" if tls else name)
    openssl = (["-DWITH_TLS"], ["-lssl", "-lcrypto"]) if tls else ([], [])
    newest = max(path.stat().st_mtime for path in source.parent.iterdir())
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        with made_anew(target) as new:
            command = [
                os.environ.get("CC", "cc"),
                "-O2",
                "-pthread",
                *openssl[0],
                "-o",
                str(new),
                str(source),
                *openssl[1],
            ]
            subprocess.run(command, check=True)
    return target


@contextmanager
def made_anew(program: Path) -> Iterator[Path]:
    """Yield a temporary path for a program, which replaces `program` in one step: it may be starting right now."""
    new = program.with_name(f".{program.name}.{os.getpid()}")
    try:
        yield new
        new.chmod(0o755)
        new.replace(program)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def process(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    at: Place = HOME,
) -> Iterator[subprocess.Popen[str]]:
    """Run a child process with its output on a pipe; end it, and all processes that it started, afterwards."""
    with subprocess.Popen(
        [*at.enter, *command],
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
    """Kill these processes after the block."""
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.communicate()


def told_by(child: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """Wait for a measuring process to end, and return what it printed as JSON.

    Returns:
        The result; empty if the process prints nothing, or takes a minute longer than `seconds`.
    """
    try:
        out, _ = child.communicate(timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        return {}
    result: dict[str, Any] = json.loads(out) if out.strip() else {}
    return result


@contextmanager
def nothing(driver: Path, environment: Mapping[str, str], at: Place = HOME) -> Iterator[int]:
    """Let the driver listen itself: the limit set by the kernel."""
    with process([str(driver), "listen"], {**environment, "SERVER_HOST": at.host}, at=at) as child:
        yield first_number(child)


@contextmanager
def nothing_to_many(driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Let the driver listen itself, for any number of clients."""
    with process([str(driver), "serve"], environment) as child:
        yield first_number(child)


@contextmanager
def relaying(
    driver: str, *, environment: Mapping[str, str] | None = None, threads: int | None = None
) -> Iterator[tuple[int, int]]:
    """Run the least that a server in C has to do, with a thread for each core that may be used; see `csrc/relay.c`.

    Yields:
        The port and the process ID of the server.
    """
    words = [str(compile_c("relay")), str(threads or len(os.sched_getaffinity(0))), driver]
    with process(words, environment) as child:
        yield first_number(child), child.pid


@contextmanager
def serving(
    *drivers: str,
    environment: Mapping[str, str] | None = None,
    uvloop: bool = False,
    unix: str = "",
    at: Place = HOME,
    options: Sequence[str] = (),
) -> Iterator[tuple[int, int]]:
    """Run indifast's IPyServer with executable drivers.

    Args:
        drivers: The drivers.
        environment: Environment variables to add.
        uvloop: Run on uvloop's event loop.
        unix: Abstract name of the server's local socket.
        at: Where the server runs.
        options: Further options of `benchmarks.serve`.

    Yields:
        The port and the process ID of the server.
    """
    words = [*(["--uvloop"] if uvloop else []), *(["--unix", f"@{unix}"] if unix else []), "--host", at.host, *options]
    with process([sys.executable, "-m", "benchmarks.serve", *words, *drivers], environment, at=at) as child:
        yield first_number(child), child.pid


def serving_alone(
    *drivers: str, environment: Mapping[str, str] | None = None
) -> AbstractContextManager[tuple[int, int]]:
    """Run indifast's IPyServer without threads that send."""
    return serving(*drivers, environment=environment, options=("--senders", "0"))


def serving_base64(
    *drivers: str, environment: Mapping[str, str] | None = None, at: Place = HOME
) -> AbstractContextManager[tuple[int, int]]:
    """Run indifast's IPyServer without raw frames."""
    return serving(*drivers, environment=environment, at=at, options=("--no-raw",))


def serving_plain(
    *drivers: str, environment: Mapping[str, str] | None = None, at: Place = HOME
) -> AbstractContextManager[tuple[int, int]]:
    """Run indifast's IPyServer without compression."""
    return serving(*drivers, environment=environment, at=at, options=("--compress", "off"))


@contextmanager
def serving_cpp(
    *drivers: str,
    environment: Mapping[str, str] | None = None,
    unix: str = "",
    queue: int | None = None,
    at: Place = HOME,
) -> Iterator[tuple[int, int]]:
    """Run the C++ server with executable drivers.

    Args:
        drivers: The drivers.
        environment: Environment variables to add.
        unix: Abstract name of the server's local socket.
        queue: MB that a client may be behind; None for the server's default.
        at: Where the server runs.

    Yields:
        The port and the process ID of the server.
    """
    port = free_port()
    name = unix or f"/tmp/indifast-benchmark-{os.getpid()}-{port}"
    limits = [] if queue is None else ["-m", str(queue)]
    with process(["indiserver", "-p", str(port), "-u", name, *limits, *drivers], environment, at=at) as child:
        wait_for_port(port, child)
        yield port, child.pid


@contextmanager
def serving_python(
    *drivers: str, environment: Mapping[str, str] | None = None, at: Place = HOME
) -> Iterator[tuple[int, int]]:
    """Run indipyserver with executable drivers; yield its port and process ID."""
    port = free_port()
    command = [str(python_peer()), str(HERE / "serve_indipyserver.py"), f"{at.host}:{port}", *drivers]
    with process(command, environment, at=at) as child:
        wait_for_port(port, child)
        yield port, child.pid


@contextmanager
def passing(
    driver: str, *, environment: Mapping[str, str] | None = None, unix: str = "", at: Place = HOME
) -> Iterator[tuple[int, int]]:
    """Run `csrc/pass.c`, which passes on what one driver and one client say; yield its port and process ID."""
    with process([str(compile_c("pass")), unix, driver], environment, at=at) as child:
        yield first_number(child), child.pid


Server = Callable[..., AbstractContextManager[tuple[int, int]]]
"""Called with executable drivers and `environment`; yields port and process ID."""


def servers(queue: int | None = None) -> dict[str, Server]:
    """Return the servers that can be measured here, by name. `queue` is for the C++ server."""
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
    """Return the contenders that can be measured here, by name.

    `queue` is how many MB clients of the C++ server may be behind. By default that is enough for the server not to
    disconnect a slow reader.
    """
    return {name: partial(_port_alone, server) for name, server in servers(queue).items()} | {KERNEL: nothing}


def python_peer(environment: str = "d31") -> Path:
    """Return the path of the interpreter with the Python peers. It exists only after `make bench-peers`."""
    home = Path(os.environ.get("INDIFAST_PEERS") or HERE.parent / ".venv-peers")
    return home / environment / "bin" / "python"


def python_versions() -> dict[str, str]:
    """Return the versions of the Python peers by package."""
    packages = ("indipydriver", "indipyserver", "indipyclient")
    if not python_peer().exists():
        return dict.fromkeys(packages, "not installed")
    program = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
    done = subprocess.run([str(python_peer()), "-c", program, *packages], stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(packages, done.stdout.split(), strict=True))


def first_number(child: subprocess.Popen[str]) -> int:
    """Wait for a process to print the port on which it listens, and return it.

    Raises:
        RuntimeError: The process ended instead.
    """
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.strip().isdigit():
        raise RuntimeError(f"{child.args!r} did not start")
    return int(line)


@contextmanager
def window(clients: int) -> Iterator[dict[str, str]]:
    """Yield the environment variable of C clients that share a time window; see `csrc/window.h`."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"window-{os.getpid()}"
    path.write_bytes(struct.pack("qd", clients, 0.0))
    try:
        yield {"WINDOW": str(path)}
    finally:
        path.unlink()


def free_port() -> int:
    """Return a TCP port that is free on loopback at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(port: int, child: subprocess.Popen[str]) -> None:
    """Wait until a process listens on the port.

    This does not connect: a connection that is closed at once keeps indipyserver busy forever.

    Raises:
        RuntimeError: The child ended, or nothing listened for `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        if listened_on(port, child.pid):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}: {child.args!r} did not start")


def listened_on(port: int, pid: int | None = None) -> bool:
    """Return whether any process listens on a TCP port, in the network of the process `pid` or in our own.

    The kernel's tables say so. A process that has ended has no network.
    """
    listening = f":{port:04X} "
    for table in ("tcp", "tcp6"):
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid or 'self'}/net/{table}").read_text().splitlines()[1:]
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == "0A" and f"{local} ".endswith(listening):
                return True
    return False
