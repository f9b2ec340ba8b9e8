"""Compressed frames in a queue: what is ready goes in pieces, and nothing waits for a thread that could go."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.protocol.message import RAW
from indifast.routing import bytequeue
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.clientqueue import Outbox
from indifast.routing.cutting import RETRY
from indifast.routing.packed import Block
from tests.routing.fakes import Fake, Observer, drain, frame, small

METHOD = "half"
"""A method that leaves out every second byte, which is a dot."""
HEAD = re.compile(rb"<\?indi-piece (\d+) (\d+)( more| half 2 \d+|)\?>")
PIECE = 10


class FakePacked:
    """Contents of which a test says how many blocks are ready."""

    def __init__(self, blocks: list[Block], worth: bool | None = True, ready: int | None = None) -> None:
        self.blocks = blocks
        self.worth = worth
        self.ready = len(blocks) if ready is None else ready
        self.callbacks: list[Callable[[], None]] = []

    @property
    def count(self) -> int:
        return len(self.blocks)

    def block(self, at: int) -> Block | None:
        assert at < self.count
        return self.blocks[at] if at < self.ready else None

    def when_more(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def go_on(self, blocks: int = 1) -> None:
        """Compress some blocks, or find out whether that is worth it."""
        if self.worth is None:
            self.worth = True
        else:
            self.ready = min(self.count, self.ready + blocks)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    @property
    def over(self) -> bool:
        return self.worth is False or self.ready == self.count


def compressed(content: bytes) -> Block:
    return Block(content[::2], METHOD, 2, len(content))


def packable(name: bytes, sizes: list[int], *, device: str = "Cam", worth: bool | None = True, ready: int = 99) -> Fake:
    """Return a frame with blocks of these sizes; every third one is left as it is."""
    blocks, content = [], b""
    for at, size in enumerate(sizes):
        part = b"%c." % (97 + at) * size
        content += part
        blocks.append(Block(part) if at % 3 == 2 else compressed(part))
    message = frame("B", 0, device=device)
    message.data = name + content + b"<end>"
    message.size = len(message.data)
    parts = [name, *([content] if content else []), b"<end>"]
    message.parts = lambda form: parts  # type: ignore[method-assign]
    message.packed = packed = FakePacked(blocks, worth, min(ready, len(blocks)))  # type: ignore[attr-defined]
    message.packed = lambda method: packed  # type: ignore[attr-defined]
    message.contents = packed  # type: ignore[attr-defined]
    return message


def queue(lossy: bool = False) -> ByteQueue:
    box: ByteQueue = Outbox(replace(DEFAULT_LIMITS, queue=1 << 20, stream=1 << 20)) if lossy else ByteQueue()
    box.form = RAW
    box.cut_frames(PIECE, 10_000)
    box.compress(METHOD)
    return box


def restored(text: bytes) -> bytes:
    """Return what was written, with the content of frames inflated and in place; check that all pieces are in order."""
    out = held = gathered = b""
    number = 0
    while (match := HEAD.search(text)) is not None:
        before, text = text[: match.start()], text[match.end() :]
        number = 1 if b"<?indi-pieces?>" in before else number + 1
        length = int(match[2])
        assert int(match[1]) == number and 0 < length <= PIECE
        before, _, name = before.partition(b"<?indi-pieces?>")
        out += before
        held += name
        data, text = text[:length], text[length:]
        if match[3] == b" more":
            gathered += data
        elif match[3]:
            gathered += data
            content = b"".join(b"%c." % byte for byte in gathered)
            assert len(content) == int(match[3].split()[-1])
            held += content
            gathered = b""
        else:
            assert not gathered
            held += data
        if text.startswith(b"<end>"):
            out += held + b"<end>"
            held, text = b"", text[5:]
    return out + text


@pytest.mark.parametrize("sizes", [[3], [5], [40], [3, 40, 5], [40, 40, 40, 40]])
def test_a_frame_arrives_as_it_is(sizes: list[int]) -> None:
    box = queue()
    message = packable(b"<f>", sizes)
    box.append(message, 0.0)
    written = drain(box)
    assert restored(written) == message.data
    assert box.queued == box.messages == 0
    assert len(HEAD.sub(b"", written)) < len(message.data) + 30 or sizes == [3]


def test_pieces_leave_while_the_rest_is_compressed() -> None:
    box = queue()
    observer = Observer(box)
    message = packable(b"<f>", [5, 5, 5, 5], worth=None, ready=0)
    packed = message.contents  # type: ignore[attr-defined]
    begun: list[int] = []
    box.append(message, 0.0, lambda: begun.append(1))
    assert observer.pending == 1
    assert drain(box) == b"" and not box.pending and not begun, "nobody knows whether it shrinks"
    packed.go_on()
    assert observer.pending == 2 and box.pending
    assert drain(box) == b"" and not box.pending and not begun
    packed.go_on()
    assert observer.pending == 3
    written = drain(box)
    assert written.startswith(b"<?indi-pieces?><f><?indi-piece 1 5 half 2 10?>aaaaa") and begun == [1]
    assert not box.pending and box.queued
    packed.go_on(2)
    assert observer.pending == 4
    written += drain(box)
    packed.go_on()
    assert observer.pending == 5
    assert restored(written + drain(box)) == message.data and box.queued == 0


def test_messages_pass_a_frame_that_waits_for_its_thread() -> None:
    box = queue()
    observer = Observer(box)
    message = packable(b"<f>", [5, 5], ready=1)
    box.append(message, 0.0)
    first = drain(box)
    assert not box.pending
    count = observer.pending
    for number in range(3):
        box.append(small("P", b"<here%d/>" % number, device="Roof"), 0.0)
    box.append(small("P", b"<behind/>", device="Cam"), 0.0)
    box.expedite(small(data=b"<pong/>", tag="pingReply"), 0.0)
    assert observer.pending > count and box.pending
    assert drain(box) == b"<pong/><here0/><here1/><here2/>" and not box.pending
    message.contents.go_on()  # type: ignore[attr-defined]
    assert restored(first + drain(box)) == message.data + b"<behind/>"


@pytest.mark.parametrize("lossy", [False, True])
def test_messages_of_a_device_keep_their_order_while_a_frame_waits_for_its_thread(lossy: bool) -> None:
    """Although nothing else is in the queue for a while."""
    box = queue(lossy)
    message, next_one = packable(b"<f>", [5, 5], ready=1), packable(b"<g>", [5])
    box.append(message, 0.0)
    first = drain(box)
    box.append(small("P", b"<zero/>", device="Roof"), 0.0)
    box.expedite(small(data=b"<pong/>", tag="pingReply"), 0.0)
    assert drain(box) == b"<pong/><zero/>" and not box.pending
    box.append(small("P", b"<one/>", device="Roof"), 0.0)
    box.append(next_one, 0.0)
    box.append(small("P", b"<two/>", device="Roof"), 0.0)
    assert drain(box) == b"<one/><two/>"
    message.contents.go_on()  # type: ignore[attr-defined]
    assert restored(first + drain(box)) == message.data + next_one.data


def test_messages_of_a_device_keep_their_order_while_a_frame_is_encoded() -> None:
    """It is written as base64, because it came before pieces were agreed on."""
    box = ByteQueue()
    message, next_one = frame("B", 9, device="Cam", pieces=3, shown=1), frame("B", 9, device="Cam")
    box.append(message, 0.0)
    box.form = RAW
    box.cut_frames(PIECE, 10_000)
    first = drain(box)
    assert first and not box.pending
    box.append(small("P", b"<one/>", device="Roof"), 0.0)
    assert not box.take(1 << 20, 100)[0]
    assert not box.sent(0, 0.0)
    box.append(small("P", b"<two/>", device="Roof"), 0.0)
    box.append(next_one, 0.0)
    message.grow(None)
    assert first + drain(box) == message.data + b"<one/><two/>" + next_one.data
    assert box.queued == box.small == box.messages == 0


def test_pieces_are_agreed_on_behind_frames_that_were_replaced() -> None:
    box = Outbox(replace(DEFAULT_LIMITS, stream=60))
    box.form = RAW
    newer = frame("B", 50, format=".stream", pieces=4, device="Cam")
    box.append(small("P", b"<one/>", device="Mount"), 0.0)
    box.append(frame("B", 50, format=".stream", pieces=4, device="Cam"), 0.0)
    box.append(small("P", b"<two/>", device="Mount"), 0.0)
    box.append(newer, 0.0)
    box.cut_frames(PIECE, 10_000)
    box.append(small("P", b"<three/>", device="Dome"), 0.0)
    assert drain(box) == b"<one/><two/><three/>" + newer.data
    assert box.queued == box.small == box.messages == 0


def test_more_messages_than_may_pass_pass_a_frame_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytequeue, "TURN", 10)
    box = queue()
    message = packable(b"<f>", [5, 5], ready=1)
    box.append(message, 0.0)
    first = drain(box)
    passing = [b"<number %d/>" % number for number in range(5)]
    for data in passing:
        box.append(small("P", data, device="Roof"), 0.0)
    written = b""
    while box.pending:
        parts, _ = box.take(12, 10)
        data = b"".join(map(bytes, parts))
        assert data, "what is pending can be had"
        box.sent(len(data), 0.0)
        written += data
    assert written == b"".join(passing)
    message.contents.go_on()  # type: ignore[attr-defined]
    assert restored(first + drain(box)) == message.data


@pytest.mark.parametrize("worth", [None, True])
def test_messages_pass_a_frame_that_has_its_turn_but_waits_for_its_thread(
    worth: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytequeue, "TURN", 10)
    box = queue()
    message = packable(b"<f>", [5, 5], worth=worth, ready=0)
    box.append(message, 0.0)
    assert drain(box) == b"" and not box.pending
    passing = [b"<number %d/>" % number for number in range(5)]
    written = b""
    for data in passing:
        box.append(small("P", data, device="Roof"), 0.0)
        written += drain(box)
        assert not box.pending
    assert written == b"".join(passing)
    while not message.contents.over:  # type: ignore[attr-defined]
        message.contents.go_on()  # type: ignore[attr-defined]
    assert restored(drain(box)) == message.data


def test_a_frame_that_does_not_shrink_is_sent_as_it_is_and_the_next_ones_are_not_tried() -> None:
    box = queue()
    for number in range(RETRY + 2):
        message = packable(b"<%d>" % number, [5, 5])
        message.contents.worth = False  # type: ignore[attr-defined]
        asked: list[str] = []
        packed = message.contents  # type: ignore[attr-defined]
        message.packed = lambda method, asked=asked, packed=packed: asked.append(method) or packed  # type: ignore
        box.append(message, 0.0)
        other = packable(b"<other>", [5, 5], device="Other")
        box.append(other, 0.0)
        assert restored(drain(box)) == message.data + other.data
        assert bool(asked) == (number in (0, RETRY)), number
    box.clear()
    box.form = RAW
    box.append(packable(b"<f>", [5]), 0.0)
    assert b"indi-piece" not in drain(box), "the next peer has agreed on nothing yet"


def test_only_so_many_properties_are_known_that_do_not_shrink() -> None:
    box = queue()
    for number in range(1000):
        box.append(packable(b"<f>", [5], device=str(number), worth=False), 0.0)
        drain(box)
    assert len(box._packing._reluctant) <= 64


def test_nothing_is_compressed_without_a_method_or_where_frames_are_not_cut() -> None:
    for prepare in (lambda box: box.compress(""), lambda box: box.cut_frames(0, 0)):
        box = queue()
        prepare(box)
        message = packable(b"<f>", [5, 5])
        message.packed = lambda method: pytest.fail("asked")  # type: ignore[attr-defined]
        box.append(message, 0.0)
        assert drain(box) == message.data


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("frame"),
            st.sampled_from(["C", "D"]),
            st.lists(st.sampled_from([1, 5, 12, 40]), min_size=1, max_size=4),
            st.sampled_from([True, None, None, False]),
            st.integers(0, 4),
        ),
        st.tuples(st.just("small"), st.sampled_from(["C", "D", "E"])),
        st.tuples(st.just("ping")),
        st.tuples(st.just("work"), st.integers(0, 9), st.integers(1, 3)),
        st.tuples(st.sampled_from(["send", "take"]), st.integers(0, 90), st.integers(1, 100), st.integers(3, 20)),
    ),
    max_size=60,
)


@settings(max_examples=500, deadline=None)
@given(st.booleans(), actions)
def test_frames_are_whole_and_in_order_whenever_their_threads_run(lossy: bool, actions: list[tuple]) -> None:  # type: ignore[type-arg]
    """What is pending can be had, unless a thread is waited for; then the queue says when it goes on."""
    box = queue(lossy)
    observer = Observer(box)
    said: dict[str, list[bytes]] = {}
    working: list[FakePacked] = []
    written = b""
    taken = 0

    def take(nbytes: int, max_bytes: int, max_parts: int) -> None:
        nonlocal written, taken
        parts, _ = box.take(max_bytes, max_parts)
        data = b"".join(map(bytes, parts))
        taken = min(nbytes, len(data))
        written += data[:taken]

    def finish() -> None:
        nonlocal taken
        box.sent(taken, 0.0)
        taken = 0

    for number, (kind, *rest) in enumerate(actions):
        name = b"<%06d>" % number
        if kind == "frame":
            device, sizes, worth, ready = rest
            message = packable(name, sizes, device=device, worth=worth, ready=0 if worth is None else ready)
            working.append(message.contents)  # type: ignore[attr-defined]
            said.setdefault(device, []).append(message.data)
            box.append(message, 0.0)
        elif kind == "small":
            said.setdefault(rest[0], []).append(name)
            box.append(small("P", name, device=rest[0]), 0.0)
        elif kind == "ping":
            box.expedite(small(data=b"<pong>", tag="pingReply"), 0.0)
        elif kind == "work":
            if working:
                working[rest[0] % len(working)].go_on(rest[1])
        else:
            finish()
            take(*rest)
            if kind == "send":
                finish()
    finish()
    while box.queued:
        before, told = len(written), observer.pending
        while box.pending:
            parts, _ = box.take(1 << 20, 1000)
            data = b"".join(map(bytes, parts))
            box.sent(len(data), 0.0)
            written += data
            if not data:
                break
        waiting = [packed for packed in working if packed.callbacks]
        assert len(written) > before or waiting or not box.queued, "nobody would ever go on"
        for packed in waiting:
            packed.go_on()
        assert not waiting or box.pending or observer.pending > told or not box.queued
    found = restored(written)
    for texts in said.values():
        places = [found.index(text) for text in texts]
        assert places == sorted(places)
    assert len(found) == sum(len(text) for texts in said.values() for text in texts) + 6 * found.count(b"<pong>")
    assert box.messages == 0
