"""How the pieces of frames, and what the kernel holds unsent, follow the rate at which a peer takes them."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time

import pytest

from indifast.protocol.message import RAW
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.clientqueue import Outbox
from indifast.routing.cutting import LARGEST_PIECE
from indifast.transport import drain
from indifast.transport.drain import FIRST_PIECE, SMALLEST_PIECE, SPAN, Drain
from indifast.transport.stream import SocketStream
from tests.routing.fakes import drain as written
from tests.routing.fakes import frame, small
from tests.routing.test_packed_frames import METHOD, packable
from tests.support.sockets import tcp_pair
from tests.support.waiting import eventually
from tests.transport.support import Recorder

MB = 1_000_000


def unsent_limit(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


@pytest.fixture
def measured() -> tuple[ByteQueue, Drain, socket.socket]:
    ours, theirs = tcp_pair()
    theirs.close()
    queue = ByteQueue()
    queue.form = RAW
    return queue, Drain(queue, ours), ours


def busy(queue: ByteQueue, measured: Drain, rate: float, seconds: float, step: float = 0.005, now: float = 0.0) -> None:
    """Write at a rate while something waits, and then the rest."""
    queue.append(small(), now)
    for at in range(round(seconds / step)):
        measured.took(int(rate * step), now + at * step)
    queue.take(1000, 10)
    queue.sent(queue.queued, now)
    measured.took(0, now + seconds)


@pytest.mark.parametrize(
    ("nearby", "rate", "as_received"),
    [(True, 0, False), (True, 10 * MB, False), (True, 200 * MB, True), (False, 200 * MB, False)],
)
def test_only_a_fast_peer_on_this_machine_is_sent_what_came_as_base64_as_that(
    nearby: bool, rate: float, as_received: bool
) -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        queue = ByteQueue()
        queue.form = RAW
        measured = Drain(queue, ours, nearby=nearby)
        if rate:
            busy(queue, measured, rate, 1.0)
        assert queue.as_received is as_received


@pytest.mark.parametrize(
    ("rate", "piece"), [(0.1 * MB, SMALLEST_PIECE), (2.5 * MB, 25_000), (12.5 * MB, 125_000), (125 * MB, LARGEST_PIECE)]
)
def test_a_piece_takes_a_hundredth_of_a_second(
    measured: tuple[ByteQueue, Drain, socket.socket], rate: float, piece: int
) -> None:
    queue, drained, sock = measured
    assert queue.piece == FIRST_PIECE and unsent_limit(sock) == 2 * FIRST_PIECE
    busy(queue, drained, rate, 1.0)
    assert drained.rate == pytest.approx(rate, rel=0.1)
    assert queue.piece == pytest.approx(piece, rel=0.1)
    assert queue.whole == pytest.approx(rate * SPAN, rel=0.1), "a frame that takes no longer is not cut"
    assert unsent_limit(sock) == drained.unsent
    assert drained.unsent <= max(1.5 * rate * SPAN, 2 * SMALLEST_PIECE)


def test_a_peer_becomes_slow_and_fast_again(measured: tuple[ByteQueue, Drain, socket.socket]) -> None:
    queue, drained, sock = measured
    busy(queue, drained, 1000 * MB, 0.1)
    assert not drained.slow and queue.whole > 10 * MB and unsent_limit(sock) == 4 << 20
    busy(queue, drained, 1 * MB, 1.0, now=10.0)
    assert drained.slow and queue.piece < 20_000 and unsent_limit(sock) < 50_000
    busy(queue, drained, 1000 * MB, 0.1, now=20.0)
    assert not drained.slow and queue.whole > 10 * MB


def test_the_time_in_which_nothing_waits_does_not_count(measured: tuple[ByteQueue, Drain, socket.socket]) -> None:
    queue, drained, _ = measured
    for at in range(20):
        busy(queue, drained, 100 * MB, 0.06, now=100.0 * at)
    assert drained.rate == pytest.approx(100 * MB, rel=0.2)


def test_what_the_kernel_takes_at_once_does_not_count(measured: tuple[ByteQueue, Drain, socket.socket]) -> None:
    queue, drained, _ = measured
    for at in range(20):
        queue.append(small(), 10.0 * at)
        drained.took(4 * MB, 10.0 * at)
        drained.took(50_000, 10.0 * at + 0.05)
        queue.take(1000, 10)
        queue.sent(queue.queued, 10.0 * at)
        drained.took(0, 10.0 * at + 0.06)
    assert drained.rate == pytest.approx(1 * MB, rel=0.1)


def test_a_short_frame_to_a_fast_peer_is_measured(measured: tuple[ByteQueue, Drain, socket.socket]) -> None:
    queue, drained, _ = measured
    queue.append(small(), 0.0)
    drained.took(MB, 0.0)
    queue.take(1000, 10)
    queue.sent(queue.queued, 0.0)
    drained.took(4 * MB, 0.004)
    assert drained.rate == pytest.approx(1000 * MB, rel=0.1)
    assert drained.slow is False and queue.piece == drain.LARGEST_PIECE


def test_the_time_in_which_other_peers_have_their_turn_does_not_count(
    measured: tuple[ByteQueue, Drain, socket.socket],
) -> None:
    queue, drained, _ = measured
    queue.append(small(), 0.0)
    now = 0.0
    for _ in range(10):
        now += 0.02  # the others
        drained.go_on(now)
        now += 0.001
        drained.took(512 << 10, now, more=True)
    assert drained.rate == pytest.approx((512 << 10) / 0.001, rel=0.1)
    drained.go_on(now)
    drained.took(100_000, now + 0.06)  # it has not taken all that it was offered
    assert drained.rate < 400 * MB


def test_a_message_overtakes_a_frame_on_its_way_to_a_slow_peer() -> None:
    """What the peer has not read when the message is queued is not more than what sockets hold, and a piece."""

    async def scenario() -> None:
        ours, theirs = tcp_pair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        stream, queue = SocketStream(ours), ByteQueue()
        queue.form = RAW
        stream.pace(queue)
        stream.start(Recorder(), queue)
        message = frame("B", 0, device="Cam")
        content = os.urandom(20 * MB)
        message.size = len(content)
        message.parts = lambda form: [b"<set/>", content, b"<?end?>"]  # type: ignore[method-assign]
        queue.append(message, time.monotonic())
        stream.wake()
        got = b""
        while len(got) < 2 * MB:
            got += await loop.sock_recv(theirs, 20_000)
        queue.append(small(data=b"<here/>", device="Roof"), time.monotonic())
        queue.append(small(data=b"<behind/>", device="Cam"), time.monotonic())
        seen = len(got)
        while not got.endswith(b"<behind/>"):
            got += await loop.sock_recv(theirs, MB)
        assert 0 <= got.index(b"<here/>") - seen < 2 * MB
        assert got.endswith(b"<?end?><behind/>")
        stream.abort()
        theirs.close()
        await eventually(lambda: stream.closed)

    asyncio.run(scenario())


class Link:
    """A link with a rate, in virtual time: a kernel that holds unsent what it is allowed to, and a peer that reads."""

    def __init__(self, queue: Outbox, measured: Drain, rate: float) -> None:
        self.now = 0.0
        self.arrived = bytearray()
        self._queue, self._measured, self._rate = queue, measured, rate
        self._unsent = bytearray()

    def run(self, seconds: float, step: float = 0.001) -> None:
        for _ in range(round(seconds / step)):
            self.now += step
            self.arrived += self._unsent[: int(self._rate * step)]
            del self._unsent[: int(self._rate * step)]
            while self._queue.pending and (room := self._measured.unsent - len(self._unsent)) > 0:
                data = b"".join(map(bytes, self._queue.take(MB, 100)[0]))[:room]
                self._queue.sent(len(data), self.now)
                self._measured.took(len(data), self.now)
                self._unsent += data


@pytest.mark.parametrize("per_frame", [1.7, 4.3, 10.1])
def test_the_newest_frame_is_at_most_two_frames_old(
    measured: tuple[ByteQueue, Drain, socket.socket], per_frame: float
) -> None:
    """A camera makes that many frames while the link takes one. What arrives waits for one frame, and takes one."""
    _, _, sock = measured
    queue = Outbox(newest_wins=True)
    queue.form = RAW
    size, rate = MB, 2.5 * MB
    taken = size / rate
    link = Link(queue, Drain(queue, sock), rate)
    born: dict[bytes, float] = {}
    ages: list[float] = []
    seen = 0
    for number in range(round(12 * per_frame)):
        message = frame("B", 0, device="Cam")
        name = b"<%08d>" % number
        born[name] = link.now
        message.size = size
        message.parts = lambda form, name=name: [name, bytes(size), b"<end %b>" % name]  # type: ignore[method-assign]
        queue.append(message, link.now)
        for _ in range(round(taken / per_frame / 0.01)):
            link.run(0.01)
            for name in re.findall(rb"<end (<\d+>)>", link.arrived[max(0, seen - 20) :]):
                ages += [link.now - born.pop(name)] if name in born else []
            seen = len(link.arrived)
    assert len(ages) >= 9, "the link is used"
    assert max(ages[2:]) < 2 * taken + 3 * SPAN


@pytest.mark.parametrize("named", [False, True])
def test_a_peer_that_is_faster_than_a_thread_compresses_is_found_to_be_fast(
    measured: tuple[ByteQueue, Drain, socket.socket], named: bool
) -> None:
    """Nothing waits for such a peer, so its rate can't be measured, and would stay what it was at a slow start."""
    _, _, sock = measured
    box = ByteQueue()
    box.form = RAW
    drained = Drain(box, sock, lambda rate: METHOD if named or rate < 25 * MB else "")
    busy(box, drained, 10 * MB, 1.0)
    assert box._packing.method == METHOD
    now = 10.0
    for _ in range(3):
        message = packable(b"<f>", [5000] * 150, ready=1)
        box.append(message, now)
        while box.queued:
            drained.took(len(written(box)), now)
            message.contents.go_on()  # type: ignore[attr-defined]
            now += 0.006
    assert box._packing.method == (METHOD if named else "")
    assert 25 * MB < drained.rate < 2e9
    busy(box, drained, 10 * MB, 1.0, now=now)
    assert drained.rate == pytest.approx(10 * MB, rel=0.1) and box._packing.method == METHOD
