"""Memory that runs out while something is being put off does not put it off for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import scarce

PRELUDE = """
import asyncio, errno, logging, os, socket
from indifast.routing.bytequeue import ByteQueue
from indifast.protocol.message import Wire
from indifast.transport import listener, stream
from indifast.transport.epoll import EventLoop

logging.disable()
stream.MEMORY_PAUSE = listener._FIRST_PAUSE = 0.001
loop = EventLoop()  # asyncio's own loops lose descriptors when memory runs out

class Reader:
    def __init__(self):
        self.data, self.lost = b"", False

    def data_received(self, data, start, end, fds):
        self.data += bytes(memoryview(data)[start:end])

    def connection_lost(self, exc):
        self.lost = True

def run_until(loop, condition):
    async def wait():
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.0005)
    loop.run_until_complete(wait())

def in_loop(loop, call, *arguments):
    '''What a callback of the loop does; its loop logs what it raises.'''
    async def run():
        call(*arguments)
    loop.run_until_complete(run())

def connected(loop):
    ours, theirs = socket.socketpair()
    made = []
    in_loop(loop, lambda: made.append(stream.SocketStream(ours)))
    return made[0], theirs
"""

READING = """
def prepare():
    channel, theirs = connected(loop)
    reader = Reader()
    in_loop(loop, channel.start, reader, ByteQueue())
    theirs.send(b"before")
    run_until(loop, lambda: reader.data == b"before")
    return channel, theirs, reader

def act(subject):
    subject[0]._read_later()

def check(subject, refused):
    channel, theirs, reader = subject
    theirs.send(b" after")
    run_until(loop, lambda: reader.data == b"before after")
    in_loop(loop, channel.abort)
    theirs.close()
"""

RESUMING = """
def prepare():
    channel, theirs = connected(loop)
    reader = Reader()
    in_loop(loop, channel.start, reader, ByteQueue())
    channel.pause_reading()
    theirs.send(b"data")
    return channel, theirs, reader

def act(subject):
    subject[0].resume_reading()

def check(subject, refused):
    channel, theirs, reader = subject
    if channel._input is not stream.WATCHED and channel._starved is None:
        channel.resume_reading()  # it had failed, and its caller was told
        channel._watch_input()
    run_until(loop, lambda: reader.data == b"data")
    in_loop(loop, channel.abort)
    theirs.close()
"""

WRITING = """
def prepare():
    channel, theirs = connected(loop)
    queue = ByteQueue()
    in_loop(loop, channel.start, Reader(), queue)
    queue.listener.on_pending = channel.wake_soon
    return channel, theirs, queue

def act(subject):
    subject[2].append(Wire("message", None, None, b"first"), 0.0)

def check(subject, refused):
    channel, theirs, queue = subject
    queue.append(Wire("message", None, None, b"last"), 0.0)
    theirs.setblocking(False)
    heard = b""

    def said():
        nonlocal heard
        try:
            heard += theirs.recv(100)
        except BlockingIOError:
            pass
        return heard.endswith(b"last")

    run_until(loop, said)
    in_loop(loop, channel.abort)
    theirs.close()
"""

ACCEPTING = """
def prepare():
    listening = socket.create_server(("127.0.0.1", 0))
    made, streams = [], []
    in_loop(loop, lambda: made.append(listener.Listener([listening], streams.append)))
    return made[0], listening.getsockname(), streams

def act(subject):
    subject[0]._back_off(OSError(errno.EMFILE, "none"))

def check(subject, refused):
    listens, address, streams = subject
    with socket.create_connection(address):
        run_until(loop, lambda: streams)
    in_loop(loop, streams[0].abort)
    in_loop(loop, listens.close)
"""

LOOPING = """
from indifast.transport import epoll

epoll._MEMORY_PAUSE = 0.0001

def prepare():
    channel, theirs = connected(loop)
    reader = Reader()
    in_loop(loop, channel.start, reader, ByteQueue())
    loop.call_soon(loop.call_at_end, list)
    theirs.send(b"data")
    return channel, theirs, reader

def act(subject):
    asyncio.events._set_running_loop(loop)
    loop._run_once()

def check(subject, refused):
    channel, theirs, reader = subject
    asyncio.events._set_running_loop(None)
    run_until(loop, lambda: reader.data == b"data" or reader.lost)
    in_loop(loop, channel.abort)
    theirs.close()
"""

END = """
each_allocation(prepare, act, check, counts=(1, 2))
"""


@pytest.mark.parametrize(
    "case", [READING, RESUMING, WRITING, ACCEPTING, LOOPING], ids=["read", "resume", "write", "accept", "loop"]
)
def test_memory_that_runs_out_puts_nothing_off_for_ever(case: str, tmp_path: Path) -> None:
    scarce.run(PRELUDE + case + END, tmp_path)
