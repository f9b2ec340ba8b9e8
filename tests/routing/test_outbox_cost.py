"""The cost of an append, a take and a sent: it does not depend on how much waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.protocol.wire import get_properties
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.frames import Frame
from tests.routing.fakes import Fake, drain, frame, small
from tests.support.operations import assert_constant_cost, operations

MANY = 20_000
SIZE = 300
ROOM = 1 << 40


@pytest.fixture(autouse=True)
def comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search through a deque count each element that it compares."""
    monkeypatch.setattr(Frame, "__eq__", lambda self, other: self is other)


def outbox(*, queue: int = ROOM, stream: int = 1) -> Outbox:
    """Return an outbox that, by default, exceeds its stream limit with the first frame, and is never full."""
    return Outbox(replace(DEFAULT_LIMITS, queue=queue, stream=stream, small_queue=ROOM))


def fill(box: Outbox, waiting: int, **more: object) -> Outbox:
    for _ in range(waiting):
        box.append(frame(size=SIZE, **more), 0.0)  # type: ignore[arg-type]
    return box


def same_cost(make: Callable[[int], Callable[[], object]], times: Callable[[int], int] | None = None) -> None:
    """Check that the function `make(waiting)` costs the same however much waits.

    `times(waiting)` is how often to call one that costs more now and then.
    """

    def cost(waiting: int) -> float:
        work, calls = make(waiting), 50 if times is None else times(waiting)
        return operations(lambda: [work() for _ in range(calls)]) / calls

    assert_constant_cost(cost, (100, 1_000, 20_000) if times is None else (100, 1_000, 5_000))


def read(box: ByteQueue, nbytes: int = 1) -> None:
    """Let the peer read `nbytes` bytes."""
    parts, _ = box.take(2_000, 16)
    assert parts
    box.sent(min(nbytes, sum(map(len, parts))), 0.0)


# Appending


@pytest.mark.parametrize("form", [".bin", ".stream"])
def test_a_frame_after_many_that_may_not_be_replaced(form: str) -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = fill(outbox(), waiting, format=".bin")
        return lambda: box.append(frame(size=SIZE, format=form), 0.0)

    same_cost(make)


def test_a_stream_frame_of_one_member_after_many_of_another() -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = fill(outbox(stream=waiting * SIZE), waiting, format=".stream", members="a")
        box.append(frame(size=SIZE, format=".stream", members="b"), 0.0)
        return lambda: box.append(frame(size=SIZE, format=".stream", members="b"), 0.0)

    same_cost(make)


def test_frames_with_ever_new_members() -> None:
    def make(waiting: int) -> Callable[[], object]:
        box, number = outbox(), count()

        def append() -> None:
            message = frame(size=SIZE, format=".stream")
            message.carried = frozenset({f"m{next(number)}"})
            box.append(message, 0.0)

        for _ in range(waiting):
            append()
        return append

    same_cost(make)


@pytest.mark.parametrize("form", [".bin", ".stream"])
def test_a_frame_while_many_are_on_offer(form: str) -> None:
    """A thread may take long to write them. The first append, which replaces the others, is not counted."""

    def make(waiting: int) -> Callable[[], object]:
        box = fill(outbox(stream=waiting * SIZE, queue=2 * waiting * SIZE), waiting, format=form)
        box.take(ROOM, ROOM)
        box.append(frame("Large", size=waiting * SIZE, format=".bin"), 0.0)
        box.append(frame(size=SIZE, format=form), 0.0)
        return lambda: box.append(frame(size=SIZE, format=form), 0.0)

    same_cost(make)


@pytest.mark.parametrize("tag", ["setBLOBVector", "delProperty", "defBLOBVector", "setNumberVector"])
@pytest.mark.parametrize("properties", ["one", "many"])
def test_a_message_about_a_property_with_many_waiting_frames(tag: str, properties: str) -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = outbox(stream=ROOM)
        for number in range(waiting):
            box.append(frame("B" if properties == "one" else f"B{number}", size=SIZE, format=".stream"), 0.0)
        return lambda: box.append(small("B", tag=tag), 0.0)

    same_cost(make)


def test_the_deletion_of_a_device_while_frames_of_many_others_wait() -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = outbox(stream=ROOM)
        for number in range(waiting):
            box.append(frame(size=SIZE, format=".stream", device=f"D{number}"), 0.0)
        return lambda: box.append(Fake("delProperty", "D", None, b"<del/>"), 0.0)

    same_cost(make)


def names() -> Iterator[str]:
    return (f"B{number}" for number in count())


@pytest.mark.parametrize("commands", [0, 1], ids=["", "after commands"])
def test_a_frame_for_which_the_oldest_is_dropped(commands: int) -> None:
    """There are as many appends as waiting frames, so that the removal of empty slots is counted."""

    def make(waiting: int) -> Callable[[], object]:
        box = outbox(queue=waiting * SIZE)
        for _ in range(commands * waiting):
            box.append(frame(tag="newBLOBVector", size=SIZE), 0.0)
        fill(box, waiting, format=".bin")
        return lambda: box.append(frame(size=SIZE, format=".bin"), 0.0)

    same_cost(make, lambda waiting: waiting)


def test_a_frame_for_which_the_oldest_is_dropped_while_the_peer_reads_byte_by_byte() -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = outbox(queue=waiting * SIZE)
        fill(box, waiting, format=".bin")

        def step() -> None:
            box.append(frame(size=SIZE, format=".bin"), 0.0)
            read(box)

        return step

    same_cost(make, lambda waiting: waiting)


# Taking and sending


@pytest.mark.parametrize("form", [".bin", ".stream"])
def test_a_byte_before_many_frames_that_were_dropped_or_replaced(form: str) -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = outbox(queue=3 * SIZE)
        box.append(frame("Started", size=500, format=".bin"), 0.0)
        read(box)
        fill(box, waiting, format=form)
        return lambda: read(box)

    same_cost(make)


def test_a_frame_that_is_sent_out_of_order() -> None:
    """It took the place of an older one, so it is sent before others that came before it."""

    def make(waiting: int) -> Callable[[], object]:
        box = outbox()
        for fills in (0, waiting, 0):
            for number in range(100):  # each of these is replaced twice, and keeps its place the second time
                box.append(frame(f"S{number}", size=2, format=".stream"), 0.0)
            fill(box, fills, format=".bin")
        assert box.messages == waiting + 100
        return lambda: read(box, 2)

    same_cost(make)


# To a driver


def test_updates_of_ever_new_properties_to_a_driver_that_reads_nothing() -> None:
    """They wait after many commands, which are not dropped."""

    def make(waiting: int) -> Callable[[], object]:
        box, name = DriverOutbox(waiting * SIZE, terminator=b""), names()
        for _ in range(waiting):
            box.append(small(data=b"n" * SIZE, tag="newTextVector"), 0.0)
        update = b"u" * SIZE
        for _ in range(2 * waiting):
            box.append_replaceable(small(next(name), update), 0.0)
        return lambda: box.append_replaceable(small(next(name), update), 0.0)

    same_cost(make, lambda waiting: 3 * waiting)


@pytest.mark.parametrize("tag", ["setNumberVector", "delProperty", "defNumberVector", "getProperties"])
@pytest.mark.parametrize("name", ["N7", None])
def test_a_message_to_a_driver_while_many_wait(tag: str, name: str | None) -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = DriverOutbox(waiting * SIZE, terminator=b"")
        for number in range(waiting):
            box.append_replaceable(get_properties("D", f"N{number}"), 0.0)
            box.append_replaceable(small(f"N{number}", b"u" * SIZE, device=f"D{number}"), 0.0)
        return lambda: box.append_replaceable(Fake(tag, "D", name, b"m" * SIZE), 0.0)

    same_cost(make)


def test_a_message_that_a_driver_in_this_process_pops() -> None:
    def make(waiting: int) -> Callable[[], object]:
        box = DriverOutbox(ROOM, terminator=b"")
        for number in range(waiting):
            box.append(frame(tag="newBLOBVector"), 0.0)
            box.append_replaceable(small(f"N{number}"), 0.0)
        return box.pop

    same_cost(make)


# Memory


def slots(box: ByteQueue) -> int:
    return len(box._items)


@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads a byte now and then"])
def test_dropped_and_replaced_frames_leave_no_slots(reads: bool) -> None:
    box = outbox(queue=10 * SIZE)
    for number in range(MANY):
        box.append(frame(size=SIZE, format=".bin" if number % 3 else ".stream"), 0.0)
        if reads and number % 100 == 0:
            read(box)
        assert slots(box) < 100
    assert sum(box.dropped.values()) + sum(box.replaced.values()) > MANY - 100


def test_ever_new_properties_leave_few_notes() -> None:
    box = outbox(queue=10 * SIZE)
    lost = 0
    for number in range(MANY):
        box.append(frame(f"B{number}", size=SIZE, format=".bin"), 0.0)
        lost += number >= 10
    assert slots(box) < 2_000 and sum(box.dropped.values()) == lost
    notes = drain(box).split(b"<message")[1:]
    assert len(notes) < 1_100 and b"1 BLOB of B0 dropped" in notes[0]
    assert any(b"BLOBs dropped" in note for note in notes), "further properties share one note"
    assert box.queued == box.messages == 0 and not slots(box)
