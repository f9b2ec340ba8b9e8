"""When a far side counts as vanished. Real ones vanish in `tests/faults/test_vanished_machines.py`."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from indifast.transport import alive
from indifast.transport.alive import NOTICED_WITHIN, PROBES, RESEND_INTERVAL, SILENCE, Guard, Progress, progress
from indifast.transport.connect import listen_tcp, open_tcp
from indifast.transport.stream import SocketStream
from tests.support.sockets import tcp_pair
from tests.support.waiting import eventually
from tests.transport.support import Pieces, Recorder, read_all


@pytest.mark.parametrize(
    ("found", "vanished"),
    [
        (Progress(unacknowledged=1, unsent=0, window=9, probes=0, silent=SILENCE), True),
        (Progress(unacknowledged=1, unsent=9, window=9, probes=0, silent=SILENCE - 0.1), False),
        (Progress(unacknowledged=0, unsent=0, window=9, probes=0, silent=1000), False),
        (Progress(unacknowledged=0, unsent=9, window=0, probes=PROBES, silent=SILENCE), True),
        # a reader without room was last asked a while ago, and the answer to one question was lost
        (Progress(unacknowledged=0, unsent=9, window=0, probes=0, silent=100), False),
        (Progress(unacknowledged=0, unsent=9, window=0, probes=PROBES - 1, silent=100), False),
        # the reader has taken back what it had room for
        (Progress(unacknowledged=1, unsent=9, window=0, probes=0, silent=SILENCE), False),
        # the own network does not take the packets
        (Progress(unacknowledged=0, unsent=9, window=9, probes=0, silent=100), False),
    ],
)
def test_who_has_vanished(found: Progress, vanished: bool) -> None:
    assert found.vanished == vanished


def test_what_the_kernel_says() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        found = progress(ours)
        assert found is not None and not found.under_way
        assert found.window > 0 and found.probes == 0 and 0 <= found.silent < 60
        ours.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += ours.send(bytes(1 << 16))
        found = progress(ours)
        assert found is not None and found.under_way and not found.vanished
        assert 0 < found.unsent <= sent
    assert progress(ours) is None, "a closed socket"


class Old:
    """A socket of a kernel whose answer is shorter."""

    def __init__(self, length: int) -> None:
        self.info = bytearray(length)
        self.info[3] = 1
        struct.pack_into("=I", self.info, 24, 7)
        struct.pack_into("=I", self.info, 56, 2500)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return bytes(self.info[:size])


def test_old_kernels_say_less() -> None:
    assert progress(Old(228)) == Progress(unacknowledged=7, unsent=0, window=0, probes=1, silent=2.5)  # type: ignore[arg-type]
    assert progress(Old(104)) is None  # type: ignore[arg-type]


def test_an_idle_connection_has_no_timer_and_one_with_data_under_way_has_one(run, monkeypatch) -> None:
    monkeypatch.setattr(alive, "LOOK_INTERVAL", 0.05)

    async def scenario() -> None:
        ours, theirs = tcp_pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        guard = stream._guard
        assert guard is not None and not guard.watching
        out.feed(stream, got)
        out.put(bytes(16 << 20))
        await eventually(lambda: guard.watching)
        for _ in range(3):  # the reader has not read
            looked = guard._timer
            await eventually(lambda looked=looked: guard._timer is not looked)
        assert guard.watching
        reading = asyncio.create_task(asyncio.to_thread(read_all, theirs))
        await eventually(lambda: not out.waiting and not guard.watching)
        assert not got.lost
        stream.abort()
        assert await reading == 16 << 20

    run(scenario())


def test_who_has_vanished_is_given_up_and_gets_nothing_more(run, monkeypatch) -> None:
    monkeypatch.setattr(alive, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(alive, "progress", lambda sock: Progress(1, 0, 1, 0, SILENCE))

    async def scenario() -> None:
        accepted: list[SocketStream] = []
        listener = await listen_tcp("localhost", 0, accepted.append)
        stream = await open_tcp("127.0.0.1", listener.port)
        assert isinstance(stream, SocketStream)
        got, out = Recorder(), Pieces()
        out.feed(stream, got)
        out.put(bytes(32 << 20))
        await eventually(lambda: got.lost)
        assert isinstance(got.lost[0], TimeoutError)
        await eventually(lambda: accepted)
        theirs = Recorder()
        accepted[0].start(theirs, Pieces())
        await eventually(lambda: theirs.lost)
        assert isinstance(theirs.lost[0], ConnectionResetError), "what was under way is not sent after all"
        listener.close()

    run(scenario())


def test_a_guard_without_memory_starts_with_the_next_write(run) -> None:
    class Loop:
        def call_later(self, *_: object) -> None:
            raise MemoryError

    guard = Guard(Loop(), socket.socket(), lambda exc: None)  # type: ignore[arg-type]
    guard.watch()
    assert not guard.watching
    guard.close()


SLOW = 6
"""Seconds after which a kernel that sends again every second has given up data of a closed socket."""

STALL = NOTICED_WITHIN + 2 * RESEND_INTERVAL
"""Seconds for which a reader reads nothing: more than those within which one that has vanished is noticed."""


def test_a_reader_that_is_alive_and_reads_nothing_is_kept() -> None:
    async def scenario(size: int) -> None:
        ours, theirs = tcp_pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        try:
            out.feed(stream, got)
            out.put(bytes(size))
            await eventually(lambda: stream._guard is not None and stream._guard.watching)
            await asyncio.sleep(STALL)  # time itself is what must not matter
            assert not got.lost
            reading = asyncio.create_task(asyncio.to_thread(read_all, theirs))
            await eventually(lambda: not out.waiting and (found := progress(ours)) is not None and not found.under_way)
            stream.close()
            assert await reading == size
        finally:
            stream.abort()  # the thread that reads ends with it

    async def both() -> None:
        fits_into_the_kernel, does_not = 300_000, 30 << 20
        await asyncio.gather(scenario(fits_into_the_kernel), scenario(does_not))

    asyncio.run(both())


def test_what_is_under_way_when_a_stream_is_closed_arrives_at_a_slow_reader(monkeypatch) -> None:
    monkeypatch.setattr(alive, "RESEND_INTERVAL", 1)
    size = 300_000

    async def scenario() -> None:
        ours, theirs = tcp_pair()
        stream, got, out = SocketStream(ours), Recorder(), Pieces()
        out.feed(stream, got)
        out.put(bytes(size))
        await eventually(lambda: not out.waiting)
        stream.close()
        await eventually(lambda: got.lost)
        await asyncio.sleep(SLOW)
        assert await asyncio.to_thread(read_all, theirs) == size

    asyncio.run(scenario())
