"""Memory that runs out at one place: what ends, what waits, and what is not affected.

Faults are put where they are wanted. `test_out_of_memory` and `test_scarce_timers` let memory run out in earnest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from indifast.transport import files
from indifast.transport import stream as streams
from indifast.transport.files import FileStream
from indifast.transport.stream import SocketStream, Stream, read_buffer
from tests.support.descriptors import no_fd_leak
from tests.support.sockets import tcp_pair, unix_pair
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder

PAIRS = {"unix": unix_pair, "tcp": tcp_pair}


class Refuses:
    """Raises an error in the place of the first calls of a method."""

    def __init__(self, method: Callable[..., Any], times: int = 1, error: type[Exception] = MemoryError) -> None:
        self.method = method
        self.times = times
        self.error = error

    def __call__(self, *args: Any) -> Any:
        if self.times:
            self.times -= 1
            raise self.error
        return self.method(*args)


class Lacking:
    """Stands for an object, such as an event loop, a socket or a pool, one method of which refuses."""

    def __init__(self, whole: Any, name: str, times: int = 1) -> None:
        self._whole = whole
        setattr(self, name, Refuses(getattr(whole, name), times))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class Overtaxed(Recorder):
    """A receiver that has no memory for what it receives."""

    def data_received(self, data, start, end, fds):
        super().data_received(data, start, end, fds)
        raise MemoryError


class Hoarder(Recorder):
    """A receiver with a large unfinished message."""

    held = 2 << 20

    def out_of_memory(self) -> None:
        self.held = 0


class NoParts(Pieces):
    """An outbox that has no memory for what it would offer."""

    def take(self, max_bytes, max_parts):
        raise MemoryError


class Ends:
    """A stream of some kind, and the other ends of it."""

    def __init__(self, kind: str) -> None:
        self.stream: Stream
        if kind in PAIRS:
            ours, theirs = PAIRS[kind]()
            self.stream = SocketStream(ours)
            self.say: Callable[[bytes], object] = theirs.sendall
            self._close = [theirs.close]
        else:
            (source, says), (hears, sink) = os.pipe(), os.pipe()
            for fd in (source, sink):
                os.set_blocking(fd, kind == "threads")
            self.stream = FileStream(source, sink, kind)
            self.say = lambda data: os.write(says, data)
            self._close = [lambda: os.close(says), lambda: os.close(hears)]

    async def reads(self, got: Recorder) -> None:
        """Check that what is said arrives, and end the stream."""
        self.say(b"x")
        await eventually(lambda: got.data == b"x")
        self.stream.abort()
        self.close()

    def close(self) -> None:
        for close in self._close:
            close()


kinds = pytest.mark.parametrize("kind", ["unix", "tcp", "pipes", "threads"])
sockets = pytest.mark.parametrize("kind", PAIRS)


async def closed_for_lack_of_memory(got: Recorder, text: str) -> None:
    await eventually(lambda: got.lost)
    (error,) = got.lost
    assert isinstance(error, MemoryError)
    assert str(error) == text


@kinds
def test_a_receiver_without_memory_loses_its_stream(run, caplog, kind):
    async def scenario():
        async with no_fd_leak():
            ends, other = Ends(kind), Ends("unix")
            got, others = Overtaxed(), Recorder()
            ends.stream.start(got, Pieces())
            other.stream.start(others, Pieces())
            ends.say(b"x")
            await closed_for_lack_of_memory(got, "not enough memory to read from it")
            other.say(b"y")
            await eventually(lambda: others.data == b"y")
            assert not other.stream.closed
            other.stream.abort()
            ends.close()
            other.close()

    run(scenario())
    assert "closed: not enough memory to read from it" in caplog.text


@kinds
def test_an_outbox_without_memory_loses_its_stream(run, caplog, kind):
    async def scenario():
        async with no_fd_leak():
            ends, got, out = Ends(kind), Recorder(), NoParts()
            out.feed(ends.stream, got)
            out.put(b"x")
            await closed_for_lack_of_memory(got, "not enough memory to write to it")
            ends.close()

    run(scenario())
    assert "closed: not enough memory to write to it" in caplog.text


def test_a_thread_without_memory_for_writing_loses_its_stream(run, monkeypatch):
    monkeypatch.setattr(files, "_write_whole", Refuses(files._write_whole))

    async def scenario():
        async with no_fd_leak():
            ends, got, out = Ends("threads"), Recorder(), Pieces()
            out.feed(ends.stream, got)
            out.put(b"x")
            await eventually(lambda: got.lost)
            assert isinstance(got.lost[0], MemoryError)
            ends.close()

    run(scenario())


def test_a_thread_without_memory_for_reading_reads_later(run, monkeypatch):
    async def scenario():
        async with no_fd_leak():
            ends, got = Ends("threads"), Recorder()
            monkeypatch.setattr(files, "os", Lacking(os, "read"))
            ends.stream.start(got, Pieces())
            await ends.reads(got)

    run(scenario())


@pytest.mark.parametrize("kind", ["unix", "tcp", "pipes"])
def test_a_read_without_memory_ends_the_stream(run, monkeypatch, kind):
    """Something may have been read and lost."""

    async def scenario():
        async with no_fd_leak():
            ends, got = Ends(kind), Recorder()
            if isinstance(ends.stream, SocketStream):
                name = "recvmsg_into" if kind == "unix" else "recv_into"
                monkeypatch.setattr(ends.stream, "socket", Lacking(ends.stream.socket, name))
            else:
                monkeypatch.setattr(files, "os", Lacking(os, "readv"))
            ends.stream.start(got, Pieces())
            ends.say(b"x")
            await closed_for_lack_of_memory(got, "not enough memory to read from it")
            ends.close()

    run(scenario())


def test_descriptors_that_can_not_be_listed_for_lack_of_memory_are_closed(run, monkeypatch):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = unix_pair()
            stream, got, out = SocketStream(ours), Recorder(), Pieces()
            sender = SocketStream(theirs)
            stream.start(got, Pieces())
            out.feed(sender, Recorder())
            monkeypatch.setattr(streams, "_descriptors", Refuses(streams._descriptors))
            with open("/dev/null", "rb") as file:  # noqa: ASYNC230
                out.put(b"x", [file.fileno()])
                await closed_for_lack_of_memory(got, "not enough memory to read from it")
            sender.abort()

    run(scenario())


def test_no_memory_is_needed_to_end_a_stream(run, monkeypatch, caplog):
    async def scenario():
        async with no_fd_leak():
            ends, got = Ends("unix"), Overtaxed()
            monkeypatch.setattr(type(read_buffer()), "relieve", Refuses(bool, 10))
            monkeypatch.setattr(ends.stream, "_loop", Lacking(ends.stream._loop, "call_soon"))
            ends.stream.start(got, Pieces())
            ends.say(b"x")
            await closed_for_lack_of_memory(got, "not enough memory")
            ends.close()

    run(scenario())
    assert not caplog.text


@sockets
def test_a_large_unfinished_message_makes_room_for_others(run, monkeypatch, kind):
    async def scenario():
        async with no_fd_leak():
            large, ends = Ends("unix"), Ends(kind)
            hoarder, got = Hoarder(), Recorder()
            large.stream.start(hoarder, Pieces())
            ends.stream.start(got, Pieces())
            buffer = read_buffer()
            buffer._view = None  # the next read takes another block
            monkeypatch.setattr(buffer, "_pool", Lacking(buffer._pool, "get"))
            ends.say(b"x")
            await eventually(lambda: got.data == b"x")
            assert not hoarder.held
            assert not large.stream.closed
            for each in (large, ends):
                each.stream.abort()
                each.close()

    run(scenario())


@pytest.mark.parametrize("kind", ["unix", "tcp", "pipes"])
def test_without_a_large_message_what_comes_is_read_later(run, monkeypatch, caplog, kind):
    async def scenario():
        async with no_fd_leak():
            ends, got = Ends(kind), Recorder()
            ends.stream.start(got, Pieces())
            buffer = read_buffer()
            buffer._view = None  # the next read takes another block
            monkeypatch.setattr(buffer, "_pool", Lacking(buffer._pool, "get", 3))
            ends.say(b"x")
            await eventually(lambda: got.data == b"x")
            assert got.lost == []
            ends.stream.abort()
            ends.close()

    run(scenario())
    assert "reading paused: not enough memory" in caplog.text


@pytest.mark.parametrize("error", [MemoryError, SystemError])
def test_a_loop_without_memory_to_watch_a_stream_watches_it_later(run, monkeypatch, error):
    async def scenario():
        async with no_fd_leak():
            ends, got = Ends("unix"), Recorder()
            monkeypatch.setattr(ends.stream, "_open_input", Refuses(ends.stream._open_input, 2, error))
            ends.stream.start(got, Pieces())
            await ends.reads(got)

    run(scenario())


def test_without_memory_even_for_a_timer_the_caller_is_told(run, monkeypatch):
    async def scenario():
        async with no_fd_leak():
            ends, got = Ends("unix"), Recorder()
            monkeypatch.setattr(ends.stream, "_open_input", Refuses(ends.stream._open_input))
            monkeypatch.setattr(ends.stream, "_loop", Lacking(ends.stream._loop, "call_later"))
            with pytest.raises(MemoryError):
                ends.stream.start(got, Pieces())
            ends.stream.pause_reading()
            ends.stream.resume_reading()
            await ends.reads(got)

    run(scenario())


@sockets
def test_a_stream_whose_end_might_be_missed_for_lack_of_memory_is_closed(run, monkeypatch, kind):
    def no_probe(loop, fd):
        return Refuses(bool)

    monkeypatch.setattr(streams, "hang_up_probe", no_probe)

    async def scenario():
        async with no_fd_leak():
            ends, got = Ends(kind), Recorder()
            ends.stream.start(got, Pieces())
            ends.say(b"x")
            await closed_for_lack_of_memory(got, "not enough memory to watch it")
            assert got.data == b"x"
            ends.close()

    run(scenario())
