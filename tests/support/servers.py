"""Servers that run as programs, libindi's and those of the examples, and libindi's tool that reads properties."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tests.support.blackbox import LIMIT, Child, free_port, python_environment, until
from tests.support.programs import executable

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def await_listener(child: Child, port: int) -> None:
    """Wait until a program accepts connections on a TCP port."""

    def accepts() -> bool:
        assert child.running(), f"the program has ended:\n{child.stderr[-3000:]}"
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
        except OSError:
            return False
        return True

    until(accepts, what=f"a listener on port {port}")


@contextlib.contextmanager
def indiserver(program: Callable[[str], str], *drivers: str) -> Iterator[tuple[int, str]]:
    """Run libindi's server with drivers; yields its TCP port and the name of its local socket."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:  # its path is short enough for a Unix socket
        local = f"{home}/socket"
        words = [driver if "@" in driver else program(driver) for driver in drivers]
        words = [program("indiserver"), "-p", str(port), "-u", local, *words]
        with Child(words, Path(home), env={"HOME": home}) as server:
            await_listener(server, port)
            yield port, local


@contextlib.contextmanager
def example(name: str, folder: Path, *arguments: str) -> Iterator[int]:
    """Run an example server on a port that the kernel chooses; yields the port. No traceback may be in its log."""
    with example_child(name, folder, *arguments) as server:
        yield announced_port(server)
        assert "Traceback" not in server.stderr, server.stderr


def example_child(name: str, folder: Path, *arguments: str) -> Child:
    """Start an example server on a port that the kernel chooses; see `announced_port`."""
    words = [sys.executable, str(EXAMPLES / name), *arguments, "--port", "0"]
    return Child(words, folder, env=python_environment(), cwd=folder)


def announced_port(server: Child) -> int:
    """Wait until an example server listens, and return its port."""

    def announced() -> re.Match[str] | None:
        assert server.running(), f"the example has ended:\n{server.stderr[-3000:]}"
        return re.search(r"listening on port (\d+)\n", server.stderr)

    until(announced, what="the line that names the port")
    found = announced()
    assert found is not None
    return int(found[1])


@contextlib.contextmanager
def old_style_thermostat(folder: Path, pause: float) -> Iterator[int]:
    """Run the example written for an old release, which does not print its port; yields the port."""
    port = free_port()
    words = [sys.executable, str(EXAMPLES / "thermostat_old_style.py"), str(port), str(pause)]
    with Child(words, folder, env=python_environment()) as server:
        await_listener(server, port)
        yield port
        assert "Traceback" not in server.stderr, server.stderr


def launcher(path: Path, script: Path) -> str:
    """Write a program that runs a Python script with this interpreter and this source tree, for servers to start."""
    paths = python_environment()["PYTHONPATH"]
    return str(executable(path, f"#!/bin/sh\nPYTHONPATH='{paths}' exec '{sys.executable}' '{script}'\n"))


def getprop(program: Callable[[str], str], port: int, *names: str, devices: Collection[str] = ()) -> list[str]:
    """Return the lines that indi_getprop prints about some properties, by default about all of them.

    With wildcards, the tool cannot know when it has everything, and always ends after a given time: it is called, each
    time for longer, until two successive answers name the same properties, and all of these devices. A driver that a
    busy machine does not let run has none in any number of answers.
    """

    def ask(seconds: float) -> list[str]:
        words = [program("indi_getprop"), "-p", str(port), "-t", f"{seconds:.0f}", *names]
        return subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT, check=False).stdout.splitlines()

    if names and not any("*" in name for name in names):
        return ask(LIMIT)
    answers = [ask(1)]

    def settled() -> bool:
        answers.append(ask(len(answers)))
        last, before = ({line.split("=")[0] for line in answer} for answer in (answers[-1], answers[-2]))
        return bool(last) and last == before and {name.split(".")[0] for name in last} >= set(devices)

    until(settled, what="the same properties twice")
    return answers[-1]
