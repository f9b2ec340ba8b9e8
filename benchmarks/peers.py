"""What stands between a driver and a client in a measurement: indifast's server, its peers, and nothing at all.

Each contender is a context manager that starts processes of its own and gives the TCP port where a client finds the
driver; whatever happens, its processes are gone at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "benchmarks"
PATIENCE = 20.0
"""Seconds that a process may take to come up."""

Contender = Callable[[Path, Mapping[str, str]], AbstractContextManager[int]]
"""Takes an executable driver and its environment."""


def compile_c(name: str) -> Path:
    """The program made of `csrc/NAME.c`, compiled if it is not there or older than its source."""
    source, target = HERE / "csrc" / f"{name}.c", BUILD / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(target), str(source)], check=True)
    return target


@contextmanager
def process(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A child process with its output on a pipe, killed at the end if it has not gone by then."""
    with subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("BENCHMARK_STDERR") else subprocess.DEVNULL,
        text=True,
        cwd=HERE.parent,
    ) as child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def nothing(driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """The driver listens itself: what the kernel gives."""
    with process([str(driver), "listen"], environment) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())


@contextmanager
def indifast(driver: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """IPyServer with the driver as executable driver."""
    with process([sys.executable, "-m", "benchmarks.serve", str(driver)], environment) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())


@contextmanager
def indiserver(driver: Path, environment: Mapping[str, str], queue: int = 2000) -> Iterator[int]:
    """The C++ server; its clients' queues (MB) are so large that it does not cut off a reader for being slow."""
    port = free_port()
    name = f"/tmp/indifast-benchmark-{os.getpid()}-{port}"
    with process(["indiserver", "-p", str(port), "-u", name, "-m", str(queue), str(driver)], environment) as child:
        wait_for_port(port, child)
        yield port


def installed() -> dict[str, Contender]:
    """The contenders that can be measured here, by name."""
    contenders: dict[str, Contender] = {"indifast": indifast}
    if shutil.which("indiserver"):
        contenders["indiserver (C++)"] = indiserver
    return contenders | {"no server": nothing}


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(port: int, child: subprocess.Popen[str]) -> None:
    """Return when somebody listens; raises when the child ends before, or nobody does for `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nobody listens on port {port}: {child.args!r} did not start")
