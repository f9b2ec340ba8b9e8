"""Full stack: frames from a driver with NumPy arrays through a server to a client with NumPy arrays.

`python -m benchmarks.stack [--runs 5] [--seconds 5] [--size 4194304] [--unix_size 33554432]`

Three processes: the driver is an executable driver of the server. It writes every byte of every frame anew. The client
looks at every page (“read”) or only at the first value (“map”); a damaged frame, or one out of order, fails the run.
Figures are MB/s of raw content. Each stack is first tried at several paces (1, 2, 4 or 8 frames in flight, or as fast
as frames are taken), then measured at its best one. After that, the same programs compare 100 frames byte by byte.

“TCP” is TCP over loopback, on which frames are raw, or base64 in the column “{base64}”. Over the “Unix socket”, BLOBs
are attached: they are memory that driver and client share. No server touches it, so driver and client decide how fast
that is; the C++ server stands between indifast's driver and client, too.
The Python peers are indipydriver, indipyserver and indipyclient.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.program import COMPARED, Failed, Program, Run, Settings, main, tell
from benchmarks.results import CPP, OURS, OURS_BASE64, OURS_UVLOOP, PYTHON_PEER, Bound, Goal, Row

PACES = (1, 2, 4, 8)
AS_TAKEN = 0
FOLLOW = -1
MANY = 10

TCP = "TCP, 1 client, read"
UNIX = "Unix socket, 1 client, read"
UNIX_MANY = f"Unix socket, {MANY} clients, map, total"


@dataclass(frozen=True)
class Stack:
    """A driver, a server and a client."""

    server: peers.Server
    python: str = sys.executable
    driver: str = "indifast"
    client: str = "indifast.client"
    paces: Sequence[int] = (*PACES, AS_TAKEN)
    local: bool = True
    environment: Mapping[str, str] | None = None

    @contextmanager
    def serving(self, size: int, unix: bool) -> Iterator[tuple[str, int]]:
        """Run the server with the driver; yield the address for clients."""
        program = executable(self.python, "stack_camera", self.driver, str(size))
        name = f"/tmp/indifast-benchmark-{os.getpid()}"
        options = {"unix": name} if self.local else {}
        with self.server(str(program), environment=self.environment, **options) as (port, _):
            yield (f"unix:{name}" if unix else "127.0.0.1"), port

    def receive(
        self, at: tuple[str, int], size: int, look: str, ahead: int, seconds: float, *, go_on: bool = False
    ) -> subprocess.Popen[str]:
        """Start a client; see `stack_receiver.py` for the arguments. With `go_on`, `told_by` ends it."""
        arguments = [*map(str, at), str(size), look, str(ahead), str(seconds), *(["on"] if go_on else [])]
        return subprocess.Popen(
            [self.python, "-m", "benchmarks.stack_receiver", self.client, *arguments],
            cwd=peers.HERE.parent,
            env={**os.environ, **(self.environment or {})},
            stdin=subprocess.PIPE if go_on else None,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCHMARK_STDERR") else subprocess.PIPE,
            text=True,
        )


def executable(python: str, module: str, *arguments: str) -> Path:
    """Make a program that runs a module of this folder, because servers start drivers without arguments."""
    peers.BUILD.mkdir(parents=True, exist_ok=True)
    path = peers.BUILD / "_".join([module, *arguments])
    words = [python, "-m", f"benchmarks.{module}", *arguments]
    with peers.made_anew(path) as new:
        new.write_text(f"#!/bin/sh\ncd {shlex.quote(str(peers.HERE.parent))} && exec {shlex.join(words)}\n")
    return path


def installed() -> dict[str, Stack]:
    """Return the stacks that can be measured here, by name."""
    servers = peers.servers(queue=2000)
    stacks = {OURS: Stack(servers[OURS])}
    stacks[OURS_BASE64] = Stack(peers.serving_base64, local=False)
    if OURS_UVLOOP in servers:
        stacks[OURS_UVLOOP] = Stack(servers[OURS_UVLOOP], environment={"BENCHMARK_UVLOOP": "1"})
    if CPP in servers:
        stacks[CPP] = Stack(servers[CPP])
    if PYTHON_PEER in servers:
        python = str(peers.python_peer())
        stacks[PYTHON_PEER] = Stack(servers[PYTHON_PEER], python, "indipydriver", "indipyclient", PACES, local=False)
    return stacks


def told_by(client: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """Wait for a client to end, and return its figures.

    Raises:
        Failed: Frames were damaged or lost, or stopped coming.
    """
    try:
        out, errors = client.communicate(timeout=seconds + 150)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        raise Failed("a client did not end") from None
    if client.returncode or not out.strip():
        last = (errors or "").strip().splitlines()[-3:]
        raise Failed(f"a client ended with status {client.returncode} and without a result: {' / '.join(last)}")
    result: dict[str, Any] = json.loads(out)
    if result["wrong"] or not result["frames"]:
        raise Failed("{wrong} of {frames} frames damaged or out of turn".format(**result))
    return result


def one(stack: Stack, size: int, unix: bool, look: str, ahead: int, seconds: float) -> dict[str, float]:
    """Make one run with one client: MB/s."""
    with stack.serving(size, unix) as at:
        result = told_by(stack.receive(at, size, look, ahead, seconds), seconds)
    return {"rate": result["raw_bytes"] / result["seconds"] / 1e6}


def many(stack: Stack, size: int, unix: bool, look: str, ahead: int, seconds: float) -> dict[str, float]:
    """Make one run with many clients, of which one requests the frames: MB/s of all together."""
    with stack.serving(size, unix) as at:
        clients = [stack.receive(at, size, look, FOLLOW, seconds) for _ in range(MANY - 1)]
        try:
            for client in clients:
                assert client.stdout is not None
                if client.stdout.readline().strip() != "ready":
                    raise Failed("a client did not start")
            clients.append(stack.receive(at, size, look, ahead, seconds, go_on=True))  # until the others are done
            results = [told_by(client, seconds) for client in clients]
        finally:
            for client in clients:
                client.kill()
                client.wait()
    return {"rate": sum(result["raw_bytes"] / result["seconds"] for result in results) / 1e6}


def best_pace(label: str, name: str, stack: Stack, size: int, unix: bool) -> int:
    """Return the pace at which a stack is fastest, among those at which it loses nothing."""
    rates: dict[int, float] = {}
    for ahead in stack.paces:
        tell(f"{label}, finding the best pace: {name}, {ahead or 'as fast as taken'}")
        try:
            rates[ahead] = one(stack, size, unix, "read", ahead, 1.0)["rate"]
        except Failed as why:
            tell(f"  failed: {why}")
    return max(rates, key=lambda ahead: rates[ahead], default=stack.paces[0])


def row_of(
    settings: Settings, label: str, stacks: Mapping[str, Stack], size: int, unix: bool
) -> tuple[Row, dict[str, int]]:
    """Measure with one client that reads; return the row, and the pace of each stack."""
    paces = {name: best_pace(label, name, stack, size, unix) for name, stack in stacks.items()}
    runs: dict[str, Run] = {
        name: partial(one, stack, size, unix, "read", paces[name]) for name, stack in stacks.items()
    }
    return compared(settings.turns(label, runs).row("rate", label, "MB/s raw"), stacks, paces, size, unix), paces


def compared(row: Row, stacks: Mapping[str, Stack], paces: Mapping[str, int], size: int, unix: bool) -> Row:
    """Compare every byte of `COMPARED` frames in a second pass. A contender that fails it has failed in this row."""
    frames, failures = dict(row.frames), {name: list(whys) for name, whys in row.failures.items()}
    for name, stack in stacks.items():
        tell(f"{row.title}, {COMPARED} frames compared byte by byte: {name}")
        try:
            one(stack, size, unix, "compare", paces[name], COMPARED)
        except Failed as why:
            tell(f"  failed: {why}")
            failures.setdefault(name, []).append(str(why))
        else:
            frames[name] = COMPARED
    return replace(row, frames=frames, failures=failures)


def measure(settings: Settings) -> Iterable[Row]:
    stacks = installed()
    yield row_of(settings, TCP, stacks, settings.options["size"], unix=False)[0]
    local = {name: stack for name, stack in stacks.items() if stack.local}
    size = settings.options["unix_size"]
    row, paces = row_of(settings, UNIX, local, size, unix=True)
    yield row
    runs: dict[str, Run] = {name: partial(many, stack, size, True, "map", paces[name]) for name, stack in local.items()}
    yield settings.turns(UNIX_MANY, runs).row("rate", UNIX_MANY, "MB/s raw")


PROGRAM = Program(
    "stack",
    "Full stack: Python driver, server and client",
    (__doc__ or "").format(base64=OURS_BASE64),
    measure,
    timed=14,
    options={"size": 4 << 20, "unix_size": 32 << 20},
    goals=(
        Goal(TCP, ">=", (Bound(1.5, OURS_BASE64), Bound(6, PYTHON_PEER))),
        Goal(UNIX, ">=", (Bound(0.95, CPP),)),
        Goal(UNIX_MANY, ">=", (Bound(8, OURS, UNIX),)),
    ),
)

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
