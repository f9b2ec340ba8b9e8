"""SocketStream over TCP and Unix sockets, with plain sockets at the other end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from indifast.protocol.complaints import BURST
from indifast.transport import stream as stream_module
from indifast.transport.connect import listen_tcp, open_tcp
from indifast.transport.stream import FAILED, MAX_FDS, SocketStream, peer_name, read_buffer
from tests.support.blackbox import LIMIT
from tests.support.descriptors import no_fd_leak
from tests.support.sockets import reset, tcp_pair, unix_pair
from tests.support.waiting import eventually, turns
from tests.transport.support import Pieces, Recorder, read_all

pairs = pytest.mark.parametrize("pair", [tcp_pair, unix_pair])


@pairs
def test_bytes_travel_both_ways(run, pair):
    async def scenario():
        ours, theirs = pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        assert stream.local == (pair is unix_pair)
        theirs.sendall(b"hello")
        await eventually(lambda: got.data == b"hello")
        out.put(b"wor")
        out.put(b"ld")
        assert await asyncio.to_thread(theirs.recv, 100) == b"world", "both in one write"
        stream.abort()
        await stream.wait_closed()
        await eventually(lambda: got.lost == [None])
        theirs.close()

    run(scenario())


class Whole(Pieces):
    """An outbox that gives out whole pieces, as queues do."""

    def take(self, max_bytes: int, max_parts: int) -> tuple[list[memoryview], Sequence[int]]:
        return [data for data, _ in self.waiting], ()


@pairs
@pytest.mark.parametrize("sizes", [[5000], [300] * 20, [400, 4600, 1], [1000, 1000], [999, 1, 2000]])
def test_a_long_output_is_written_in_turns(run, pair, sizes, monkeypatch):
    """Others have theirs in between, however large the pieces are."""
    monkeypatch.setattr(stream_module, "_WRITE_BUDGET", 1000)

    async def scenario():
        ours, theirs = pair()
        stream, out = SocketStream(ours), Whole()
        content = np.random.default_rng(1).bytes(sum(sizes))
        at = 0
        for size in sizes:
            out.put(content[at : at + size])
            at += size
        out.feed(stream, Recorder())
        assert out.written == 1000
        await turns()
        assert out.written >= 2000
        await eventually(lambda: not out.waiting)
        assert theirs.recv(len(content), socket.MSG_WAITALL) == content
        stream.abort()
        theirs.close()

    run(scenario())


class Keeper(Recorder):
    """A receiver that keeps the memory that the data was read into."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[memoryview] = []
        self.length = 0

    def data_received(self, data, start, end, fds):
        self.kept.append(memoryview(data)[start:end])
        self.length += end - start


@pairs
def test_receive_buffers_are_reused_and_freed_when_idle(run, pair):
    """In a thread of its own, which has its own buffers: other tests may still hold some of those of this thread."""
    payload = os.urandom(1 << 20) * 16

    async def scenario():
        ours, theirs = pair()
        stream, got = SocketStream(ours), Keeper()
        stream.start(got, Pieces())
        most = []
        for _ in range(3):
            await asyncio.to_thread(theirs.sendall, payload)
            await eventually(lambda: got.length == len(payload))
            assert b"".join(got.kept) == payload
            most.append(read_buffer().blocks)
            got.kept.clear()
            got.length = 0
            assert read_buffer().blocks == most[-1], "blocks that are returned are kept"
        assert most[0] * (256 << 10) >= len(payload)
        # Each read fills a block at least to its half, so the three frames would need 192 blocks of their own at least.
        assert most[2] * (256 << 10) < 3 * len(payload), "later frames use the blocks of the first one"
        await eventually(lambda: read_buffer().blocks <= 17)
        stream.abort()
        theirs.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run, scenario()).result()


@pairs
def test_a_large_message_arrives_whole_at_a_slow_reader(run, pair):
    payload = os.urandom(1 << 20) * 9 + b"tail"

    async def scenario():
        ours, theirs = pair()
        stream, out = SocketStream(ours), Pieces()
        out.put(payload)  # before the stream starts
        out.feed(stream, Recorder())
        received = bytearray()

        def read() -> None:
            while chunk := theirs.recv(1 << 16):
                received.extend(chunk)

        reader = threading.Thread(target=read)
        reader.start()
        await eventually(lambda: not out.pending)
        stream.close()
        await stream.wait_closed()
        await asyncio.to_thread(reader.join)
        assert received == payload
        theirs.close()

    run(scenario())


@pairs
def test_close_flushes_what_is_queued(run, pair):
    async def scenario():
        ours, theirs = pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        out.put(b"x" * (6 << 20))
        stream.close()
        assert stream.closed
        length = await asyncio.to_thread(lambda: sum(iter(lambda: len(theirs.recv(1 << 18)), 0)))
        assert length == 6 << 20
        await eventually(lambda: got.lost == [None])
        theirs.close()

    run(scenario())


@pairs
def test_close_does_not_wait_forever(run, pair):
    async def scenario():
        ours, theirs = pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        out.put(b"x" * (64 << 20))
        stream.close(grace=0.05)
        await stream.wait_closed()
        await eventually(lambda: got.lost)
        assert isinstance(got.lost[0], TimeoutError) and "did not read the last" in str(got.lost[0])
        assert out.queued > 0
        theirs.close()

    run(scenario())


def test_the_last_words_reach_a_peer_whose_own_words_were_not_read(run):
    """Closing a TCP socket with unread input would reset the connection and destroy the output in transit."""

    async def scenario():
        ours, theirs = tcp_pair()
        stream, out = SocketStream(ours), Pieces()
        out.feed(stream, Recorder())
        stream.pause_reading()
        theirs.sendall(b"nobody reads this")
        out.put(b"good bye")
        stream.close()
        await stream.wait_closed()
        assert await asyncio.to_thread(theirs.recv, 100) == b"good bye"
        theirs.close()

    run(scenario())


@pairs
def test_end_of_file_is_reported_exactly_once(run, pair):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = pair()
            stream, got = SocketStream(ours), Recorder()
            stream.start(got, Pieces())
            theirs.sendall(b"last")
            theirs.close()
            await eventually(lambda: got.lost)
            assert got.data == b"last"
            assert got.lost == [None]
            assert stream.closed
            stream.close()
            stream.abort()
            await asyncio.sleep(0)
            assert got.lost == [None]

    run(scenario())


@pairs
def test_a_half_closed_peer_still_gets_its_answer(run, pair):
    async def scenario():
        ours, theirs = pair()
        stream, got, out = SocketStream(ours), Recorder(half_open=True), Pieces()
        out.feed(stream, got)
        theirs.sendall(b"question")
        theirs.shutdown(socket.SHUT_WR)
        await eventually(lambda: got.eof)
        assert got.lost == []
        out.put(b"answer")
        assert await asyncio.to_thread(theirs.recv, 100) == b"answer"
        stream.close()
        await stream.wait_closed()
        await eventually(lambda: got.lost == [None])
        theirs.close()

    run(scenario())


def test_a_reset_is_reported_as_an_error(run):
    async def scenario():
        ours, theirs = tcp_pair()
        stream, got = SocketStream(ours), Recorder()
        stream.start(got, Pieces())
        reset(theirs)
        await eventually(lambda: got.lost)
        assert isinstance(got.lost[0], ConnectionResetError)

    run(scenario())


@pytest.mark.parametrize("size", [10, 100_000, 150_000])
@pytest.mark.parametrize("paused", [False, True])
@pairs
def test_a_reset_together_with_the_last_bytes_is_noticed(run, pair, paused, size):
    """The loop may report both at once, and nothing afterwards."""

    async def scenario():
        async with no_fd_leak():
            ours, theirs = pair()
            stream, got, out = SocketStream(ours), Recorder(), Pieces()
            out.feed(stream, got)
            out.put(b"an answer that the peer does not read")
            if paused:
                stream.pause_reading()
            await asyncio.sleep(0)
            theirs.setblocking(False)
            sent = theirs.send(bytes(size))  # the loop gets no turn between this and the reset
            reset(theirs)
            if paused:
                await asyncio.sleep(0)
                stream.resume_reading()
            await eventually(lambda: got.lost)
            assert isinstance(got.lost[0], ConnectionResetError)
            assert stream.closed
            if pair is unix_pair:
                assert len(got.data) == sent
            else:  # the last part may not have arrived before the reset
                assert min(size, 32 << 10) <= len(got.data) <= sent

    run(scenario())


@pairs
def test_a_reset_is_noticed_although_more_is_to_be_read_and_written(run, pair):
    """The loop may end watching both directions of a socket at once."""

    async def scenario():
        async with no_fd_leak():
            ours, theirs = pair()
            stream, got, out = SocketStream(ours), Recorder(), Pieces()
            stream.read_limit = 1000
            out.put(bytes(20 << 20))
            out.feed(stream, got)
            stream.wake()
            await asyncio.sleep(0)  # the write is blocked now
            theirs.setblocking(False)
            theirs.send(bytes(30_000))  # the loop gets no turn between this and the reset
            reset(theirs)
            await eventually(lambda: got.lost)
            assert got.data

    run(scenario())


@pairs
def test_a_peer_that_resets_while_it_is_answered_is_noticed(run, pair):
    """The write consumes the error that reading would have reported."""

    class Answering(Recorder):
        def data_received(self, data, start, end, fds):
            super().data_received(data, start, end, fds)
            out.put(b"answer")
            stream.wake()

    ours, theirs = pair()
    out = Pieces()

    async def scenario():
        nonlocal stream
        stream, got = SocketStream(ours), Answering()
        out.feed(stream, got)
        ours.send(b"greeting")
        await asyncio.sleep(0)
        theirs.send(b"question")
        reset(theirs)
        await eventually(lambda: got.lost)
        assert got.data == b"question"

    stream: SocketStream
    run(scenario())


def test_the_last_input_from_a_peer_is_read_although_writing_to_it_fails(run):
    async def scenario():
        ours, theirs = unix_pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        theirs.sendall(b"m" * 100_000)
        theirs.close()
        out.put(b"too late")
        out.feed(stream, got)  # the write fails here, before anything is read
        await eventually(lambda: got.lost)
        assert got.data == b"m" * 100_000
        assert got.lost == [None]

    run(scenario())


def test_a_failed_write_keeps_nothing_alive(run):
    """The traceback of the error refers to all callers, and so to the frame to be sent and its descriptors."""

    class Frame:
        pass

    async def scenario():
        ours, theirs = unix_pair()
        stream, out = SocketStream(ours), Pieces()
        out.feed(stream, Recorder())
        theirs.close()

        def send() -> weakref.ref[Frame]:
            frame = Frame()
            out.waiting.append((memoryview(b"its bytes"), ()))
            stream.wake()
            return weakref.ref(frame)

        assert send()() is None
        assert not stream.closed, "the end of file has not been read yet"
        await stream.wait_closed()

    run(scenario())


@pairs
def test_while_paused_bytes_stay_with_the_peer(run, pair):
    async def scenario():
        ours, theirs = pair()
        theirs.setblocking(False)
        stream, got = SocketStream(ours), Recorder()
        stream.start(got, Pieces())
        stream.pause_reading()
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 1 << 30:
                sent += theirs.send(b"x" * 65536)
        assert not got.data
        stream.resume_reading()
        await eventually(lambda: len(got.data) == sent)
        stream.abort()
        theirs.close()

    run(scenario())


class Owner(Recorder):
    """A receiver that wants the first bytes in memory of its own."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.memory = bytearray(size)
        self.filled = 0
        self.fault: Exception | None = None

    def target(self) -> memoryview | None:
        return memoryview(self.memory)[self.filled :] if self.filled < len(self.memory) else None

    def arrived(self, nbytes: int) -> None:
        if self.fault is not None:
            raise self.fault
        self.filled += nbytes


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("complete", [True, False])
def test_bytes_are_read_where_the_receiver_wants_them(run, end, complete):
    async def scenario():
        ours, theirs = tcp_pair()
        stream, got = SocketStream(ours), Owner(100_000)
        stream.start(got, Pieces())
        content = os.urandom(100_003 if complete else 99_999)
        await asyncio.to_thread(theirs.sendall, content)
        await eventually(lambda: got.filled + len(got.data) == len(content))
        assert got.memory[: got.filled] + got.data == content and len(got.data) == (3 if complete else 0)
        got.memory += b"no view is left that would keep it from growing"
        end(theirs)
        await eventually(lambda: got.lost)
        assert got.eof == (end is not reset) and [type(exc) for exc in got.lost] == [
            type(None) if end is not reset else ConnectionResetError
        ]

    run(scenario())


@pytest.mark.parametrize("fault", [ZeroDivisionError(), MemoryError()])
def test_an_error_of_a_receiver_with_memory_of_its_own_ends_only_its_stream(run, fault, caplog):
    async def scenario():
        ours, theirs = tcp_pair()
        stream, got = SocketStream(ours), Owner(10)
        got.fault = fault
        stream.start(got, Pieces())
        theirs.sendall(b"x")
        await eventually(lambda: got.lost)
        assert type(got.lost[0]) is type(fault) and caplog.text
        theirs.close()

    run(scenario())


class Worker(Recorder):
    """A receiver that takes several turns for what it reads."""

    def __init__(self, turns: int, pause: float = 0.0) -> None:
        super().__init__()
        self.stream: SocketStream | None = None
        self.turns = turns
        self.pause = pause

    def data_received(self, data, start, end, fds):
        super().data_received(data, start, end, fds)
        assert self.stream is not None
        if len(self.chunks) % self.turns:
            self.stream.call_again(self.pause)
        if len(self.chunks) == 1:
            self.stream.pause_reading()


@pairs
@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_a_receiver_that_needs_more_turns_is_called_again_before_anything_is_read(run, pair, pause):
    async def scenario():
        ours, theirs = pair()
        stream, got = SocketStream(ours), Worker(3, pause)
        got.stream = stream
        stream.start(got, Pieces())
        theirs.sendall(b"one")
        await eventually(lambda: got.chunks)
        theirs.sendall(b"two")
        for _ in range(20):
            await asyncio.sleep(pause)
        assert got.chunks == [b"one"], "it is not called while reading is paused"
        stream.resume_reading()
        stream.resume_reading()
        theirs.close()
        await eventually(lambda: got.lost)
        assert got.chunks == [b"one", b"", b"", b"two", b"", b""] and got.eof and got.lost == [None]

    run(scenario())


def test_a_receiver_is_not_called_again_after_the_end(run):
    async def scenario():
        ours, theirs = tcp_pair()
        stream, got = SocketStream(ours), Worker(3)
        got.stream = stream
        stream.start(got, Pieces())
        theirs.sendall(b"one")
        await eventually(lambda: got.chunks)
        stream.resume_reading()
        stream.abort()
        await eventually(lambda: got.lost)
        for _ in range(3):
            await asyncio.sleep(0)
        assert got.chunks == [b"one"]
        theirs.close()

    run(scenario())


def test_one_busy_stream_does_not_keep_another_waiting(run):
    async def scenario():
        busy_ours, busy_theirs = unix_pair()
        quiet_ours, quiet_theirs = unix_pair()
        busy, quiet = Recorder(), Recorder()
        streams = [SocketStream(busy_ours), SocketStream(quiet_ours)]
        for stream, got in zip(streams, (busy, quiet), strict=True):
            stream.start(got, Pieces())
        stop = threading.Event()

        def flood() -> None:
            chunk = b"x" * (1 << 18)
            while not stop.is_set():
                try:
                    busy_theirs.sendall(chunk)
                except OSError:
                    return

        writer = threading.Thread(target=flood)
        writer.start()
        await eventually(lambda: len(busy.data) > 1 << 20)
        quiet_theirs.sendall(b"ping")
        await eventually(lambda: quiet.data == b"ping")
        stop.set()
        streams[0].abort()
        streams[1].abort()
        await asyncio.to_thread(writer.join)
        assert max(map(len, busy.chunks)) <= 256 << 10, "bounded work per event"
        busy_theirs.close()
        quiet_theirs.close()

    run(scenario())


def test_received_bytes_are_never_overwritten(run):
    """Receivers keep slices of the buffers, so later data must go elsewhere."""

    async def scenario():
        ours, theirs = unix_pair()
        stream, got = SocketStream(ours), Keeper()
        stream.start(got, Pieces())
        pieces = [bytes([number]) * 5000 for number in range(200)]
        for number, piece in enumerate(pieces):
            theirs.sendall(piece)
            await eventually(lambda number=number: got.length == 5000 * (number + 1))
        assert b"".join(got.kept) == b"".join(pieces)
        stream.abort()
        theirs.close()

    run(scenario())


def test_descriptors_travel_with_the_first_byte_of_their_message(run):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = unix_pair()
            stream, got, out = SocketStream(ours), Recorder(), Pieces()
            out.feed(stream, got)
            files = [os.memfd_create(f"m{number}") for number in range(MAX_FDS * 2 + 3)]
            out.put(b"plain ")
            out.put(b"<message with descriptors/>", files)
            data, fds = b"", []
            while len(data) < 33:
                piece, more, flags, _ = await asyncio.to_thread(socket.recv_fds, theirs, 1000, MAX_FDS)
                assert not flags & socket.MSG_CTRUNC, "never more descriptors than a peer has room for"
                data += piece
                fds += more
            assert data == b"plain <message with descriptors/>"
            assert [os.readlink(f"/proc/self/fd/{fd}") for fd in fds] == [
                f"/memfd:m{number} (deleted)" for number in range(len(files))
            ]
            for fd in fds + files:
                os.close(fd)
            stream.abort()
            theirs.close()

    run(scenario())


def test_received_descriptors_are_passed_on_and_close_on_exec(run):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = unix_pair()
            stream, got = SocketStream(ours), Recorder()
            stream.start(got, Pieces())
            files = [os.memfd_create(f"m{number}") for number in range(MAX_FDS)]
            socket.send_fds(theirs, [b"here"], files)
            await eventually(lambda: got.data == b"here")
            assert len(got.fds) == MAX_FDS
            assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in got.fds)
            for fd in got.fds + files:
                os.close(fd)
            stream.abort()
            theirs.close()

    run(scenario())


def test_too_many_descriptors_in_one_message_end_the_connection_without_a_leak(run):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = unix_pair()
            stream, got = SocketStream(ours), Recorder()
            stream.start(got, Pieces())
            files = [os.memfd_create(f"m{number}") for number in range(MAX_FDS + 4)]
            socket.send_fds(theirs, [b"here"], files)
            await eventually(lambda: got.lost)
            assert isinstance(got.lost[0], OSError)
            assert not got.fds
            for fd in files:
                os.close(fd)
            theirs.close()

    run(scenario())


@pairs
def test_what_another_reader_has_taken_is_not_missed(run, pair):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = pair()
            both = [Recorder(), Recorder()]
            for got, sock in zip(both, (ours, ours.dup()), strict=True):
                SocketStream(sock).start(got, Pieces())
            for number in range(1, 4):  # the loop calls both
                theirs.sendall(b"x")
                await eventually(lambda number=number: sum(len(got.data) for got in both) == number)
            theirs.close()
            await eventually(lambda: all(got.lost for got in both))

    run(scenario())


def test_what_the_kernel_adds_to_a_message_besides_descriptors_is_ignored(run):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = unix_pair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            stream, got = SocketStream(ours), Recorder()
            stream.start(got, Pieces())
            with open("/dev/null", "rb") as file:  # noqa: ASYNC230
                socket.send_fds(theirs, [b"x"], [file.fileno()])
            await eventually(lambda: got.data)
            assert len(got.fds) == 1
            os.close(got.fds[0])
            stream.abort()
            theirs.close()

    run(scenario())


def test_a_half_closed_stream_may_be_paused_and_closed_twice(run):
    async def scenario():
        async with no_fd_leak():
            ours, theirs = unix_pair()
            stream, got, out = SocketStream(ours), Recorder(half_open=True), Pieces()
            out.feed(stream, got)
            waiting = asyncio.create_task(stream.wait_closed())
            given_up = asyncio.create_task(stream.wait_closed())
            theirs.shutdown(socket.SHUT_WR)
            await eventually(lambda: got.eof)
            stream.pause_reading()
            stream.resume_reading()
            stream.resume_reading()
            out.put(b"answer")
            given_up.cancel()
            await asyncio.wait([given_up])
            stream.close()
            stream.close()
            await waiting
            await eventually(lambda: got.lost == [None])
            assert theirs.recv(100) == b"answer"
            theirs.close()

    run(scenario())


def test_a_peer_has_a_name_even_if_the_system_can_not_tell(monkeypatch):
    ours, theirs = unix_pair()
    monkeypatch.delattr(socket, "SO_PEERCRED")  # as on macOS
    assert peer_name(ours) == "local"
    for sock in (ours, theirs):
        sock.close()
    with socket.socket() as alone:
        assert peer_name(alone) == "unknown"


def test_the_flags_of_a_shared_socket_do_not_change(run):
    async def scenario():
        ours, theirs = unix_pair()
        flags = fcntl.fcntl(ours, fcntl.F_GETFL)
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        out.put(b"x" * (8 << 20))
        theirs.sendall(b"y")
        await eventually(lambda: got.data == b"y")
        assert fcntl.fcntl(ours, fcntl.F_GETFL) == flags
        stream.abort()
        theirs.close()

    run(scenario())


def test_an_error_in_the_receiver_ends_only_its_stream(run, caplog):
    class Faulty(Recorder):
        def data_received(self, data, start, end, fds):
            raise RuntimeError("bug")

    async def scenario():
        ours, theirs = unix_pair()
        stream, got = SocketStream(ours), Faulty()
        stream.start(got, Pieces())
        theirs.sendall(b"x")
        await eventually(lambda: got.lost)
        assert isinstance(got.lost[0], RuntimeError)
        theirs.close()

    run(scenario())
    assert "internal error" in caplog.text


@pytest.mark.usefixtures("bursts_only")
def test_errors_in_receivers_do_not_fill_the_log(run, caplog):
    """A peer may know how to cause one, and connect again and again."""

    class Faulty(Recorder):
        def data_received(self, data, start, end, fds):
            raise RuntimeError("bug")

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise RuntimeError("another")

    async def scenario():
        for _ in range(BURST + 20):
            ours, theirs = unix_pair()
            got = Faulty()
            SocketStream(ours).start(got, Pieces())
            theirs.sendall(b"x")
            await eventually(lambda got=got: got.lost)
            theirs.close()

    run(scenario())
    for what in ("internal error", "connection_lost"):
        lines = [record for record in caplog.records if what in record.getMessage()]
        assert len(lines) == BURST
        assert all(record.exc_info for record in lines)


def test_small_messages_are_not_held_back_and_dead_peers_are_probed(run):
    async def scenario():
        async with no_fd_leak():
            accepted: list[SocketStream] = []
            listener = await listen_tcp("localhost", 0, accepted.append)
            stream = await open_tcp("127.0.0.1", listener.port)
            await eventually(lambda: accepted)
            for end in (stream, accepted[0]):
                assert end.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert not os.get_inheritable(end.socket.fileno())
                end.abort()
            assert stream.peername == f"127.0.0.1:{listener.port}"
            listener.close()

    run(scenario())


def test_a_failure_to_connect_names_the_address(run):
    async def scenario():
        with socket.socket() as bound:  # it does not listen, but nobody else can
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
                await open_tcp("127.0.0.1", port)
        with pytest.raises(OSError, match="cannot resolve"):
            await open_tcp("no-such-host.invalid", 7624)
        for host in ("a..b", "z" * 80 + ".example"):  # the codec for host names refuses these before any lookup
            with pytest.raises(OSError, match="cannot resolve"):
                await open_tcp(host, 7624)
            with pytest.raises(OSError, match="cannot listen"):
                await listen_tcp(host, 0, lambda stream: None)

    run(scenario())


def test_a_silent_address_is_given_up(run):
    async def scenario():
        # A listener that never accepts stops answering connection requests when its backlog is full.
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            held = []
            for _ in range(3):
                sock = socket.socket()
                sock.setblocking(False)
                assert sock.connect_ex(full.getsockname()) in (0, errno.EINPROGRESS)
                held.append(sock)
            with pytest.raises(TimeoutError, match="no answer"):
                await open_tcp("127.0.0.1", full.getsockname()[1], within=0.2)
            for sock in held:
                sock.close()

    run(scenario())


@pytest.mark.parametrize("turns", range(8))
def test_a_cancellation_that_coincides_with_the_connection_is_not_lost(run, turns):
    """`asyncio.wait_for` of Python 3.11 then returns its result, and forgets the cancellation."""

    async def scenario():
        async with no_fd_leak():
            loop = asyncio.get_running_loop()
            connect, begun = loop.sock_connect, asyncio.Event()

            async def watched(sock, address):
                begun.set()
                await connect(sock, address)

            loop.sock_connect = watched
            listener = await listen_tcp("127.0.0.1", 0, lambda stream: stream.abort())
            task = asyncio.create_task(open_tcp("127.0.0.1", listener.port))
            await begun.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                task.result().abort()
            listener.close()

    run(scenario())


def test_what_the_peer_sends_after_the_end_does_not_cost_what_is_under_way(run):
    async def scenario():
        ours, theirs = tcp_pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        out.put(bytes(1_000_000))
        await eventually(lambda: not out.waiting)
        stream.close(grace=LIMIT)
        theirs.send(b"too late")
        reading = asyncio.create_task(asyncio.to_thread(read_all, theirs))
        await eventually(lambda: got.lost)
        assert await reading == 1_000_000 and got.lost == [None]

    run(scenario())


def test_what_has_arrived_is_read_although_the_peer_takes_nothing_any_more(run):
    async def scenario():
        ours, theirs = unix_pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        stream.pause_reading()
        theirs.send(b"last words")
        theirs.close()
        out.put(b"into the void")
        await eventually(lambda: stream._output is FAILED)
        assert not got.lost
        stream.resume_reading()
        await eventually(lambda: got.lost)
        assert got.data == b"last words"

    run(scenario())
