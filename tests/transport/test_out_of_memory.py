"""A process that finds no more memory: what it can't read it reads later, and large unfinished messages go.

This file is also the program that runs out of memory: `test_out_of_memory.py CASE LOOP`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from indifast.client.connection import Connection
from indifast.driver.streamlink import StreamLink
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.transport.files import FileStream
from indifast.transport.process import spawn
from indifast.transport.stream import MEMORY_PAUSE, SocketStream, Stream, read_buffer
from tests.support.loops import LOOPS, on_every_loop, run_on
from tests.transport.support import Pieces, Recorder, until

MIB = 1 << 20


def limit_memory(more: int) -> None:
    """So many bytes beyond those that this process has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))


def take_all() -> list[Any]:
    """Whatever receive buffers can still be had."""
    buffer, taken = read_buffer(), []
    limit_memory(8 * MIB)
    try:
        while True:
            block, room = buffer.room()
            taken.append(block)
            buffer.fill(len(room))
    except MemoryError:
        return taken


def sockets(family: str) -> tuple[socket.socket, socket.socket]:
    if family == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        return ours, listening.accept()[0]


async def reads_later(kind: str) -> None:
    """Nothing that was to be read is lost, nor read for at every turn of the loop."""
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
        say = len  # it is there already
    else:
        ours, theirs = sockets(kind)
        stream = SocketStream(ours)
        say = theirs.sendall
    got = Recorder(half_open=True)
    stream.pause_reading()
    stream.start(got, Pieces())
    await asyncio.sleep(0)
    attempts = 0
    read_later = stream._read_later

    def count() -> None:
        nonlocal attempts
        attempts += 1
        read_later()

    stream._read_later = count  # type: ignore[method-assign]
    taken = take_all()
    loop = asyncio.get_running_loop()
    began = loop.time()
    say(b"hello")
    stream.resume_reading()
    await until(lambda: attempts >= 3)
    assert attempts <= (loop.time() - began) / MEMORY_PAUSE + 1
    assert not got.data and not got.lost
    taken.clear()
    limit_memory(64 * MIB)
    await until(lambda: got.data == b"hello")
    assert not got.lost
    stream.abort()


async def gives_up(stream: Stream, say: Callable[[bytes], object], heard: Callable[[], object]) -> None:
    """A message that does not fit into memory goes, the stream and what comes behind it does not."""

    def speak() -> None:
        say(b"<newBLOBVector device='D' name='B'><oneBLOB name='b' size='200000000' format='.x'>")
        for _ in range(64):
            say(text)
        say(b"</oneBLOB></newBLOBVector><getProperties version='1.7'/>")

    text = b"QUJD" * (MIB // 4)
    speaker = threading.Thread(target=speak)
    speaker.start()
    limit_memory(32 * MIB)
    await until(heard)
    assert not stream.closed
    speaker.join()
    limit_memory(256 * MIB)
    stream.abort()


async def driver() -> None:
    """A driver on a Unix socket decodes what comes inline as it comes."""
    ours, theirs = sockets("unix")
    refused: list[str] = []
    stream = SocketStream(ours)
    link = StreamLink(stream, lambda kind, text, *args: refused.append(text % args))
    link.start()
    await gives_up(stream, theirs.sendall, lambda: (element := link.receive()) and element.tag == "getProperties")
    assert any("memory" in text for text in refused), refused


async def client() -> None:
    ours, theirs = sockets("tcp")
    told: list[str] = []
    stream = SocketStream(ours)
    connection = Connection(
        stream, DEFAULT_LIMITS, lambda: None, lambda reason, nbytes, excerpt: told.append(reason), told.append
    )
    connection.start()

    def heard() -> bool:
        if connection._paused:
            connection._paused = False
            stream.resume_reading()
        return any(message.tag == "getProperties" for message in connection.messages)

    await gives_up(stream, theirs.sendall, heard)
    assert any("memory" in text for text in told), told


async def child() -> None:
    """What a child says on its standard error is told when there is memory again."""
    lines: list[str] = []
    started = spawn("sh", ["-c", "read line; echo said >&2; read line"], on_stderr=lines.append)
    out = Pieces()
    out.feed(started.stream, Recorder())
    taken = take_all()
    filler = []
    try:
        while True:
            filler.append(bytes(16 << 10))  # what one read takes, and less
    except MemoryError:
        del filler[-1:]
    out.put(b"go\n")
    await asyncio.sleep(3 * MEMORY_PAUSE)
    assert not lines
    taken.clear()
    filler.clear()
    await until(lambda: lines == ["said"])
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
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "MALLOC_ARENA_MAX": "1"}  # each thread's would take 64 MiB
    done = subprocess.run(
        [sys.executable, __file__, case, loop],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") < 30, done.stderr[-3000:]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    assert sys.argv[2] in LOOPS
    run_on(sys.argv[2], CASES[sys.argv[1]]())
