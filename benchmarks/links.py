"""Frames and commands over links with a rate and a delay: frames per second, age of a frame, time of a command, memory.

`python -m benchmarks.links [--runs 5] [--seconds 5] [--rates 20,100,1000,unlimited] [--delays 0,20,100]
[--content stars,noise,video] [--topology direct,chain] [--tls 0,1] [--only indifast,indiserver] [--side 2048]
[--camera 3]`

All other figures run over loopback, which hides what a link costs. Here, TCP runs from end to end between two network
namespaces: over a token bucket with a queue of 20 ms, and, where a row has a delay, a program that holds packets back
that long in each direction (`network.py`).

* The driver (`csrc/wire.c`) writes frames three times as fast as the link takes them as base64. With `--camera 0`, and
  to a link without a rate, as fast as they are taken. Frames are FITS files of a star field (16 bit, 2048 x 2048),
  as much noise, or 8-bit video (1280 x 960). The client compares every byte. A run takes at least four frame times at
  the rate of its link, and does not go on until it has 100 frames.
* “Frames left out”: of those that the driver wrote. A server may replace a frame that waits by a newer one, or let the
  driver wait. What is left out is not wrong; a changed byte is.
* The age of a frame is the time from when the driver begins to write it until the client has all of it: what waits in
  the driver, in the server and in the sockets counts.
* Commands go to a second driver of the same server while the frames flow: on the connection of the frames, where an
  answer can only come between two frames (the slowest of a run), and on a connection of another client (the median, and
  the slowest of a hundred). With two servers, both connections share the link, which only servers use.
* Memory is the peak of the server above idle, of the larger one if there are two.

“2 servers” is server, link, server, client; otherwise the client is behind the link. indifast's servers agree on raw
frames there, and on compression, if its libraries are installed; “{base64}” is without, and “{plain}” has raw frames
only. The C++ server (1.9.9) reads what comes from another server eight bytes at a time, a few MB per second. With TLS
it is the link that is encrypted, by TLS 1.3 with AES-256-GCM in records of 16 KiB; “no server” is then a C program over
OpenSSL that only sends. The peers have no TLS.

Without an option, the program takes a choice of all combinations, without the slowest contenders in some; with any of
`--rates`, `--delays`, `--content`, `--topology` and `--tls`, all combinations of what these options say. TCP's
congestion control is cubic, or what this machine uses if its kernel keeps cubic from namespaces. What the machine
cannot do is listed as not measured: namespaces need root, or a kernel that gives them to users; without them, only
loopback remains.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks import network, peers
from benchmarks.curves import draw_curves
from benchmarks.network import Speed
from benchmarks.peers import Place
from benchmarks.processes import Peaks, wait_until_quiet
from benchmarks.program import Failed, Program, Run, Settings, main, tell
from benchmarks.results import (
    CPP,
    KERNEL,
    OURS_BASE64,
    OURS_PLAIN,
    OURS_UVLOOP,
    PYTHON_PEER,
    Bound,
    Goal,
    Plot,
    Result,
    Row,
)
from indifast.cli.demo.starfield import StarField

STARS, NOISE, VIDEO = "stars", "noise", "video"
DIRECT, CHAIN = "direct", "chain"
UNLIMITED = "unlimited"
TITLES = {STARS: "star field", NOISE: "noise", VIDEO: "video"}

VIDEO_SHAPE = (960, 1280)
DISTINCT = 4
"""Frames in a file for `csrc/wire.c`."""
FRAME_TIMES = 4
CAMERA = 3
PAUSE = 10_000
"""Microseconds between an answer and the next command."""

FRAMES, LEFT_OUT, AGE, SAME, OTHER, OTHER_SLOW, MEMORY = (
    "frame rate",
    "frames left out",
    "age of a frame",
    "slowest command, same connection",
    "command, other connection",
    "command, other connection, 99 %",
    "memory",
)
FIGURES = {
    FRAMES: ("per s", 2),
    LEFT_OUT: ("%", 0),
    AGE: ("ms", 1),
    SAME: ("ms", 1),
    OTHER: ("ms", 2),
    OTHER_SLOW: ("ms", 1),
    MEMORY: ("MB", 1),
}
"""Unit and decimal places."""


@dataclass(frozen=True)
class Case:
    """What one group of rows is about."""

    speed: Speed
    content: str = STARS
    chain: bool = False
    tls: bool = False

    def __str__(self) -> str:
        parts = [TITLES[self.content], str(self.speed)]
        return ", ".join(parts + ["2 servers"] * self.chain + ["TLS"] * self.tls)

    @property
    def x(self) -> float | None:
        """The place on the curves by rate, for the cases that differ in nothing else."""
        return self.speed.rate or None if self == Case(Speed(self.speed.rate)) else None


FAST = Speed(1000)
CHOICE = (
    *(Case(Speed(rate)) for rate in (20, 100, 1000, 0)),
    *(Case(speed) for speed in (Speed(100, 20), Speed(1000, 20), Speed(100, 100))),
    *(Case(Speed(100), content) for content in (NOISE, VIDEO)),
    *(Case(speed, chain=True) for speed in (Speed(20), Speed(100), Speed(100, 20), FAST)),
    Case(FAST, NOISE, chain=True),
    *(Case(Speed(rate), tls=True) for rate in (100, 1000, 0)),
)
QUICK = (Case(Speed(1000), VIDEO),)


def left_out_of_choice(case: Case) -> set[str]:
    """Return who is left out of the choice in a case: a run would take long, and say what other cases say, too.

    indipyserver takes seconds for a frame on any link. For the C++ server behind a fast link, see above.
    """
    python = case.speed.delay or case.content != STARS or (case.chain and case.speed != Speed(100))
    return ({PYTHON_PEER} if python else set()) | ({CPP} if case.chain and case.speed == FAST else set())


LOOPBACK = Case(Speed())
"""What can be had without namespaces."""


@cache
def own_folder() -> Path:
    """Make a folder for files of this process, which may not be the only one that measures; it goes at the end."""
    peers.BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="links-", dir=peers.BUILD))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def frames_file(content: str, side: int) -> Path:
    """Make the file with the frames of this content, for `WIRE_FRAMES`."""
    random = np.random.default_rng(7)
    sky = StarField(side, side, stars=500)
    if content == STARS:
        frames = [bytes(sky.frame()) for _ in range(DISTINCT)]
    elif content == NOISE:
        frames = [random.bytes(len(sky.frame())) for _ in range(DISTINCT)]
    else:
        frames = [disc(random, number).tobytes() for number in range(DISTINCT)]
    path = own_folder() / f"{content}-{side}"
    path.write_bytes(b"".join(frames))
    return path


def disc(random: np.random.Generator, number: int) -> np.ndarray:
    """Return a picture of 8-bit video: a planet that moves a little on a noisy background."""
    rows, columns = np.ogrid[: VIDEO_SHAPE[0], : VIDEO_SHAPE[1]]
    distance = np.hypot(rows - VIDEO_SHAPE[0] / 2 - number, columns - VIDEO_SHAPE[1] / 2 + 2 * number)
    light = 160 / (1 + np.exp((distance - 200) / 3)) + random.normal(12, 4, VIDEO_SHAPE)
    return np.clip(light, 0, 255).astype(np.uint8)


OF_OTHER, OF_SAME = "Small", "Beside"
"""Devices for the commands of another client, and for those on the connection of the frames (`csrc/wire.c`)."""


@cache
def small_driver(device: str) -> Path:
    """Return the path of a driver that answers the commands of this device."""
    path = own_folder() / device.lower()
    path.write_text(f"#!/bin/sh\nSMALL_DEVICE={device} exec {shlex.quote(str(peers.compile_c('small')))}\n")
    path.chmod(0o755)
    return path


@cache
def certificate() -> Path:
    """Make a file with a certificate for the places of a link and its key."""
    path = own_folder() / "link.pem"
    names = "subjectAltName=" + ",".join(f"IP:{host}" for host in ("10.77.0.1", "10.77.0.2", "127.0.0.1"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=link", "-addext", names]
    done = subprocess.run([*command, "-keyout", "-", "-out", "-"], capture_output=True, check=True)
    path.write_bytes(done.stdout)
    return path


@dataclass(frozen=True)
class Measurement:
    """One timed run of a case."""

    case: Case
    frames: Path
    seconds: float
    pace: float
    """Seconds from a frame of the driver to the next one, at least."""

    @property
    def environment(self) -> dict[str, str]:
        """Of the driver and of the client of the frames."""
        pace = round(self.pace * 1e6)
        return {"WIRE_FRAMES": str(self.frames), "WIRE_ENCLEN": "1", "WIRE_STAMP": "1", "WIRE_PACE": str(pace)}

    @contextmanager
    def joined(self) -> Iterator[tuple[Place, Place]]:
        """Yield the two ends of the link."""
        if self.case.speed == LOOPBACK.speed and not namespaces():
            with network.loopback() as places:
                yield places
        else:
            with network.link(self.case.speed) as places:
                yield places

    def client(
        self, program: str, arguments: Sequence[str], host: str, at: Place, **environment: str
    ) -> subprocess.Popen[str]:
        """Start one of the C clients."""
        secure = self.case.tls and not self.case.chain
        return subprocess.Popen(
            [*at.enter, str(peers.compile_c(program, tls=secure)), *arguments],
            env={
                **os.environ,
                **self.environment,
                **environment,
                "SERVER_HOST": host,
                **({"TLS_TRUST": str(certificate())} if secure else {}),
            },
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCHMARK_STDERR") else subprocess.PIPE,
            text=True,
        )

    def ask(self, port: int, device: str, seconds: float, host: str, at: Place) -> dict[str, Any]:
        """Send commands on a connection of their own; return {} if there was no answer."""
        child = self.client("small", ["ask", str(port), device, f"{seconds:g}", str(PAUSE)], host, at)
        with peers.ended([child]):
            return peers.told_by(child, seconds + 60)

    def receive(self, port: int, host: str, at: Place, *, commands: bool) -> dict[str, float]:
        """Receive frames, and send commands meanwhile; return the figures of the clients.

        Raises:
            Failed: Frames were changed, or did not come.
        """
        arguments = ["receive", str(port), f"{self.seconds:g}"]
        child = self.client("wire", arguments, host, at, WIRE_ASK=str(int(commands)))
        with peers.ended([child]):
            other = self.ask(port, OF_OTHER, self.seconds * 0.8, host, at) if commands else {}
            try:
                out, errors = child.communicate(timeout=self.seconds + 150)
            except subprocess.TimeoutExpired:
                raise Failed("the client did not end") from None
        if not out.strip():
            raise Failed(f"the client had no result: {(errors or '').strip()}")
        result = json.loads(out)
        frames, missed = result["frames"], result["missed"]
        if result["wrong"] or frames < 2 or result["seconds"] < self.seconds:
            raise Failed("{wrong} of {frames} frames damaged, the last one after {seconds:.1f} s".format(**result))
        figures = {
            FRAMES: (frames - 1) / result["between"],
            LEFT_OUT: 100 * missed / (frames + missed),
            AGE: result["age"] * 1e3,
        }
        if commands:
            figures[SAME] = result["slowest"] * 1e3
        if other:
            figures[OTHER] = other["p50"] / 1e3
            figures[OTHER_SLOW] = other["p99"] / 1e3
        return figures

    def server(self, name: str, server: peers.Server) -> dict[str, float]:
        """Measure a server, or two."""
        served = {"options": ["--certificate", str(certificate())]} if self.case.tls else {}
        trusting = {"options": ["--trust", str(certificate())]} if self.case.tls else {}
        with ExitStack() as stack:
            drivers = [peers.compile_c("wire"), small_driver(OF_OTHER), small_driver(OF_SAME)]
            near, far = stack.enter_context(self.joined())
            host = near.host
            port, pid = stack.enter_context(server(*map(str, drivers), environment=self.environment, at=near, **served))
            pids = [pid]
            if self.case.chain:
                devices = ("Wire", OF_OTHER, OF_SAME) if name == CPP else ("",)  # the C++ server wants names
                remotes = [f"{device}@{near.host}:{port}" for device in devices]
                port, pid = stack.enter_context(server(*remotes, at=far, **trusting))
                pids.append(pid)
                host = far.host
            wait_until_quiet(pids)
            peaks = Peaks(pids)
            figures = self.receive(port, host, far, commands=True)
            return {**figures, MEMORY: max(peaks.bytes()) / 1e6}

    def bare(self) -> dict[str, float]:
        """Measure a C program that only sends."""
        secure = {"TLS_CERTIFICATE": str(certificate())} if self.case.tls else {}
        with self.joined() as (near, far):
            driver = peers.compile_c("wire", tls=self.case.tls)
            with peers.nothing(driver, {**self.environment, **secure}, at=near) as port:
                return self.receive(port, near.host, far, commands=False)


@dataclass(frozen=True)
class Course:
    """How a case is measured. `camera`: the rate of the driver in rates of the link; 0 for as fast as it can."""

    case: Case
    frames: Path
    camera: int
    quick: bool

    def run(self, name: str, server: peers.Server | None, seconds: float) -> dict[str, float]:
        """Make one run with at least `FRAME_TIMES` frames at the rate of the link."""
        rate, pace = self.case.speed.rate, 0.0
        if rate:
            bits = self.frames.stat().st_size / DISTINCT * 4 / 3 * 8
            time_of_frame = bits / (rate * 1e6)
            pace = time_of_frame / self.camera if self.camera > 0 else 0.0
            seconds = seconds if self.quick else max(seconds, FRAME_TIMES * time_of_frame)
        measurement = Measurement(self.case, self.frames, seconds, pace)
        return measurement.server(name, server) if server else measurement.bare()


@cache
def namespaces() -> bool:
    """Return whether links can be made here."""
    return not network.missing(Speed())


@cache
def openssl() -> str:
    """Return why the C programs have no TLS; empty if they have."""
    try:
        peers.compile_c("wire", tls=True)
        peers.compile_c("small", tls=True)
        certificate()
    except (OSError, subprocess.CalledProcessError) as why:
        return f"no OpenSSL, or none of its headers ({why})"
    return ""


def lacking(case: Case, known: dict[bool, str]) -> str:
    """Return why a case cannot be measured here; empty if it can."""
    if case.tls and openssl():
        return openssl()
    if case.speed == LOOPBACK.speed and not namespaces():
        return ""
    delayed = bool(case.speed.delay)
    if delayed not in known:
        known[delayed] = network.missing(Speed(100, 1 if delayed else 0))
    return known[delayed]


T = TypeVar("T")


def chosen(text: str, otherwise: T, known: Callable[[str], T]) -> list[T]:
    """Return the values of an option; `otherwise` if it is not given."""
    try:
        return [known(word.strip()) for word in text.split(",")] if text else [otherwise]
    except (KeyError, ValueError) as why:
        raise SystemExit(f"not understood: {text!r} ({why})") from None


def cases(options: Mapping[str, Any], quick: bool) -> Sequence[Case]:
    """Return what is measured."""
    texts = {name: options.get(name, "") for name in ("rates", "delays", "content", "topology", "tls")}
    if not any(texts.values()):
        return QUICK if quick else CHOICE
    rates = chosen(texts["rates"], 100.0, lambda word: 0.0 if word == UNLIMITED else float(word))
    delays = chosen(texts["delays"], 0.0, float)
    contents = chosen(texts["content"], STARS, lambda word: {name: name for name in TITLES}[word])
    chains = chosen(texts["topology"], False, lambda word: {DIRECT: False, CHAIN: True}[word])
    secures = chosen(texts["tls"], False, lambda word: {"0": False, "1": True}[word])
    return [
        Case(Speed(rate, delay), content, chain, tls)
        for content, chain, tls, delay, rate in product(contents, chains, secures, delays, rates)
    ]


def contenders(case: Case, only: str, quick: bool) -> dict[str, peers.Server | None]:
    """Return the servers that can be measured in a case, by name; None stands for no server."""
    found: dict[str, peers.Server | None] = {
        **peers.servers(queue=2000),
        OURS_BASE64: peers.serving_base64,
        OURS_PLAIN: peers.serving_plain,
        KERNEL: None,
    }
    left_out = {PYTHON_PEER} if quick else set()
    if case.chain:
        left_out.add(KERNEL)
    if case.tls or not case.chain:
        left_out |= {OURS_BASE64, OURS_PLAIN}
    if case.tls:
        left_out |= {CPP, PYTHON_PEER}
    words = [word.strip() for word in only.split(",")] if only else []
    if unknown := [word for word in words if not any(name.startswith(word) for name in (*found, CPP, PYTHON_PEER))]:
        raise SystemExit(f"--only: no contender begins with {unknown[0]!r} (here: {', '.join(found)})")
    if OURS_UVLOOP not in words:
        left_out.add(OURS_UVLOOP)
    wanted = [name for name in found if not words or name.startswith(tuple(words))]
    return {name: found[name] for name in wanted if name not in left_out}


def measure(settings: Settings) -> Iterable[Row]:
    only, side = settings.options.get("only", ""), settings.options.get("side", 2048)
    known: dict[bool, str] = {}
    wanted = cases(settings.options, settings.quick)
    for case in wanted:
        if why := lacking(case, known):
            tell(f"{case}: not measured: {why}")
            yield Row(f"{case}: not measured: {why}", "", {})
            continue
        frames = frames_file(case.content, side)
        title = f"{case}, loopback" if case.speed == LOOPBACK.speed and not namespaces() else str(case)
        course = Course(case, frames, settings.options.get("camera", CAMERA), settings.quick)
        left_out = left_out_of_choice(case) if wanted is CHOICE and not only else ()
        runs: dict[str, Run] = {
            name: partial(course.run, name, server)
            for name, server in contenders(case, only, settings.quick).items()
            if name not in left_out
        }
        turns = settings.turns(title, runs)
        for figure, (unit, digits) in FIGURES.items():
            row = turns.row(figure, f"{title}: {figure}", unit, digits=digits, x=case.x)
            yield row if figure == FRAMES else replace(row, failures={})


def draw(result: Result, folder: Path) -> list[Plot]:
    """Draw curves by rate: frames per second, age of a frame, time of a command."""
    plots = []
    for title, name in ((FRAMES, "frames"), (AGE, "age"), (SAME, "command")):
        rows = [row for row in result.rows if row.x is not None and row.title.endswith(f": {title}")]
        if not rows:
            continue
        file, unit = f"links-{name}.png", rows[0].unit
        draw_curves(folder / file, result, rows, title=title, axis="Mbit/s of the link", unit=unit)
        plots.append(Plot(file, f"{title} by the rate of a link, {unit}"))
    return plots


PROGRAM = Program(
    "links",
    "Links: rate and delay",
    (__doc__ or "").format(base64=OURS_BASE64, plain=OURS_PLAIN),
    measure,
    timed=57,
    overhead=8,
    options={
        "rates": "",
        "delays": "",
        "content": "",
        "topology": "",
        "tls": "",
        "only": "",
        "side": 2048,
        "camera": CAMERA,
    },
    draw=draw,
    goals=(
        Goal(f"{Case(FAST, chain=True)}: {FRAMES}", ">=", (Bound(2.25, OURS_BASE64),)),
        Goal(f"{Case(FAST, NOISE, chain=True)}: {FRAMES}", ">=", (Bound(1.3, OURS_BASE64),)),
        Goal(f"{Case(Speed(20), chain=True)}: {OTHER_SLOW}", "<=", (Bound(150),)),
        *(Goal(f"{case}: {AGE}", "<=", (Bound(1.05, OURS_PLAIN),)) for case in CHOICE if case.chain and not case.tls),
    ),
    apart=True,
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
