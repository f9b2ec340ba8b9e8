"""Measurements of `indifast bench`: sections of rows, and the turns that produce their figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indifast.cli.bench.children import PATIENCE, Children, TurnFailed, driver_script, free_port

CONTENDERS = ("indifast", "indiserver", "no server")

Cell = tuple[str, str]
"""Row and contender."""


@dataclass(frozen=True)
class Section:
    """Rows that share a unit.

    Attributes:
        peer: The contender that indifast is compared with.
        falling: Whether smaller figures are better.
    """

    name: str
    title: str
    unit: str
    digits: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    peer: str | None = None
    falling: bool = False


SECTIONS = (
    Section(
        "codec",
        "base64 of 4 MiB",
        "GB/s",
        1,
        ("encode", "decode", "decode, lines of 72", "encode, same buffer", "decode, same buffer"),
        ("indifast", "pybase64", "memcpy"),
        "pybase64",
    ),
    Section(
        "relay",
        "frames of 4 MiB, program to server to client over TCP",
        "MB/s on the wire",
        0,
        ("with enclen, as C++ drivers send", "without, as Python drivers send"),
        CONTENDERS,
        "indiserver",
    ),
    Section(
        "stack",
        "NumPy frames of 4 MiB, driver to server to client, all in Python",
        "MB/s of pixels",
        0,
        ("TCP", "Unix socket"),
        ("indifast",),
    ),
    Section(
        "latency",
        "client to server to program and back over TCP",
        "µs",
        0,
        ("command and answer, median", "command and answer, 99 %"),
        CONTENDERS,
        "indiserver",
        falling=True,
    ),
)

Figures = dict[Cell, float]


@dataclass(frozen=True)
class Turn:
    """A measurement: a part of a section, for one contender."""

    section: str
    label: str
    cells: tuple[Cell, ...]
    run: Callable[[Children, float], Figures]
    """Called with the processes and the seconds to measure. Raises TurnFailed."""


def turns(only: Sequence[str], indiserver: str | None, folder: Path) -> list[Turn]:
    """Return one round of all measurements in `only`, in which the contenders of a row follow each other.

    Args:
        only: Names of the wanted sections.
        indiserver: Path of the C++ server; None if there is none.
        folder: A directory for the drivers' scripts.
    """
    contenders = [name for name in CONTENDERS if name != "indiserver" or indiserver]
    made: list[Turn] = []
    rows = {section.name: section.rows for section in SECTIONS}
    if "codec" in only:
        cells = tuple((row, "indifast") for row in rows["codec"])
        made.append(Turn("codec", "codec", cells, _codec))
    wire = driver_script(folder, "indifast.cli.bench.wire")
    if "relay" in only:
        for row, enclen in zip(rows["relay"], "10", strict=True):
            for name in contenders:
                relay = _between(name, indiserver, wire, "receive", enclen)
                made.append(Turn("relay", f"relay, {name}", ((row, name),), _in_cells(relay, ((row, name),))))
    if "stack" in only:
        camera = driver_script(folder, "indifast.cli.bench.camera")
        for row in rows["stack"]:
            cell = ((row, "indifast"),)
            made.append(
                Turn("stack", f"full stack, {row}", cell, _in_cells(_stack(camera, row == "Unix socket"), cell))
            )
    if "latency" in only:
        for name in contenders:
            cells = tuple((row, name) for row in rows["latency"])
            command = _between(name, indiserver, wire, "command", "0")
            made.append(Turn("latency", f"latency, {name}", cells, _in_cells(command, cells)))
    return made


Measurement = Callable[[Children, float], list[float]]


def _in_cells(measure: Measurement, cells: tuple[Cell, ...]) -> Callable[[Children, float], Figures]:
    """Assign the figures of a measurement to these cells."""
    return lambda children, seconds: dict(zip(cells, measure(children, seconds), strict=True))


def _codec(children: Children, seconds: float) -> Figures:
    result = _result(children, seconds, "indifast.cli.bench.codec", str(seconds))
    return {(row, name): float(figure) for row, name, figure in result}


def _between(name: str, indiserver: str | None, driver: Path, client: str, enclen: str) -> Measurement:
    """Return a measurement of a plain driver and a plain client, with a server or nothing between them."""

    def measure(children: Children, seconds: float) -> list[float]:
        environment = {
            "INDIFAST_BENCH_FRAMES": str(children.folder),
            "INDIFAST_BENCH_ENCLEN": enclen,
            "INDIFAST_BENCH_LIMIT": str(int(seconds + 3 * PATIENCE)),
        }
        if name == "no server":
            port = int(children.line(children.start(str(driver), "listen", environment=environment), "the sender"))
        elif name == "indifast":
            server = children.python("indifast.cli.bench.server", str(driver), environment=environment)
            port = int(children.line(server, "the server"))
        else:
            assert indiserver is not None
            port = free_port()
            # The queue is large enough that no client is disconnected for being slow; indiserver ends with its driver.
            options = ("-p", str(port), "-u", str(children.folder / "socket"), "-m", "2000", "-r", "0")
            server = children.start(indiserver, *options, str(driver), environment=environment)
            children.wait_for_port(port, server, "indiserver")
        words = (client, str(port), str(seconds))
        return [float(each) for each in _result(children, seconds, "indifast.cli.bench.wire", *words, **environment)]

    return measure


def _stack(camera: Path, local: bool) -> Measurement:
    def measure(children: Children, seconds: float) -> list[float]:
        path = str(children.folder / "socket")
        server = children.python("indifast.cli.bench.server", str(camera), *([path] if local else []))
        port = children.line(server, "the server").strip()
        words = ("view", path if local else "127.0.0.1", port, str(seconds))
        return [float(each) for each in _result(children, seconds, "indifast.cli.bench.camera", *words)]

    return measure


def _result(children: Children, seconds: float, module: str, *words: str, **environment: str) -> list[Any]:
    """Run a measuring program, and return the figures that it prints as JSON.

    Raises:
        TurnFailed: Something was wrong.
    """
    client = children.python(module, *words, environment=environment)
    result = json.loads(children.line(client, "the client", seconds + 3 * PATIENCE))
    if result["faults"]:
        raise TurnFailed("; ".join(result["faults"]))
    figures: list[Any] = result["figures"]
    return figures


def find_indiserver() -> tuple[str | None, str]:
    """Return the path and release of the C++ server, or None and the reason if there is none."""
    path = shutil.which("indiserver")
    if path is None:
        return None, "not found"
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return path, "unknown release"
    if done.stdout.startswith("indifast"):
        return None, f"{path} is indifast itself"
    release = re.search(r"INDI Library: (\S+)", done.stdout + done.stderr)
    return path, release[1] if release else "unknown release"
