"""FileStream, and standard input and output: pipes, terminals, files, /dev/null, and one socket for both."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import socket
import subprocess
import sys

import pytest

from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import QueueListener
from indifast.transport import files
from indifast.transport.files import FileStream, private
from indifast.transport.stream import FAILED
from tests.routing.fakes import frame
from tests.support.blackbox import LIMIT
from tests.support.descriptors import no_fd_leak
from tests.support.sockets import tcp_pair, unix_pair
from tests.support.waiting import eventually, turns
from tests.transport.support import Pieces, Recorder

ECHO = """
import asyncio, sys
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import QueueListener
from indifast.protocol.message import Wire
from indifast.transport.connect import open_stdio

class Echo(QueueListener):
    def __init__(self):
        self.stream = open_stdio()
        self.queue = ByteQueue(listener=self)
        self.stream.start(self, self.queue)
        print("local" if self.stream.local else "not local", file=sys.stderr, flush=True)
    def data_received(self, data, start, end, fds):
        self.queue.append(Wire("message", None, None, bytes(memoryview(data)[start:end])), 0.0)
    def on_pending(self):
        self.stream.wake_soon()
    def eof_received(self):
        self.stream.close()
        return True
    def connection_lost(self, exc):
        print("lost", exc, file=sys.stderr, flush=True)

async def main():
    await Echo().stream.wait_closed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(main())
"""


def rest_of(pipe: int) -> bytes:
    """Read a pipe to its end, and close it."""
    with open(pipe, "rb") as file:
        return file.read()


class Waker(QueueListener):
    """Makes a stream write what is put into its queue."""

    def __init__(self, stream: FileStream) -> None:
        self.on_pending = stream.wake_soon


def echo(**keywords) -> subprocess.Popen:
    """Start a program that sends back all that it reads."""
    return subprocess.Popen([sys.executable, "-c", ECHO], stderr=subprocess.PIPE, **keywords)


def ended(process: subprocess.Popen) -> str:
    """Wait for the end of the program. Return its standard error."""
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    return errors.decode()


def test_files_in_and_out(tmp_path):
    payload = os.urandom(1 << 20) * 5 + b"end"
    (tmp_path / "in").write_bytes(payload)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        assert "lost None" in ended(echo(stdin=source, stdout=sink))
    assert (tmp_path / "out").read_bytes() == payload


def test_output_is_appended_to_a_file_opened_for_appending(tmp_path):
    (tmp_path / "in").write_bytes(b"second")
    (tmp_path / "out").write_bytes(b"first ")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "ab") as sink:
        ended(echo(stdin=source, stdout=sink))
    assert (tmp_path / "out").read_bytes() == b"first second"


def test_dev_null_as_input_is_an_end_of_file():
    assert "lost None" in ended(echo(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


def test_pipes():
    payload = os.urandom(1 << 20) * 3
    process = echo(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, errors = process.communicate(payload, timeout=LIMIT)
    assert output == payload
    assert errors == b"not local\nlost None\n"


def test_a_pipe_shared_with_others_stays_blocking(tmp_path):
    reading, writing = os.pipe()
    process = echo(stdin=subprocess.PIPE, stdout=writing)
    process.stdin.write(b"hello")
    process.stdin.flush()
    assert os.read(reading, 100) == b"hello"
    assert os.get_blocking(writing)
    assert os.get_blocking(reading)
    ended(process)
    os.close(reading)
    os.close(writing)


def test_the_end_of_the_reader_is_noticed():
    reading, writing = os.pipe()
    process = echo(stdin=subprocess.PIPE, stdout=writing)
    os.close(writing)
    assert process.stderr.readline() == b"not local\n"
    os.close(reading)
    process.stdin.write(b"to nobody")
    process.stdin.flush()
    assert "Broken pipe" in ended(process)


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_program_has_written_is_read_although_it_reads_nothing_any_more(run, monkeypatch, ends):
    monkeypatch.setattr(files, "_LAST_WORDS", 0.05)

    async def scenario():
        source, theirs_out = os.pipe()
        theirs_in, sink = os.pipe()
        stream, got, out = FileStream(source, sink, "program"), Recorder(), Pieces()
        out.feed(stream, got)
        stream.pause_reading()
        os.write(theirs_out, b"last words")
        os.close(theirs_in)
        if ends:
            os.close(theirs_out)
        out.put(b"to nobody")
        await eventually(lambda: stream._output is FAILED)
        await asyncio.sleep(0.2)
        assert not got.lost, "what has arrived waits for the receiver"
        stream.resume_reading()
        await eventually(lambda: got.lost)
        assert got.data == b"last words"
        if not ends:
            assert isinstance(got.lost[0], BrokenPipeError)
            os.close(theirs_out)

    run(scenario())


def test_a_terminal_is_left_as_it_was():
    master, terminal = pty.openpty()
    flags = fcntl.fcntl(terminal, fcntl.F_GETFL)
    process = echo(stdin=terminal, stdout=terminal)
    os.write(master, b"hello\n")
    seen = b""
    while seen.count(b"hello") < 2:  # the echo of the terminal, and that of the program
        seen += os.read(master, 100)
    assert fcntl.fcntl(terminal, fcntl.F_GETFL) == flags
    os.write(master, b"\x04")
    ended(process)
    assert fcntl.fcntl(terminal, fcntl.F_GETFL) == flags
    os.close(master)
    os.close(terminal)


@pytest.mark.parametrize(("pair", "name"), [(unix_pair, "local"), (tcp_pair, "not local")])
def test_one_socket_for_both(pair, name):
    ours, theirs = pair()
    flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
    process = echo(stdin=theirs, stdout=theirs)
    ours.sendall(b"hello")
    assert ours.recv(100) == b"hello"
    assert fcntl.fcntl(theirs, fcntl.F_GETFL) == flags
    theirs.close()
    ours.shutdown(socket.SHUT_WR)
    assert ours.recv(100) == b""
    assert ended(process) == f"{name}\nlost None\n"
    ours.close()


def test_two_sockets():
    """Some programs give these to their children, for example node.js."""
    (first, child_in), (second, child_out) = socket.socketpair(), socket.socketpair()
    process = echo(stdin=child_in, stdout=child_out)
    first.sendall(b"hello")
    assert second.recv(100) == b"hello"
    first.close()
    ended(process)
    for sock in (child_in, child_out, second):
        sock.close()


def test_of_two_sockets_one_is_reset(run):
    async def scenario():
        async with no_fd_leak():
            (first, source), (sink, second) = socket.socketpair(), socket.socketpair()
            source.setblocking(False)
            sink.setblocking(False)
            source.send(b"nobody reads this")
            stream, got = FileStream(source.detach(), sink.detach(), "two sockets"), Recorder()
            stream.start(got, Pieces())
            first.send(b"last words")  # the loop gets no turn before the close
            first.close()
            await eventually(lambda: got.lost)
            assert got.data == b"last words"
            second.close()

    run(scenario())


def test_pause_and_abort_of_a_thread_that_reads(tmp_path):
    (tmp_path / "in").write_bytes(b"x" * (5 << 20))

    async def scenario():
        async with no_fd_leak():
            sink = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
            stream, got = FileStream(os.open(tmp_path / "in", os.O_RDONLY), sink, "files"), Recorder(half_open=True)
            stream.pause_reading()
            out = Pieces()
            out.feed(stream, got)
            out.put(b"written")
            await eventually(lambda: not out.queued)
            assert not got.data
            stream.resume_reading()
            await eventually(lambda: got.eof)
            assert len(got.data) == 5 << 20
            stream.abort()
            await eventually(lambda: got.lost == [None])

    asyncio.run(scenario())
    assert (tmp_path / "out").read_bytes() == b"written"


def test_a_source_that_can_not_be_read_ends_the_stream(tmp_path):
    async def scenario():
        async with no_fd_leak():
            stream, got = (
                FileStream(os.open(tmp_path, os.O_RDONLY), os.open("/dev/null", os.O_WRONLY), "folder"),
                Recorder(),
            )
            stream.start(got, Pieces())
            await eventually(lambda: got.lost)
            assert isinstance(got.lost[0], IsADirectoryError)

    asyncio.run(scenario())


def test_a_file_that_does_not_block_is_read_by_a_thread(tmp_path):
    """It never blocks, but epoll refuses it."""
    (tmp_path / "in").write_bytes(b"content")

    async def scenario():
        async with no_fd_leak():
            source = os.open(tmp_path / "in", os.O_RDONLY | os.O_NONBLOCK)
            stream, got = FileStream(source, os.open("/dev/null", os.O_WRONLY), "file"), Recorder()
            stream.start(got, Pieces())
            await eventually(lambda: got.lost == [None])
            assert got.data == b"content"

    asyncio.run(scenario())


def test_a_terminal_that_is_closed_is_an_end_of_file(run):
    async def scenario():
        async with no_fd_leak():
            master, terminal = pty.openpty()
            os.set_blocking(master, False)
            stream, got = FileStream(master, os.open("/dev/null", os.O_WRONLY), "terminal"), Recorder()
            stream.start(got, Pieces())
            os.write(terminal, b"typed")
            await eventually(lambda: got.data == b"typed")
            os.close(terminal)  # reading fails with EIO
            await eventually(lambda: got.lost)
            assert got.eof
            assert got.lost == [None]

    run(scenario())


def test_what_another_reader_has_taken_is_not_missed(run):
    async def scenario():
        async with no_fd_leak():
            source, sink = os.pipe()
            os.set_blocking(source, False)
            both = [Recorder(), Recorder()]
            for got, fd in zip(both, (source, os.dup(source)), strict=True):
                FileStream(fd, os.open("/dev/null", os.O_WRONLY), "pipe").start(got, Pieces())
            for number in range(1, 4):  # the loop calls both
                os.write(sink, b"x")
                await eventually(lambda number=number: sum(len(got.data) for got in both) == number)
            os.close(sink)
            await eventually(lambda: all(got.lost == [None] for got in both))

    run(scenario())


def test_a_thread_that_still_reads_and_writes_does_not_matter_after_the_end():
    async def scenario():
        async with no_fd_leak():
            (source, says), (hears, sink) = os.pipe(), os.pipe()  # blocking, so each has a thread
            stream, got, out = FileStream(source, sink, "pipes"), Recorder(), Pieces()
            out.put(b"x" * (1 << 20))
            out.feed(stream, got)
            await asyncio.to_thread(os.read, hears, 1)  # the rest does not fit into the pipe
            stream.abort()
            await eventually(lambda: got.lost)
            os.write(says, b"too late")
            os.close(says)
            assert len(await asyncio.to_thread(rest_of, hears)) == (1 << 20) - 1
            assert got.lost == [None]
            assert not got.data

    asyncio.run(scenario())


@pytest.mark.parametrize("blocking", [False, True])
def test_a_message_that_is_not_ready_is_waited_for(blocking):
    async def scenario():
        async with no_fd_leak():
            hears, sink = os.pipe()
            os.set_blocking(sink, blocking)
            never, says = os.pipe()
            os.set_blocking(never, False)
            stream, queue = FileStream(never, sink, "pipe"), ByteQueue()
            message = frame(size=13, ready=False)
            queue.append(message, 0.0)
            queue.listener = Waker(stream)
            stream.start(Recorder(), queue)
            await turns()
            message.make_ready()
            assert await asyncio.to_thread(os.read, hears, 100) == b"f" * 13
            stream.close()
            await stream.wait_closed()
            for fd in (hears, says):
                os.close(fd)

    asyncio.run(scenario())


def test_a_long_output_is_written_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WRITE_BUDGET", 1000)

    async def scenario():
        hears, sink = os.pipe()
        never, says = os.pipe()
        os.set_blocking(sink, False)
        os.set_blocking(never, False)
        stream, out = FileStream(never, sink, "pipe"), Pieces()
        for _ in range(10):
            out.put(b"x" * 600)
        monkeypatch.setattr(files, "_CHUNK", 600)
        out.feed(stream, Recorder())
        assert out.written == 1200
        await eventually(lambda: not out.queued)
        assert len(os.read(hears, 10_000)) == 6000
        stream.abort()
        for fd in (hears, says):
            os.close(fd)

    asyncio.run(scenario())


def test_a_full_disk_is_reported():
    async def scenario():
        stream, got, out = (
            FileStream(os.open("/dev/null", 0), os.open("/dev/full", 1), "full"),
            Recorder(True),
            Pieces(),
        )
        out.feed(stream, got)
        out.put(b"x")
        await eventually(lambda: got.lost)
        assert isinstance(got.lost[0], OSError)
        assert "No space" in str(got.lost[0])

    asyncio.run(scenario())


def test_private_descriptors_are_not_inherited():
    reading, writing = os.pipe()
    own = private(reading)
    assert not os.get_inheritable(own)
    assert not os.get_blocking(own)
    for fd in (reading, writing, own):
        os.close(fd)
