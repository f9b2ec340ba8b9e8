"""A process that is out of memory reads later what it can't read now, and discards large unfinished messages.

This file is also the program that runs out of memory: `python -m tests.transport.test_out_of_memory CASE LOOP`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from indifast.client.connection import Connection
from indifast.driver.streamlink import StreamLink
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.transport.files import FileStream
from indifast.transport.process import spawn
from indifast.transport.stream import MEMORY_PAUSE, SocketStream, Stream, read_buffer
from tests.support.blackbox import LIMIT
from tests.support.loops import LOOPS, on_every_loop, run_on
from tests.support.sockets import tcp_pair, unix_pair
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
PAIRS = {"unix": unix_pair, "tcp": tcp_pair}


def limit_memory(more: int) -> None:
    """Limit this process to `more` bytes beyond those that it has now."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))


def take_all() -> list[Any]:
    """Limit the memory, and take receive buffers until it is used up."""
    buffer, taken = read_buffer(), []
    limit_memory(8 * MIB)
    try:
        while True:
            block, room = buffer.room()
            taken.append(block)
            buffer.fill(len(room))
    except MemoryError:
        return taken


def counted(function: Callable[[], None]) -> tuple[Callable[[], None], list[float]]:
    """Return a function that does the same, and a list to which it adds the time of each call."""
    calls: list[float] = []

    def counting() -> None:
        calls.append(time.monotonic())
        function()

    return counting, calls


async def reads_later(kind: str) -> None:
    """No input is lost, and the loop does not try to read it in every iteration."""
    say: Callable[[bytes], object]
    stream: Stream
    if kind == "pipe":
        source, sink = os.pipe()
        os.set_blocking(source, False)
        stream = FileStream(source, os.open("/dev/null", os.O_WRONLY), "pipe")
        say = partial(os.write, sink)
    elif kind == "file":
        with tempfile.TemporaryFile() as file:
            file.write(b"hello")
            file.seek(0)
            source = os.dup(file.fileno())
        stream = FileStream(source, os.open("/dev/null", os.O_WRONLY), "file")
        say = len  # the content is there already
    else:
        ours, theirs = PAIRS[kind]()
        stream = SocketStream(ours)
        say = theirs.sendall
    got = Recorder(half_open=True)
    stream.pause_reading()
    stream.start(got, Pieces())
    await asyncio.sleep(0)
    stream._read_later, attempts = counted(stream._read_later)  # type: ignore[method-assign]
    taken = take_all()
    say(b"hello")
    stream.resume_reading()
    await eventually(lambda: len(attempts) >= 3)
    assert all(later - earlier > MEMORY_PAUSE / 2 for earlier, later in pairwise(attempts))
    assert not got.data and not got.lost
    taken.clear()
    limit_memory(64 * MIB)
    await eventually(lambda: got.data == b"hello")
    assert not got.lost
    stream.abort()


async def gives_up(stream: Stream, say: Callable[[bytes], object], heard: Callable[[], object]) -> None:
    """A message that does not fit into memory is lost, but neither the stream nor what follows."""

    def speak() -> None:
        say(b"<newBLOBVector device='D' name='B'><oneBLOB name='b' size='200000000' format='.x'>")
        for _ in range(64):
            say(text)
        say(b"</oneBLOB></newBLOBVector><getProperties version='1.7'/>")

    text = b"QUJD" * (MIB // 4)
    speaker = threading.Thread(target=speak)
    speaker.start()
    limit_memory(32 * MIB)
    await eventually(heard)
    assert not stream.closed
    speaker.join()
    limit_memory(256 * MIB)
    stream.abort()


async def driver() -> None:
    """A driver on a Unix socket decodes inline BLOBs as they arrive."""
    ours, theirs = unix_pair()
    refused: list[str] = []
    stream = SocketStream(ours)
    link = StreamLink(stream, lambda kind, text, *args: refused.append(text % args))
    link.start()
    await gives_up(stream, theirs.sendall, lambda: (element := link.receive()) and element.tag == "getProperties")
    assert any("memory" in text for text in refused), refused


async def client() -> None:
    ours, theirs = tcp_pair()
    reports: list[str] = []
    stream = SocketStream(ours)
    connection = Connection(
        stream, DEFAULT_LIMITS, lambda: None, lambda reason, nbytes, excerpt: reports.append(reason), reports.append
    )
    connection.start()

    def heard() -> bool:
        if connection._paused:
            connection._paused = False
            stream.resume_reading()
        return any(message.tag == "getProperties" for message in connection.messages)

    await gives_up(stream, theirs.sendall, heard)
    assert any("memory" in text for text in reports), reports


async def child() -> None:
    """What a child writes to its standard error is reported when there is memory again."""
    lines: list[str] = []
    started = spawn("sh", ["-c", "read line; echo said >&2; read line"], on_stderr=lines.append)
    out = Pieces()
    out.feed(started.stream, Recorder())
    started._lines._watch, attempts = counted(started._lines._watch)  # type: ignore[method-assign]
    taken = take_all()
    filler = []
    try:
        while True:
            filler.append(bytes(16 << 10))  # less than one read takes
    except MemoryError:
        del filler[-1:]
    out.put(b"go\n")
    await eventually(lambda: len(attempts) >= 3)
    assert not lines
    taken.clear()
    filler.clear()
    await eventually(lambda: lines == ["said"])
    started.stream.abort()
    await started.stop(0)


CASES = {
    **{f"{kind} read later": lambda kind=kind: reads_later(kind) for kind in ("unix", "tcp", "pipe", "file")},
    "driver": driver,
    "client": client,
    "child": child,
}


@pytest.mark.parametrize("case", CASES)
@on_every_loop
def test_out_of_memory(case: str, loop: str) -> None:
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}  # an arena for each thread would take 64 MiB
    done = subprocess.run(
        [sys.executable, "-m", "tests.transport.test_out_of_memory", case, loop],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") < 30, done.stderr[-3000:]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    assert sys.argv[2] in LOOPS
    run_on(sys.argv[2], CASES[sys.argv[1]]())
