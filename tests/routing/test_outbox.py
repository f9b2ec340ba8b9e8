"""The rules of the outgoing queues, one by one."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.protocol.message import ATTACHED, INLINE, RAW, Form, Instruction
from indifast.protocol.wire import get_properties
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.clientqueue import Outbox
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.dropnotes import DropNote
from tests.routing.fakes import Fake, Observer, drain, frame, small

LIMITS = replace(DEFAULT_LIMITS, queue=100, stream=20, small_queue=1000)


def sent_in_part(box: ByteQueue, nbytes: int) -> bytes:
    """Offer everything to the peer, which takes `nbytes` of it, and return these."""
    parts, _ = box.take(1 << 20, 1024)
    box.sent(nbytes, 0.0)
    return b"".join(map(bytes, parts))[:nbytes]


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_order_is_kept(chunk: int) -> None:
    box = Outbox(LIMITS)
    messages = [small(data=b"<1/>"), frame(size=30), small(data=b"<2/>"), frame("C", size=7, pieces=3)]
    messages.append(small(data=b"<3/>"))
    for message in messages:
        box.append(message, 0.0)
    assert box.queued == sum(message.size for message in messages)
    assert drain(box, chunk) == b"".join(message.data for message in messages)
    assert not box.pending and box.queued == box.small == box.blobs == box.messages == 0
    assert box.sent_messages == len(messages) and box.sent_bytes == sum(message.size for message in messages)


@pytest.mark.parametrize("box", [Outbox(LIMITS), ByteQueue(), DriverOutbox()], ids=lambda box: type(box).__name__)
@pytest.mark.parametrize("written", [0, 2, None], ids=["nothing", "a part", "all"])
def test_messages_that_come_while_a_single_one_is_written(box: ByteQueue, written: int | None) -> None:
    end = b"\n" if isinstance(box, DriverOutbox) else b""
    box.append(small(data=b"<alone/>"), 0.0)
    parts, _ = box.take(1 << 20, 1024)
    out = b"".join(map(bytes, parts))
    assert out == b"<alone/>" + end
    box.append(small(data=b"<later/>"), 0.0)
    box.expedite(small(data=b"<urgent/>"), 0.0)
    out = out[:written]
    box.sent(len(out), 0.0)
    out += drain(box)
    first, second = (b"<urgent/>", b"<alone/>") if written == 0 else (b"<alone/>", b"<urgent/>")
    assert out == first + end + second + end + b"<later/>" + end
    assert box.queued == box.messages == 0 and not box.pending


def test_large_pieces_are_not_copied_and_small_ones_are_joined() -> None:
    box = ByteQueue()
    big = bytes(100_000)
    for _ in range(300):
        box.append(small(), 0.0)
    box.append(Fake("setBLOBVector", "D", "B", big, formats=(".f",), carried=frozenset("m")), 0.0)
    parts, fds = box.take(1 << 20, 1024)
    assert [len(part) for part in parts] == [300 * 4, 100_000] and fds == ()


def test_take_observes_its_bounds() -> None:
    box = ByteQueue()
    box.append(frame(size=2_000_000, pieces=100), 0.0)
    parts, _ = box.take(1 << 20, 10)
    assert 1 <= len(parts) <= 10
    parts, _ = box.take(100_000, 1024)
    assert sum(map(len, parts)) < 140_000
    box.sent(70_001, 0.0)  # it is begun
    parts, _ = box.take(100_000, 1024)
    assert 100_000 <= sum(map(len, parts)) < 140_000
    assert len(drain(box)) == 2_000_000 - 70_001


def test_the_end_of_a_frame_goes_with_what_is_before_it() -> None:
    class WithEnd(Fake):
        def parts(self, form: Form) -> Sequence[bytes]:
            return [*[bytes(100_000)] * 4, b"</setBLOBVector>"]

    box = Outbox(LIMITS)
    box.append(WithEnd("setBLOBVector", "D", "B", bytes(400_016), formats=(".f",), carried=frozenset("m")), 0.0)
    box.take(100_000, 1024)
    box.sent(1, 0.0)
    parts, _ = box.take(399_999, 1024)
    assert bytes(parts[-1]) == b"</setBLOBVector>"


@pytest.mark.parametrize("box", [Outbox(LIMITS), ByteQueue(), DriverOutbox()], ids=lambda box: type(box).__name__)
def test_what_came_as_base64_goes_on_as_that_if_it_is_to(box: ByteQueue) -> None:
    class OfForm(Fake):
        came_inline = False

        def parts(self, form: Form) -> Sequence[bytes]:
            return [b"base64" if form == INLINE else b"raw"]

    box.form = RAW
    for as_received, came_inline, expected in (
        (False, True, b"raw"),
        (True, False, b"raw"),
        (True, True, b"base64"),
    ):
        message = OfForm("setBLOBVector", "D", "B", bytes(6), formats=(".f",), carried=frozenset("m"))
        message.came_inline = came_inline
        box.as_received = as_received
        box.append(message, 0.0)
        assert expected in drain(box)


@pytest.mark.parametrize("box", [Outbox(LIMITS), ByteQueue(), DriverOutbox()], ids=lambda box: type(box).__name__)
@pytest.mark.parametrize("written", [0, 4, 6, None], ids=["nothing", "a piece", "more than a piece", "all"])
def test_messages_that_come_while_a_single_frame_is_written(box: ByteQueue, written: int | None) -> None:
    end = b"\n" if isinstance(box, DriverOutbox) else b""
    begun: list[bool] = []
    alone = frame(size=12, pieces=3, fds=(7, 8))
    box.form = ATTACHED
    box.append(alone, 0.0, lambda: begun.append(True))
    parts, fds = box.take(1 << 20, 1024)
    assert b"".join(map(bytes, parts)) == b"f" * 12 + end and fds == (7, 8)
    box.append(small(data=b"<later/>"), 0.0)
    box.expedite(small(data=b"<urgent/>"), 0.0)
    out = b"".join(map(bytes, parts))[:written]
    box.sent(len(out), 0.0)
    assert bool(begun) == (written != 0)
    out += drain(box)
    first, second = (b"<urgent/>", b"f" * 12) if written == 0 else (b"f" * 12, b"<urgent/>")
    assert out == first + end + second + end + b"<later/>" + end
    assert box.queued == box.messages == 0 and not box.pending and begun == [True]


def test_nothing_is_removed_until_it_is_sent() -> None:
    box = Outbox(LIMITS)
    box.append(small(data=b"<one/>"), 0.0)
    assert box.take(100, 10) == box.take(100, 10)
    box.sent(0, 0.0)
    assert drain(box) == b"<one/>"


def test_on_pending_is_called_once_per_filling() -> None:
    observer = Observer()
    box = ByteQueue(listener=observer)
    box.append(small(), 0.0)
    box.append(small(), 0.0)
    assert observer.pending == 1
    drain(box)
    box.append(small(), 0.0)
    assert observer.pending == 2


def test_a_message_that_is_not_ready_holds_up_those_after_it() -> None:
    observer = Observer()
    box = ByteQueue(listener=observer)
    late = frame(ready=False)
    box.append(small(data=b"<1/>"), 0.0)
    box.append(late, 0.0)
    box.append(small(data=b"<2/>"), 0.0)
    assert late.asked == 1
    assert drain(box) == b"<1/>"
    assert not box.pending and box.queued
    late.make_ready()
    assert box.pending and observer.pending == 2
    assert drain(box) == late.data + b"<2/>"


def test_forms_are_requested_two_frames_ahead() -> None:
    box = ByteQueue()
    frames = [frame(fill=bytes([65 + i]), ready=False) for i in range(4)]
    for message in frames:
        box.append(message, 0.0)
    assert [message.asked for message in frames] == [1, 1, 0, 0]
    frames[0].make_ready()
    assert drain(box) == frames[0].data
    frames[1].make_ready()
    assert drain(box) == frames[1].data
    assert frames[2].asked == 1
    for message in frames[2:]:
        message.make_ready()
    assert drain(box) == frames[2].data + frames[3].data


def test_an_urgent_message_overtakes_waiting_ones_but_splits_none() -> None:
    box = Outbox(LIMITS)
    box.append(frame(size=30, fill=b"a"), 0.0)
    box.append(frame("C", size=30, fill=b"b"), 0.0)
    sent_in_part(box, 10)
    box.expedite(small(data=b"<pong/>", tag="pingReply"), 0.0)
    assert drain(box, 7) == b"a" * 20 + b"<pong/>" + b"b" * 30


def test_an_urgent_message_passes_one_that_is_not_ready() -> None:
    observer = Observer()
    box = Outbox(LIMITS, listener=observer)
    late = frame(ready=False)
    box.append(late, 0.0)
    assert drain(box) == b""
    box.expedite(small(data=b"<pong/>", tag="pingReply"), 0.0)
    assert box.pending and observer.pending == 2
    assert drain(box) == b"<pong/>"
    late.make_ready()
    assert drain(box) == late.data


def test_descriptors_go_with_the_first_byte_of_their_message() -> None:
    box = Outbox(LIMITS, attached=True)
    box.append(small(data=b"<1/>"), 0.0)
    box.append(frame(size=10, fds=(7, 8)), 0.0)
    box.append(small(data=b"<2/>"), 0.0)
    box.append(frame("C", size=10, fds=(9,)), 0.0)
    parts, fds = box.take(1000, 10)
    assert b"".join(parts) == b"<1/>" and fds == ()
    box.sent(4, 0.0)
    parts, fds = box.take(1000, 10)
    assert b"".join(parts) == b"f" * 10 + b"<2/>" and fds == (7, 8)
    box.sent(3, 0.0)
    parts, fds = box.take(1000, 10)
    assert b"".join(map(bytes, parts)) == b"f" * 7 + b"<2/>" and fds == ()
    box.sent(11, 0.0)
    assert box.take(1000, 10)[1] == (9,)


def test_stream_frames_are_replaced_beyond_the_stream_limit() -> None:
    box = Outbox(LIMITS)
    for fill in (b"1", b"2"):
        box.append(frame(format=".stream", fill=fill), 0.0)
    box.append(small(data=b"<s/>"), 0.0)
    box.append(frame(format=".stream_jpg", fill=b"3"), 0.0)
    assert drain(box) == b"<s/>" + b"3" * 10
    assert box.replaced == {("D", "B"): 2} and not box.dropped


def test_a_frame_that_was_started_is_finished() -> None:
    box = Outbox(LIMITS)
    box.append(frame(format=".stream", size=30, fill=b"1"), 0.0)
    sent_in_part(box, 1)
    for fill in (b"2", b"3"):
        box.append(frame(format=".stream", size=30, fill=fill), 0.0)
    assert drain(box) == b"1" * 29 + b"3" * 30


@pytest.mark.parametrize("grows", [False, True])
def test_a_frame_that_all_receivers_have_begun_is_freed_piece_by_piece(grows: bool) -> None:
    """The queues have its pieces: nobody needs the message, which has all of them."""
    boxes = [Outbox(LIMITS) for _ in range(2)]
    message = frame(size=40, pieces=4, shown=2 if grows else None)
    known = weakref.ref(message)
    for box in boxes:
        box.append(message, 0.0)
        assert sent_in_part(box, 12) == message.data[:12]
    data = message.data
    if grows:
        message.grow(None)
        for box in boxes:
            assert sent_in_part(box, 1) == data[12:13]
    gc.collect()
    assert known() is message
    del message, box
    assert known() is None
    for box in boxes:
        assert drain(box) == data[13 if grows else 12 :]
        assert (box.queued, box.messages, box.blobs) == (0, 0, 0)


def test_a_frame_with_descriptors_stays_until_it_is_written() -> None:
    """They are closed with it, and some may be still to be sent."""
    box = Outbox(LIMITS, attached=True)
    message = frame(size=40, pieces=4, fds=(7,))
    known = weakref.ref(message)
    box.append(message, 0.0)
    assert sent_in_part(box, 12) == message.data[:12]
    del message
    assert known() is not None
    drain(box)
    assert known() is None


def test_how_much_of_the_frames_is_left() -> None:
    box = Outbox(replace(LIMITS, queue=1000))
    seen: list[float] = []
    box.append(small(), 0.0)
    assert box.frames_left(40) == 0
    for _ in range(2):
        box.append(frame(size=40, pieces=4), 0.0)
    box.append(small(), 0.0)
    sent_in_part(box, 1)
    assert box.frames_left(40) == 2, "a small message that is begun does not count"
    drain(box, 3)
    assert box.frames_left(40) == 0
    for _ in range(2):
        box.append(frame(size=40, pieces=4), 0.0)
    for _ in range(8):
        sent_in_part(box, 10)
        seen.append(box.frames_left(40))
    assert seen == [1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0]


def test_who_waits_for_a_reader_hears_once_that_it_has_taken_more() -> None:
    box = Outbox(LIMITS)
    heard: list[str] = []
    box.append(frame(size=40), 0.0)
    box.when_taken(lambda: heard.append("taken"))
    never = lambda: heard.append("never")  # noqa: E731
    box.when_taken(never)
    box.not_when_taken(never)
    sent_in_part(box, 10)
    sent_in_part(box, 10)
    assert heard == ["taken"]
    box.when_taken(lambda: heard.append("gone"))
    box.clear()
    assert heard == ["taken", "gone"]


def test_a_frame_on_offer_is_not_replaced_while_a_thread_may_write_it() -> None:
    box = Outbox(LIMITS)
    box.append(frame(format=".stream", size=15, fill=b"1"), 0.0)
    offered = b"".join(box.take(1000, 10)[0])
    box.append(frame(format=".stream", size=15, fill=b"2"), 0.0)
    box.sent(15, 0.0)
    assert offered == b"1" * 15 and drain(box) == b"2" * 15


def test_science_frames_are_not_replaced_where_stream_frames_are() -> None:
    box = Outbox(LIMITS)
    for fill in (b"1", b"2", b"3"):
        box.append(frame(format=".fits", size=20, fill=fill), 0.0)
    assert drain(box) == b"1" * 20 + b"2" * 20 + b"3" * 20
    assert not box.replaced


@pytest.mark.parametrize("of_property", [False, True])
def test_newest_wins_extends_the_stream_rule(of_property: bool) -> None:
    box = Outbox(LIMITS, newest_wins=not of_property)
    if of_property:
        box.newest_wins_of = frozenset({("D", "B")})
    for fill in (b"1", b"2", b"3"):
        box.append(frame(size=15, fill=fill), 0.0)
        box.append(frame("Other", size=6, fill=fill), 0.0)
    assert drain(box).count(b"3" * 15) == 1 and box.replaced[("D", "B")] == 2
    assert box.replaced[("D", "Other")] == (0 if of_property else 2)


def test_a_stream_limit_of_zero_replaces_nothing() -> None:
    box = Outbox(replace(LIMITS, stream=0))
    for fill in (b"1", b"2", b"3"):
        box.append(frame(format=".stream", size=30, fill=fill), 0.0)
    assert len(drain(box)) == 90


def test_a_frame_is_replaced_only_by_one_with_all_of_its_members() -> None:
    box = Outbox(LIMITS)
    box.append(frame(format=".stream", size=15, members="ab", fill=b"1"), 0.0)
    box.append(frame(format=".stream", size=15, members="a", fill=b"2"), 0.0)
    box.append(frame(format=".stream", size=15, members="ab", fill=b"3"), 0.0)
    assert drain(box) == b"3" * 15
    assert box.replaced == {("D", "B"): 2}
    box.append(frame(format=".stream", size=15, members="b", fill=b"1"), 0.0)
    box.append(frame(format=".stream", size=15, members="a", fill=b"2"), 0.0)
    assert drain(box) == b"1" * 15 + b"2" * 15


def test_sets_without_content_are_never_dropped_and_replace_nothing() -> None:
    box = Outbox(LIMITS)
    states = [small("B", f"<state{i}/>".encode(), tag="setBLOBVector") for i in range(20)]
    for i, state in enumerate(states):
        box.append(frame(format=".stream", size=15, fill=bytes([65 + i])), 0.0)
        box.append(state, 0.0)
    out = drain(box)
    assert [out.index(state.data) for state in states] == sorted(out.index(state.data) for state in states)
    assert out.endswith(b"T" * 15 + states[-1].data)
    assert sum(box.replaced.values()) >= 17


def test_a_property_replaced_twice_keeps_its_place() -> None:
    box = Outbox(LIMITS)
    box.append(frame(format=".stream", size=15, fill=b"1"), 0.0)
    box.append(small(data=b"<1/>"), 0.0)
    box.append(frame(format=".stream", size=15, fill=b"2"), 0.0)
    box.append(small(data=b"<2/>"), 0.0)
    box.append(frame(format=".stream", size=15, fill=b"3"), 0.0)
    box.append(small(data=b"<3/>"), 0.0)
    box.append(frame(format=".stream", size=15, fill=b"4"), 0.0)
    assert drain(box) == b"<1/>" + b"4" * 15 + b"<2/><3/>"


@pytest.mark.parametrize("form", [".fits", ".stream"])
def test_a_frame_does_not_overtake_one_of_its_property_that_stays(form: str) -> None:
    """Otherwise a client would see the state of the property go back."""
    box = Outbox(LIMITS)
    for fill in (b"1", b"2"):  # the second one takes the place of the first
        box.append(frame(size=15, format=".stream", fill=fill), 0.0)
    box.append(frame(size=15, format=form, members="n", fill=b"3"), 0.0)
    for fill in (b"4", b"5"):
        box.append(frame(size=15, format=".stream", fill=fill), 0.0)
    order = drain(box)
    assert order.index(b"3") < order.index(b"5")
    assert order.count(b"5" * 15) == 1 and b"4" not in order


def test_a_deletion_ends_replacement() -> None:
    box = Outbox(LIMITS)
    box.append(frame(format=".stream", size=15, fill=b"1"), 0.0)
    box.append(small("B", b"<del/>", tag="delProperty"), 0.0)
    box.append(frame(format=".stream", size=15, fill=b"2"), 0.0)
    assert drain(box) == b"1" * 15 + b"<del/>" + b"2" * 15


def test_the_oldest_frames_are_dropped_beyond_the_queue_limit_and_reported_in_one_note() -> None:
    box = Outbox(LIMITS)
    observer = Observer(box)
    frames = [frame(size=40, fill=bytes([65 + i])) for i in range(6)]
    for message in frames:
        box.append(message, 0.0)
    assert observer.lost == [(message, "dropped") for message in frames[:4]]
    assert box.dropped == {("D", "B"): 4} and box.blobs == 80
    out = drain(box)
    note, rest = out.split(b"/>", 1)
    assert note.startswith(b'<message device="D"') and b"4 BLOBs of B dropped" in note
    assert rest == b"E" * 40 + b"F" * 40
    assert box.queued == box.messages == box.small == box.blobs == 0


def test_a_note_is_a_message_like_others() -> None:
    note = DropNote("D", "B")
    assert (note.element().tag, note.element().device) == ("message", "D")
    assert note.element().attrs["message"].startswith("1 BLOB of B dropped")
    assert note.closed and not note.fds()
    with pytest.raises(RuntimeError, match="always ready"):
        note.when_ready(False, lambda: None)


@pytest.mark.parametrize(("written", "notes"), [(5, [b"1 BLOB of B", b"3 BLOBs of B"]), (0, [b"4 BLOBs of B"])])
def test_a_note_counts_until_it_is_started(written: int, notes: list[bytes]) -> None:
    box = Outbox(LIMITS)
    for i in range(3):
        box.append(frame(size=40, fill=bytes([65 + i])), 0.0)
    out = sent_in_part(box, written)
    for i in range(3, 6):
        box.append(frame(size=40, fill=bytes([65 + i])), 0.0)
    out += drain(box)
    assert out.count(b"<message") == len(notes) and all(note in out for note in notes)
    assert box.dropped[("D", "B")] == 4


def test_a_single_frame_larger_than_the_limit_is_sent() -> None:
    box = Outbox(LIMITS)
    box.append(frame(size=500), 0.0)
    assert len(drain(box)) == 500


def test_a_command_with_content_is_never_dropped() -> None:
    box = Outbox(LIMITS)
    commands = [frame(size=90, tag="newBLOBVector", fill=bytes([65 + i])) for i in range(4)]
    for message in commands:
        box.append(message, 0.0)
    assert box.full
    assert drain(box) == b"".join(message.data for message in commands)


def test_too_many_small_bytes_are_reported_once() -> None:
    box = Outbox(LIMITS)
    observer = Observer(box)
    for _ in range(400):
        box.append(small(), 0.0)
    assert observer.overflow == 1
    box.clear()
    for _ in range(400):
        box.append(small(), 0.0)
    assert observer.overflow == 2, "the peer came back, and has fallen too far behind again"
    box = Outbox(LIMITS)
    observer = Observer(box)
    for _ in range(50):
        box.append(frame(size=90), 0.0)
    assert observer.overflow == 0, "BLOBs do not count"


def test_callbacks_for_a_reader_that_catches_up_are_called_once() -> None:
    box = Outbox()
    notified: list[str] = []
    waiting = {name: (lambda name=name: notified.append(name)) for name in ("one", "another", "given up")}
    for _ in range(100):
        box.append(small(data=b"x" * 10_000), 0.0)
    for callback in (*waiting.values(), *waiting.values()):
        box.when_low(callback)
    box.not_when_low(waiting["given up"])
    sent_in_part(box, 1000)
    assert notified == []
    drain(box)
    assert notified == ["one", "another"]
    box.append(small(), 0.0)
    drain(box)
    assert notified == ["one", "another"]


def test_who_fails_when_a_reader_catches_up_keeps_no_others_waiting() -> None:
    box = Outbox()
    notified: list[int] = []
    box.append(small(), 0.0)
    box.when_low(lambda: notified[1])
    box.when_low(lambda: notified.append(1))
    drain(box)
    assert notified == [1]


def test_unread_answers_to_pings_count_as_small_bytes() -> None:
    box = Outbox(LIMITS)
    observer = Observer(box)
    for _ in range(400):
        box.expedite(small(tag="pingReply"), 0.0)
    assert observer.overflow == 1


def test_at_most_a_thousand_answers_to_pings_wait_for_a_driver() -> None:
    box = DriverOutbox(terminator=b"")
    observer = Observer(box)
    for _ in range(3_000):
        box.expedite(small(data=b"<pingReply/>", tag="pingReply"), 0.0)
    assert [(message.tag, how) for message, how in observer.lost] == [("pingReply", "dropped")] * 2_000
    assert sum(box.dropped.values()) == 2_000
    assert drain(box).count(b"<pingReply/>") == 1_000
    box.expedite(small(data=b"<pingReply/>", tag="pingReply"), 0.0)
    assert drain(box) == b"<pingReply/>" and box.queued == box.messages == 0


def test_a_peer_that_takes_nothing_is_stalled() -> None:
    box = Outbox(LIMITS)
    assert not box.stalled(1000.0, 60.0)
    box.append(small(), 1000.0)
    assert not box.stalled(1050.0, 60.0) and box.stalled(1061.0, 60.0)
    box.take(100, 10)
    box.sent(1, 1061.0)
    assert not box.stalled(1100.0, 60.0) and box.stalled(1200.0, 60.0)
    drain(box)
    assert not box.stalled(2000.0, 60.0)


def test_begun_is_called_once_the_first_byte_is_written() -> None:
    begun: list[int] = []
    box = Outbox(LIMITS)
    box.append(small(), 0.0)
    box.append(frame(size=10), 0.0, lambda: begun.append(1))
    sent_in_part(box, 4)
    assert not begun
    sent_in_part(box, 1)
    assert begun == [1]
    sent_in_part(box, 9)
    assert begun == [1]


def test_a_terminator_follows_each_message() -> None:
    box = ByteQueue(terminator=b"\n")
    box.append(small(data=b"<1/>"), 0.0)
    box.append(frame(size=3), 0.0)
    box.append(small(data=b"<2/>"), 0.0)
    assert drain(box, 1) == b"<1/>\nfff\n<2/>\n"


def test_pop_returns_whole_messages() -> None:
    box = DriverOutbox()
    one, two, ping = small(), frame(ready=False), small(tag="pingReply")
    begun: list[int] = []
    box.append(one, 0.0)
    box.append_replaceable(two, 0.0, lambda: begun.append(1))
    box.expedite(ping, 0.0)
    assert [box.pop(), box.pop(), box.pop(), box.pop()] == [ping, one, two, None]
    assert begun == [1] and box.queued == box.messages == 0


def test_a_full_driver_outbox_drops_no_command_and_reports_when_it_has_room() -> None:
    box = DriverOutbox(100)
    observer = Observer(box)
    commands = [small(data=b"<new%02d/>" % i, tag="newTextVector") for i in range(20)]
    for command in commands:
        box.append(command, 0.0)
    assert box.full
    out = b""
    while not observer.room:
        parts, _ = box.take(1, 10)
        data = b"".join(map(bytes, parts))
        box.sent(len(data), 0.0)
        out += data
    assert not box.full and box.queued <= 50
    assert out + drain(box) == b"".join(command.data + b"\n" for command in commands)
    assert observer.room == 1


def test_snooped_updates_give_way_in_a_full_driver_outbox() -> None:
    box = DriverOutbox(50, terminator=b"")
    for i in range(10):
        box.append_replaceable(small("Temp", b"<temp%d/>" % i), 0.0)
        box.append_replaceable(small("Wind", b"<wind%d/>" % i), 0.0)
        box.append(small(data=b"<new%d/>" % i, tag="newTextVector"), 0.0)
    out = drain(box)
    assert all(b"<new%d/>" % i in out for i in range(10))
    assert b"<temp9/>" in out and b"<wind9/>" in out
    assert out.count(b"<temp") + box.replaced[("D", "Temp")] == 10
    assert box.replaced[("D", "Temp")] > 5
    assert box.queued == box.messages == 0


@pytest.mark.parametrize("name", [None, "P"])
def test_a_deletion_does_not_move_ahead_of_a_definition_in_a_full_driver_outbox(name: str | None) -> None:
    """The driver would go on believing in a property that is gone."""
    box = DriverOutbox(50, terminator=b"")
    told = []
    for number in range(5):
        told += [b"<def%d/>" % number, b"<del%d/>" % number]
        box.append_replaceable(Fake("defNumberVector", "D", "P", told[-2]), 0.0)
        box.append_replaceable(Fake("delProperty", "D", name, told[-1]), 0.0)
    assert b"".join(told).endswith(drain(box))


def test_the_newest_of_deletions_in_a_row_is_enough_in_a_full_driver_outbox() -> None:
    box = DriverOutbox(20, terminator=b"")
    for number in range(100):
        box.append_replaceable(Fake("delProperty", "D", None, b"<del%02d/>" % number), 0.0)
    assert drain(box).endswith(b"<del99/>") and sum(box.replaced.values()) > 90


def test_ever_new_properties_do_not_fill_the_queue_of_a_driver() -> None:
    box = DriverOutbox(1000, terminator=b"")
    observer = Observer(box)
    box.append(small(data=b"<new/>", tag="newTextVector"), 0.0)
    box.append_replaceable(get_properties(), 0.0)
    for number in range(20_000):
        box.append_replaceable(small(f"n{number}", b"<set>%05d</set>" % number), 0.0)
        assert box.queued < 2200
    assert box.messages < 200 and len(box._items) < 200, "empty slots are removed"
    box.append(small(data=b"<new>2</new>", tag="newTextVector"), 0.0)
    dropped = sum(box.dropped.values())
    assert [how for _, how in observer.lost] == ["dropped"] * dropped
    assert len(box.dropped) < 6000, "the number of names is limited too"
    out = drain(box)
    assert out.startswith(b"<new/><getProperties") and out.endswith(b"<new>2</new>")
    kept = [b"<set>%05d</set>" % number for number in range(dropped, 20_000)]
    assert b"".join(kept) in out and out.count(b"<set>") == len(kept)
    assert box.queued == box.messages == box.snooped == 0


def test_commands_leave_room_for_snooped_updates() -> None:
    box = DriverOutbox(100, terminator=b"")
    for number in range(50):
        box.append(small(data=b"<new>%d</new>" % number, tag="newTextVector"), 0.0)
    for name in "abc":
        box.append_replaceable(small(name, b"<set>%s</set>" % name.encode()), 0.0)
    assert drain(box).endswith(b"<set>a</set><set>b</set><set>c</set>")


def test_messages_on_offer_are_not_dropped() -> None:
    box = DriverOutbox(40, terminator=b"")
    for number in range(4):
        box.append_replaceable(small(f"n{number}", b"<s>%04d</s>" % number), 0.0)
    parts, _ = box.take(1 << 20, 100)
    offered = b"".join(map(bytes, parts))
    for number in range(4, 20):
        box.append_replaceable(small(f"n{number}", b"<s>%04d</s>" % number), 0.0)
    box.sent(len(offered), 0.0)
    rest = drain(box)
    assert offered.startswith(b"<s>0000") and rest.endswith(b"<s>0019</s>") and len(rest) <= 80
    assert box.queued == box.messages == box.snooped == 0


MEMORY_OF_A_QUEUE = """
from indifast._parser import Tokenizer
from indifast.routing.clientqueue import Outbox

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

text = (
    b"<setNumberVector device='Telescope' name='EQUATORIAL_EOD_COORD' state='Ok' timestamp='2026-11-21T14:00:00.1'>"
    b"<oneNumber name='RA'>%d</oneNumber><oneNumber name='DEC'>90</oneNumber></setNumberVector>"
)
parser, box, number, before = Tokenizer(relay=True), Outbox(), 0, resident()
while box.small < 16 << 20:
    for element in parser.feed(text % number):
        box.append(element, 0.0)
    number += 1
print((resident() - before) / box.small)
"""


def test_waiting_small_messages_take_little_more_memory_than_their_bytes() -> None:
    """A parsed element takes four times its bytes, so limits in bytes on the wire would not limit the memory."""
    done = subprocess.run([sys.executable, "-c", MEMORY_OF_A_QUEUE], check=True, capture_output=True)
    assert 1 < float(done.stdout) < 2.5


def test_equal_requests_for_definitions_wait_as_one() -> None:
    box = DriverOutbox(200, terminator=b"")
    for _ in range(100_000):  # searching through as many would take minutes
        box.append_replaceable(get_properties(), 0.0)
    assert box.messages == 1
    for number in range(100_000):  # too many to keep: one request for everything replaces them
        box.append_replaceable(get_properties("D", f"n{number}"), 0.0)
    assert box.messages < 6 and box.queued < 300
    box.append(small(data=b"<new/>", tag="newTextVector"), 0.0)
    box.take(10, 1)
    box.append_replaceable(get_properties(), 0.0)  # the one on offer may have been answered already
    box.sent(0, 0.0)
    out = drain(box)
    assert out.count(b"<getProperties") < 8 and b"<new/>" in out
    box.append_replaceable(get_properties(), 0.0)
    box.clear()
    box.append_replaceable(get_properties(), 0.0)
    assert drain(box).count(b"<getProperties") == 1


def test_replaced_updates_leave_no_slots_in_a_full_driver_outbox() -> None:
    box = DriverOutbox(50, terminator=b"")
    for number in range(100_000):
        for name in ("Temp", "Wind", "Rain"):
            box.append_replaceable(small(name, b"<update%d/>" % number), 0.0)
    assert len(box._items) < 10 and box.messages == len(list(box.waiting())) < 10


def test_an_update_never_overtakes_the_definition_before_it() -> None:
    box = DriverOutbox(30, terminator=b"")
    updates = [("set", b"<one/>"), ("del", b"<gone/>"), ("def", b"<again/>"), ("set", b"<two/>"), ("set", b"<three/>")]
    tags = {"set": "setNumberVector", "del": "delProperty", "def": "defNumberVector"}
    for kind, data in updates:
        box.append_replaceable(small("Temp", data, tag=tags[kind]), 0.0)
    box.append_replaceable(small("Temp", b"<later/>", tag="defNumberVector"), 0.0)
    assert drain(box) == b"<one/><gone/><again/><three/><later/>"


def test_clear_forgets_everything() -> None:
    box = Outbox(LIMITS)
    for message in (small(), frame(), frame(format=".stream")):
        box.append(message, 0.0)
    sent_in_part(box, 5)
    box.clear()
    assert not box.pending and box.queued == 0 and box.take(100, 10) == ([], ())


def test_clear_forgets_messages_on_offer() -> None:
    """After a failed write, `sent` is not called, and newer messages may have to push out others before `clear`."""
    box = Outbox(LIMITS)
    driver = DriverOutbox(30, terminator=b"")
    for again in range(2):
        for number in range(6):
            box.append(frame(size=90, name=f"B{number}"), 0.0)
            driver.append_replaceable(small(f"P{number}", b"x" * 25), 0.0)
            if not number:
                box.take(1000, 10)
                driver.take(1000, 10)
        for queue in (box, driver):
            queue.clear()
            assert (queue.queued, queue.messages, len(queue._droppable)) == (0, 0, 0), again
        assert (box.blobs, driver.snooped) == (0, 0)
    box.append(frame(size=90), 0.0)
    driver.append_replaceable(small(), 0.0)
    drain(box)
    drain(driver)
    assert (box.queued, box.messages, box.blobs) == (driver.queued, driver.messages, driver.snooped) == (0, 0, 0)


def test_waiting_lists_the_messages_that_are_not_started() -> None:
    box = Outbox(LIMITS)
    one, two = small(), frame()
    box.append(one, 0.0)
    box.append(two, 0.0)
    assert list(box.waiting()) == [one, two]


class Appearing(Fake):
    """A message whose form a thread makes: `parts` returns None for some calls, then the start of it, or all of it."""

    def __init__(self, *, calls: int, shown: int | None, pieces: int = 3) -> None:
        super().__init__(
            "setBLOBVector",
            "D",
            "B",
            b"abcdef" * 10,
            formats=(".f",),
            carried=frozenset("m"),
            pieces=pieces,
            ready=False,
        )
        self.calls = calls
        self.then_shown = shown

    def parts(self, form: Form) -> Sequence[bytes] | None:
        if not self.ready:
            if self.calls:
                self.calls -= 1
            else:
                self.ready = True
                self.shown = self.then_shown
        return super().parts(form)

    def when_ready(self, form: Form, callback: Callable[[], None]) -> None:
        """Accept a callback even for a form that is ready: a thread may have just finished it."""
        self.asked += 1
        self._callbacks.append(callback)


def test_a_message_that_starts_to_grow_while_the_queue_examines_it_is_written_completely() -> None:
    box = Outbox(LIMITS)
    message = Appearing(calls=2, shown=1)
    box.append(message, 0.0)
    assert not message.ready
    out = drain(box)
    assert out == message.data[:20] and message.growing
    message.grow(None)
    assert out + drain(box) == message.data
    assert box.messages == box.queued == 0


def test_a_message_that_becomes_ready_just_after_the_queue_found_it_was_not_wakes_the_queue() -> None:
    """The form of a third frame is requested when it is next, and the thread may finish between two checks."""
    box = Outbox(replace(LIMITS, queue=130, stream=0))
    observer = Observer(box)
    dropped = [frame(name, size=60, ready=False) for name in "XY"]
    last = Appearing(calls=1, shown=None)
    last.size = 120
    for message in (*dropped, last):
        box.append(message, 0.0)
    assert last.asked == 0 and not last.ready and sum(box.dropped.values()) == 2
    notes = drain(box)
    assert notes.count(b"<message") == 2
    assert not box.pending
    observer.pending = 0
    last.notify()
    assert observer.pending and box.pending
    assert drain(box) == last.data


@pytest.mark.parametrize("sent", [0, 3, 12], ids=["unread", "begun", "one read"])
def test_nothing_of_what_waited_outlives_the_queue(sent: int) -> None:
    """Shared memory and large texts are freed when a peer goes, not when the garbage collector next runs."""
    gc.disable()
    try:
        box = Outbox(LIMITS, newest_wins=True)
        messages = []
        for number in range(6):
            messages.append(frame("ab"[number % 2], size=12))
            box.append(messages[-1], 0.0)
            if number == 2:
                box.append(small("a", tag="setBLOBVector"), 0.0)
                box.append(small("a", tag="delProperty"), 0.0)
        box.take(1 << 20, 1024)
        box.sent(sent, 0.0)
        box.take(1 << 20, 1024)
        box.append(frame("b", size=12), 0.0)
        box.clear()
        left = [weakref.ref(message) for message in messages]
        del messages
        assert [message() for message in left] == [None] * 6
    finally:
        gc.enable()


def test_a_frame_keeps_the_form_that_held_when_it_was_queued() -> None:
    """The peer may agree on another form while a frame waits, or is being written."""
    asked: list[tuple[str, Form]] = []

    class Named(Fake):
        def parts(self, form: Form) -> Sequence[bytes] | None:
            asked.append((self.data.decode(), form))
            return super().parts(form)

    def named(text: bytes) -> Fake:
        return Named("setBLOBVector", "D", "B", text, formats=(".f",), carried=frozenset("m"))

    box = Outbox(LIMITS)
    for text in (b"first", b"second"):
        box.append(named(text), 0.0)
    parts, _ = box.take(1, 10)
    box.sent(2, 0.0)
    box.form = RAW
    box.append(named(b"third"), 0.0)
    assert drain(box) == b"rstsecondthird"
    assert {*asked} == {("first", INLINE), ("second", INLINE), ("third", RAW)}
    assert parts


@pytest.mark.parametrize("make", [lambda: Outbox(LIMITS), ByteQueue], ids=["Outbox", "ByteQueue"])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize("content", [False, True])
def test_an_instruction_goes_ahead_and_is_not_counted(make: Callable[[], ByteQueue], chunk: int, content: bool) -> None:
    box = make()
    message = frame(size=7) if content else small(data=b"message")
    box.append(message, 0.0)
    box.instruct(Instruction(b"instruction"), 0.0)
    assert box.sent_messages == 0 and list(box.waiting()) == [message]
    assert drain(box, chunk) == b"instruction" + message.data
    assert box.sent_messages == 1 and box.messages == box.queued == 0


def test_an_instruction_that_is_not_written_takes_nothing_off_what_was_sent() -> None:
    box = Outbox(LIMITS)
    box.append(small(data=b"message"), 0.0)
    drain(box)
    box.instruct(Instruction(b"instruction"), 0.0)
    assert sent_in_part(box, 3) == b"ins"
    assert box.sent_messages == 1


def test_an_instruction_for_a_reader_in_this_process_is_not_counted() -> None:
    box = ByteQueue()
    instruction = Instruction(b"instruction")
    box.instruct(instruction, 0.0)
    assert box.pop() is instruction and box.sent_messages == 0
