"""Threads that send, over real sockets: every byte is compared, whatever happens to the connections meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indifast._senders import Pool
from indifast.protocol.message import Wire
from indifast.routing.bytequeue import ByteQueue
from indifast.transport import senders as module
from indifast.transport.senders import Senders, default_count, make_senders
from indifast.transport.stream import BLOCKED, SENDING, SocketStream
from tests.support.blackbox import LIMIT, until
from tests.support.descriptors import no_fd_leak
from tests.support.sockets import reset, tcp_pair, unix_pair
from tests.support.threads import thread_statuses
from tests.support.waiting import eventually, turns
from tests.transport.support import Pieces, Recorder, memory_file

if not module.SUPPORTED:
    pytest.skip("there are no such threads on this system", allow_module_level=True)

pairs = pytest.mark.parametrize("pair", [tcp_pair, unix_pair])


def content(seed: int, length: int) -> bytes:
    """Return bytes that differ from those of any other seed, and of any other place, almost everywhere."""
    return np.random.default_rng(seed).bytes(length)


def writing(sock: socket.socket, senders: Senders | None) -> tuple[SocketStream, Recorder, Pieces]:
    """Return a started stream that writes by these threads, its receiver and its outbox."""
    stream, got, out = SocketStream(sock), Recorder(), Pieces()
    stream.senders = senders
    out.feed(stream, got)
    return stream, got, out


class Reader(threading.Thread):
    """Reads until the end, in pieces of a size, while it is allowed to; then it stops for good if there is a limit."""

    def __init__(self, sock: socket.socket, piece: int = 1 << 18, limit: int | None = None) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.data = bytearray()
        self._piece = piece
        self._limit = limit
        self.start()

    def run(self) -> None:
        with self.sock:
            try:
                while (self._limit is None or len(self.data) < self._limit) and (chunk := self.sock.recv(self._piece)):
                    self.data += chunk
            except OSError:
                pass

    async def whole(self) -> bytes:
        await asyncio.to_thread(self.join, LIMIT)
        assert not self.is_alive()
        return bytes(self.data)


class SmallSenders(Senders):
    """Senders for tests, which write what is small, too."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.smallest = 1000


async def leak_free(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, and check that all descriptors that it opens are closed at its end."""
    async with no_fd_leak():
        await scenario


# -- Order, and every byte


@pairs
def test_everything_arrives_in_order(run, pair):
    """Large and small pieces, from the loop and from threads, to readers of different speeds."""
    rng = random.Random(11)
    pieces = [content(number, rng.choice((1, 50, 999, 1000, 5000, 200_000, 3_000_000))) for number in range(60)]

    async def scenario():
        senders = SmallSenders(3)
        readers = []
        for piece in (1 << 10, 1 << 14, 1 << 18, 1 << 20):
            ours, theirs = pair()
            stream, _, out = writing(ours, senders)
            readers.append((Reader(theirs, piece), stream))
            for number, data in enumerate(pieces):
                out.put(data)
                if number % 7 == 0:
                    await turns(number % 3)
            stream.close(grace=LIMIT)
        for reader, stream in readers:
            assert await reader.whole() == b"".join(pieces)
            await stream.wait_closed()
        assert senders.threads > 1
        senders.close()

    run(scenario())


def test_descriptors_travel_with_their_byte(run):
    """What has descriptors is written by the loop, and what follows by the threads."""

    async def scenario():
        senders = SmallSenders(2)
        ours, theirs = unix_pair()
        stream, _, out = writing(ours, senders)
        fds = [memory_file(b"first"), *(memory_file(b"second") for _ in range(40))]
        out.put(before := content(1, 500_000))
        out.put(first := content(2, 500_000), fds[:1])
        out.put(after := content(3, 500_000))
        out.put(second := content(4, 500_000), fds[1:])

        def read() -> tuple[bytes, list[tuple[int, int]]]:
            data, places = b"", []
            while len(data) < 2_000_000:
                chunk, received, _, _ = socket.recv_fds(theirs, 1 << 16, 64)
                places += [(len(data), len(chunk), os.fstat(fd).st_size) for fd in received]
                data += chunk
                for fd in received:
                    os.close(fd)
            return data, places

        data, places = await asyncio.to_thread(read)
        assert data == before + first + after + second
        begin, length, size = places[0]
        assert size == 5 and begin <= len(before) <= begin + length
        assert [size for _, _, size in places[1:]] == [6] * 40
        assert senders.threads > 0
        stream.abort()
        theirs.close()
        for fd in fds:
            os.close(fd)
        senders.close()

    run(scenario())


@pairs
def test_clients_that_leave_in_the_middle_of_a_frame_get_only_their_own_bytes(run, pair):
    """A descriptor is used again at once: what a thread still sends must not reach the next connection."""
    rng = random.Random(7)

    async def scenario():
        senders = SmallSenders(3)
        open_streams: list[SocketStream] = []
        readers: list[tuple[Reader, bytes, bool]] = []
        numbers = set()
        for number in range(300):
            await eventually(lambda: sum(reader.is_alive() for reader, _, _ in readers) < 20)  # so that few are open
            ours, theirs = pair()
            numbers.add(ours.fileno())
            stream, _, out = writing(ours, senders)
            data = content(number, 400_000)
            leaves = rng.random() < 0.3
            readers.append((Reader(theirs, 1 << 16, rng.randrange(400_000) if leaves else None), data, leaves))
            out.put(data)
            open_streams.append(stream)
            if rng.random() < 0.5:
                await turns(rng.randrange(3))
            while len(open_streams) > 6:
                stream = open_streams.pop(rng.randrange(len(open_streams)))
                if rng.random() < 0.5:
                    stream.abort()
                else:
                    stream.close(grace=LIMIT)
        for stream in open_streams:
            stream.close(grace=LIMIT)
            await stream.wait_closed()
        whole = 0
        for reader, data, _ in readers:
            received = await reader.whole()
            assert received == data[: len(received)]
            whole += received == data
        assert whole > 50
        assert len(numbers) < 100, "numbers of descriptors are used again"
        senders.close()

    run(leak_free(scenario()))


def test_a_stream_that_ends_waits_for_the_thread_that_has_its_socket(run):
    """The socket is closed after the thread has let go of it, and the data with it."""

    async def scenario():
        senders = SmallSenders(1)
        for _ in range(200):
            ours, theirs = tcp_pair()
            stream, got, out = writing(ours, senders)
            data = bytearray(content(1, 2_000_000))
            out.put(data)
            await asyncio.sleep(0)
            assert stream._output is SENDING
            stream.abort()
            assert ours.fileno() == -1
            out.waiting.clear()
            data.append(1)  # BufferError while anybody holds it
            theirs.close()
            await eventually(lambda got=got: got.lost == [None])
        senders.close()

    run(scenario())


# -- Slow and stalled readers, and ends


@pairs
def test_a_stalled_reader_occupies_no_thread_and_memory_is_given_back(run, pair):
    async def scenario():
        senders = SmallSenders(1)
        ours, stalled = pair()
        stalled_stream, _, stalled_out = writing(ours, senders)
        stalled_out.put(content(1, 64 << 20))
        await eventually(lambda: stalled_stream._output is BLOCKED)
        assert 0 < stalled_out.written < 64 << 20
        guard = stalled_stream._guard
        assert guard is None or guard.watching, "a peer that vanishes is noticed"

        ours, theirs = pair()
        stream, _, out = writing(ours, senders)
        data = bytearray(content(2, 4 << 20))
        out.put(data)
        reader = Reader(theirs)
        await eventually(lambda: not out.waiting)
        data.append(0)  # BufferError while anybody holds it
        stream.close()
        assert await reader.whole() == data[:-1]
        assert stalled_out.waiting, "it is still stalled"

        resumed = Reader(stalled)
        stalled_stream.close(grace=LIMIT)
        assert await resumed.whole() == content(1, 64 << 20)
        senders.close()

    run(scenario())


@pairs
def test_close_flushes_through_the_threads(run, pair):
    async def scenario():
        senders = SmallSenders(2)
        ours, theirs = pair()
        stream, got, out = writing(ours, senders)
        reader = Reader(theirs)
        data = content(3, 6 << 20)
        out.put(data)
        stream.close()
        stream.wake()
        assert stream._output is SENDING and not got.lost
        assert await reader.whole() == data
        await eventually(lambda: got.lost == [None])
        senders.close()

    run(leak_free(scenario()))


def test_close_ends_in_time_although_the_peer_reads_nothing(run):
    async def scenario():
        senders = SmallSenders(2)
        ours, theirs = tcp_pair()
        stream, got, out = writing(ours, senders)
        out.put(content(3, 64 << 20))
        stream.close(grace=0.05)
        await stream.wait_closed()
        await eventually(lambda: got.lost)
        assert isinstance(got.lost[0], TimeoutError) and "did not read the last" in str(got.lost[0])
        senders.close()
        theirs.close()

    run(leak_free(scenario()))


@pairs
def test_a_peer_that_resets_ends_its_stream_alone(run, pair):
    async def scenario():
        senders = SmallSenders(2)
        ours, theirs = pair()
        other_ours, other_theirs = pair()
        stream, got, out = writing(ours, senders)
        other, _, other_out = writing(other_ours, senders)
        reader = Reader(other_theirs)
        out.put(content(3, 32 << 20))
        await eventually(lambda: stream._output is BLOCKED)
        reset(theirs)
        other_out.put(content(4, 8 << 20))
        await eventually(lambda: len(got.lost) == 1)
        other.close(grace=LIMIT)
        assert await reader.whole() == content(4, 8 << 20)
        senders.close()

    run(leak_free(scenario()))


def test_the_end_of_the_threads_leaves_the_rest_to_the_loop(run):
    async def scenario():
        senders = SmallSenders(2)
        ends = [tcp_pair() for _ in range(8)]
        streams = [writing(ours, senders) for ours, _ in ends]
        for stream, _, out in streams:
            out.put(content(5, 9 << 20))
            stream.wake()
            assert stream._output is SENDING
        senders.close()
        assert senders.threads == 0
        assert all(stream._output is not SENDING for stream, _, _ in streams)
        readers = [Reader(theirs) for _, theirs in ends]
        for stream, _, _ in streams:
            stream.close(grace=LIMIT)
        for reader in readers:
            assert await reader.whole() == content(5, 9 << 20)

    run(scenario())


def test_a_fault_of_the_owner_ends_only_its_stream(run, caplog):
    class Faulty(Pieces):
        def sent(self, nbytes: int, now: float) -> bool:
            raise ValueError("planted")

    async def scenario():
        senders = SmallSenders(1)
        ours, theirs = tcp_pair()
        stream, got, out = SocketStream(ours), Recorder(), Faulty()
        stream.senders = senders
        out.feed(stream, got)
        out.put(content(6, 100_000))
        await eventually(lambda: len(got.lost) == 1)
        assert "planted" in caplog.text
        senders.close()
        theirs.close()

    run(scenario())


# -- Fairness, and what it costs


def test_a_small_job_does_not_wait_for_a_large_one(run):
    async def scenario():
        senders = SmallSenders(1)
        ours, theirs = tcp_pair()
        stream, _, out = writing(ours, senders)
        small_ours, small_theirs = tcp_pair()
        small, _, small_out = writing(small_ours, senders)
        reader, small_reader = Reader(theirs, 1 << 22), Reader(small_theirs)
        data = content(7, 1 << 20)
        written: list[int] = []
        while not written or (written[-1] >= 400 << 19 and len(written) < 20):  # perhaps nobody looked in time
            await eventually(lambda: not out.waiting)
            out.written = 0
            for _ in range(400):
                out.put(data)
            stream.wake()
            small_out.put(data)
            await eventually(lambda: not small_out.waiting)
            written.append(out.written)
        assert written[-1] < 400 << 19
        for each in (stream, small):
            each.abort()
        for each in (reader, small_reader):
            await each.whole()
        senders.close()

    run(scenario())


def test_threads_take_turns_between_jobs():
    """With a single thread, the shorter job is over first, unless the thread has done the longer one before it came."""
    pool = Pool(1, 1000)
    ends = [unix_pair() for _ in range(2)]
    over: list[str] = []
    try:
        for _ in range(100):
            over.clear()
            pool.submit(ends[0][0].fileno(), [bytes(40_000)], lambda *result: over.append("long"))
            pool.submit(ends[1][0].fileno(), [bytes(2_000)], lambda *result: over.append("short"))
            _reap_until(pool, lambda: len(over) == 2)
            if over == ["short", "long"]:
                break
            for (_, theirs), length in zip(ends, (40_000, 2_000), strict=True):
                assert len(theirs.recv(length, socket.MSG_WAITALL)) == length
        assert over == ["short", "long"]
    finally:
        pool.close()
        for pair in ends:
            for each in pair:
                each.close()


def _reap_until(pool: Pool, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
        pool.reap()


def test_a_fault_in_a_callback_does_not_keep_the_others_from_being_called():
    pool = Pool(1)
    ends = [unix_pair() for _ in range(3)]
    over: list[tuple[int, int]] = []

    def faulty(sent: int, error: int) -> None:
        raise ValueError("planted")

    pool.submit(ends[0][0].fileno(), [b"x"], faulty)
    for ours, _ in ends[1:]:
        pool.submit(ours.fileno(), [b"x"], lambda *result: over.append(result))
    with pytest.raises(ValueError, match="planted"):
        _reap_until(pool, lambda: False)
    _reap_until(pool, lambda: len(over) == 2)
    assert over == [(1, 0), (1, 0)]
    pool.close()
    for pair in ends:
        for each in pair:
            each.close()


def sender_threads() -> set[Path]:
    """Return the entries of this process's threads that block all signals: those that send, and those of sanitizers."""
    found = set()
    for task, status in thread_statuses().items():
        blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1], 16)
        if blocked & 1 << 14:  # SIGTERM
            found.add(task)
    return found


def no_sender_left(before: set[Path]) -> None:
    """Wait until only threads are left that were there before: /proc may still show one that has been joined."""
    until(lambda: not sender_threads() - before, what="the end of the threads")


def switches(task: Path) -> int:
    return sum(int(line.split()[1]) for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line)


def test_the_threads_give_way_to_those_who_read_on_this_machine():
    """Otherwise they run ahead until all sockets are full, and what is then read comes from memory, not from caches."""
    before, mine = sender_threads(), os.nice(0)
    ours, theirs = socket.socketpair()
    pool = Pool(1)
    over: list[tuple[int, int]] = []
    try:
        pool.submit(ours.fileno(), [bytes(100)], lambda *result: over.append(result))
        _reap_until(pool, lambda: bool(over))
        (task,) = sender_threads() - before
        assert os.getpriority(os.PRIO_PROCESS, int(task.name)) == min(mine + 5, 19)
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine, "only theirs is changed"
    finally:
        pool.close()
        ours.close()
        theirs.close()


def test_small_messages_and_idle_times_wake_no_thread(run):
    before = sender_threads()

    async def scenario():
        senders = Senders(2)
        ours, theirs = tcp_pair()
        stream, got, out = writing(ours, senders)

        async def chat(count: int) -> None:
            for number in range(count):
                out.put(b"hello %d" % number)
                assert await asyncio.to_thread(theirs.recv, 100)
                theirs.sendall(b"answer")
                await eventually(lambda wanted=6 * (number + 1): len(got.data) >= wanted)
            got.data.clear()

        await chat(50)
        assert senders.threads == 0 and not sender_threads() - before
        reader = threading.Thread(target=lambda: theirs.recv(1 << 20, socket.MSG_WAITALL))
        reader.start()
        out.put(content(8, 1 << 20))
        await asyncio.to_thread(reader.join)
        await eventually(lambda: not out.waiting)
        (task,) = sender_threads() - before
        await eventually(lambda: "S (sleeping)" in (task / "status").read_text())
        counted = switches(task)
        await chat(50)
        assert switches(task) < counted + 25, "a stop of the whole program counts, but not each message"
        stream.abort()
        theirs.close()
        senders.close()
        no_sender_left(before)

    run(scenario())


def test_a_job_that_is_given_up_holds_nothing(run):
    async def scenario():
        senders = SmallSenders(1)
        ours, theirs = unix_pair()
        data = bytearray(5000)
        called: list[object] = []
        job = senders.send(ours.fileno(), [data] * 100, lambda *result: called.append(result))
        assert job is not None
        senders.withdraw(job)
        senders.withdraw(job)
        data.append(1)
        await turns()
        senders.close()
        assert not called
        ours.close()
        theirs.close()

    run(scenario())


# -- Processes and loops that end


def _ended(child: int) -> tuple[int] | None:
    """Return the status of a child process; None if it is still running."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return (status,) if pid else None


def test_a_fork_in_the_middle_of_a_frame_does_not_hang(run):
    async def scenario():
        senders = SmallSenders(2)
        ours, theirs = tcp_pair()
        stream, _, out = writing(ours, senders)
        out.put(data := content(9, 8 << 20))
        stream.wake()
        child = os.fork()
        if child == 0:
            try:
                extra, _ = unix_pair()
                assert senders.send(extra.fileno(), [bytes(5000)], print) is None
                job = stream._job
                assert job is not None
                senders.withdraw(job)
                pool, senders._pool = senders._pool, None
                assert pool is not None
                pool.reap()
                pool.close()
                del pool  # not `senders.close()`: the descriptors that the loop watches are those of both processes
                os._exit(7)
            finally:
                os._exit(1)
        status = await eventually(partial(_ended, child), "the end of the child")
        assert os.waitstatus_to_exitcode(status[0]) == 7
        reader = Reader(theirs)
        stream.close(grace=LIMIT)
        assert await reader.whole() == data
        senders.close()

    run(scenario())


def test_a_loop_that_ends_without_a_word_leaves_no_thread(run):
    before = sender_threads()
    held = []

    async def scenario():
        senders = SmallSenders(2)
        ours, theirs = tcp_pair()
        stream, _, out = writing(ours, senders)
        out.put(content(10, 32 << 20))
        stream.wake()
        held.extend((senders, ours, theirs, stream))

    run(scenario())
    senders, _, theirs, stream = held
    held.clear()
    senders.close()  # on a closed loop
    no_sender_left(before)
    stream.socket.close()
    theirs.close()


def test_a_pool_that_is_dropped_ends_its_threads():
    before = sender_threads()
    pool = Pool(2)
    ours, theirs = tcp_pair()
    data = bytearray(32 << 20)
    pool.submit(ours.fileno(), [data], lambda *result: None)
    assert len(sender_threads() - before) == 1
    del pool
    no_sender_left(before)
    data.append(1)
    ours.close()
    theirs.close()


def test_errors_are_told():
    pool = Pool(1)
    ours, theirs = unix_pair()
    theirs.close()
    over: list[tuple[int, int]] = []
    pool.submit(ours.fileno(), [b"x"], lambda *result: over.append(result))
    _reap_until(pool, lambda: len(over) == 1)
    assert over == [(0, errno.EPIPE)]
    ours.close()
    pool.close()
    assert pool.submit(0, [b"x"], print) is None
    with pytest.raises(ValueError, match="at least one thread"):
        Pool(0)
    with pytest.raises(TypeError):
        pool.submit(0, ["text"], print)  # type: ignore[list-item]


# -- How many


def test_the_number_of_threads(monkeypatch):
    cores = {0}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert default_count() == 0
    cores.update(range(16))
    assert default_count() == module.MOST

    async def scenario():
        assert make_senders(0) is None
        made = make_senders(3)
        assert made is not None and made.threads == 0
        monkeypatch.setattr(module, "SUPPORTED", False)
        assert make_senders(3) is None and default_count() == 0

    asyncio.run(scenario())


@pairs
def test_a_small_message_has_nothing_to_do_with_the_threads(run, pair):
    class Unused(Senders):
        def send(self, *words):
            raise AssertionError("asked")

    async def scenario():
        senders = Unused(2)
        ours, theirs = pair()
        stream, out = SocketStream(ours), ByteQueue()
        stream.senders = senders
        stream.start(Recorder(), out)
        for number in range(20):
            out.append(Wire("message", None, None, b"%02d" % number), 0.0)
            stream.wake()
        assert theirs.recv(40, socket.MSG_WAITALL) == b"".join(b"%02d" % number for number in range(20))
        assert out.sent_messages == 20 and out.sent_bytes == 40 and not out.messages
        stream.abort()
        await stream.wait_closed()
        theirs.close()
        senders.close()

    run(leak_free(scenario()))
