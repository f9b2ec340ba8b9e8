"""Frames in pieces, against a naive model of what may go between these: a plain list that is searched each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.protocol.message import RAW
from indifast.routing import bytequeue
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.clientqueue import Outbox
from indifast.routing.cutting import Bypass
from tests.routing.fakes import Fake, drain, frame, small
from tests.routing.sidebyside import SideBySide

PIECE, WHOLE, TURN = 10, 25, 40
HEAD = re.compile(rb"<\?indi-piece (\d+) (\d+)\?>")


def cut(data: bytes, envelope: int, mark: int) -> list[bytes]:
    """Return the pieces of a frame, whose XML and end mark have these lengths."""
    content = data[envelope : len(data) - mark]
    starts = range(0, len(content), PIECE)
    pieces = [
        b"<?indi-piece %d %d?>" % (1 + at // PIECE, len(content[at : at + PIECE])) + content[at : at + PIECE]
        for at in starts
    ]
    pieces[0] = b"<?indi-pieces?>" + data[:envelope] + pieces[0]
    pieces[-1] += data[len(data) - mark :]
    return pieces


@dataclass(eq=False)
class Unit:
    """What is written as a whole: a message, or a piece of a frame."""

    data: bytes
    device: str | None
    blob: bool = False
    passing: bool = False  # it may go before a frame, or between two pieces
    behind: bool = False  # it has to wait behind a frame


class Model:
    """What the peer should receive, byte by byte. Nothing is dropped."""

    def __init__(self) -> None:
        self.started: Unit | None = None
        self.rest = b""
        self.urgent: list[Unit] = []
        self.waiting: list[list[Unit]] = []  # in order; a frame in pieces is several units
        self.between: list[Unit] = []  # the further pieces of the frame that is begun
        self.passed = 0
        self.offered: list[Unit] = []
        self.guarded = False  # there may be something that waits behind frames

    def append(self, message: Fake) -> None:
        if message.blob:
            data = [message.data] if len(message.data) <= WHOLE else cut(message.data, *ends(message))
            self.waiting.append([Unit(one, message.device, True) for one in data])
            self.guarded = True
            return
        others = [unit[0] for unit in self.waiting if unit[0].blob or unit[0].behind] + self.between
        devices = [unit.device for unit in others]
        own = message.device in devices or None in devices or message.device is None
        self.waiting.append(
            [Unit(message.data, message.device, passing=self.guarded and not own, behind=self.guarded and own)]
        )

    def plan(self) -> Iterator[Unit]:
        """Yield what would be written next, if nothing else came."""
        yield from self.urgent
        passing = [unit[0] for unit in self.waiting if unit[0].passing]
        if self.between:
            if self.passed < TURN:
                yield from passing
            yield from self.between
            return
        rest = [unit for unit in self.waiting if unit[0].blob or unit[0].behind]
        for unit in self.waiting:
            if unit not in rest and not unit[0].passing:
                yield from unit
        own = [unit for unit in passing if rest and unit.device == rest[0][0].device]
        if passing and not own and self.passed >= TURN and rest and rest[0][0].blob:
            yield from rest[0]
            return
        yield from passing
        for unit in rest:
            yield from unit
            if len(unit) > 1:
                return

    def offer(self, nbytes: int) -> None:
        nbytes -= len(self.rest)
        self.offered = []
        for unit in self.plan():
            if nbytes <= 0:
                break
            self.offered.append(unit)
            nbytes -= len(unit.data)

    def send(self, nbytes: int) -> bytes:
        """Write `nbytes` bytes of the offer, and return them."""
        out, self.rest = self.rest[:nbytes], self.rest[nbytes:]
        for unit in self.offered:
            if len(out) == nbytes:
                break
            self.begin(unit)
            taken = nbytes - len(out)
            out += unit.data[:taken]
            self.rest = unit.data[taken:]
        self.offered = []
        if not (self.rest or self.urgent or self.waiting or self.between):
            self.guarded = False
        return out

    def begin(self, unit: Unit) -> None:
        if unit in self.urgent:
            self.urgent.remove(unit)
        elif unit in self.between:
            self.between.remove(unit)
        else:
            place = next(at for at, units in enumerate(self.waiting) if units[0] is unit)
            self.between += self.waiting.pop(place)[1:]
        if unit.blob:
            self.passed = 0
        elif unit.passing:
            self.passed += len(unit.data)


def ends(message: Fake) -> tuple[int, int]:
    parts = message.parts(RAW)
    assert parts is not None
    return len(parts[0]), len(parts[-1])


devices = st.sampled_from(["C", "D", "E"])
actions = st.lists(
    st.one_of(
        st.tuples(st.just("blob"), devices, st.integers(1, 90)),
        st.tuples(st.just("small"), devices | st.none()),
        st.tuples(st.just("ping")),
        st.tuples(st.sampled_from(["send", "take"]), st.integers(0, 90), st.integers(1, 100), st.integers(3, 20)),
    ),
    max_size=60,
)


@mock.patch.object(bytequeue, "TURN", TURN)
@settings(max_examples=300)
@given(st.booleans(), actions)
def test_the_queue_does_what_the_model_does(lossy: bool, actions: list[tuple]) -> None:  # type: ignore[type-arg]
    box: ByteQueue = Outbox(replace(DEFAULT_LIMITS, queue=1 << 20, stream=1 << 20)) if lossy else ByteQueue()
    box.form = RAW
    box.cut_frames(PIECE, WHOLE)
    model = Model()
    both = SideBySide(box, model)

    def take(nbytes: int, max_bytes: int, max_parts: int) -> None:
        assert both.take(nbytes, max_bytes, max_parts) == box.pending, "what is pending can be had"

    for number, (kind, *rest) in enumerate(actions):
        if kind in ("take", "send"):
            both.finish()
            take(*rest)
            if kind == "send":
                both.finish()
        elif kind == "ping":
            box.expedite(small(data=b"<pong%d/>" % number, tag="pingReply"), 0.0)
            model.urgent.append(Unit(b"<pong%d/>" % number, None))
        else:
            if kind == "blob":
                message = frame("B", rest[1], fill=b"%d," % number, pieces=3 + rest[1] % 4, device=rest[0])
            else:
                message = small("P", b"<small%d/>" % number, device=rest[0])
            box.append(message, 0.0)
            model.append(message)
    both.finish()
    while box.pending:
        take(1000, 500, 10)
        both.finish()
    assert not model.waiting and not model.between and not model.rest
    assert box.queued == box.messages == 0 and not list(box.waiting())


def test_what_waits_already_when_pieces_are_agreed_on_keeps_its_place() -> None:
    box = ByteQueue()
    box.form = RAW
    for message in (frame("B", 60, pieces=4, device="camera"), small("P", b"<early/>", device="mount")):
        box.append(message, 0.0)
    box.cut_frames(PIECE, WHOLE)
    for device in ("mount", "camera", "dome"):
        box.append(small("P", b"<%s/>" % device.encode(), device=device), 0.0)
    written = drain(box)
    places = [written.index(text) for text in (b"<dome/>", b"<?indi-pieces?>", b"<early/>", b"<mount/>", b"<camera/>")]
    assert places == sorted(places)


@mock.patch.object(bytequeue, "TURN", TURN)
def test_a_frame_whose_turn_it_is_does_not_pass_messages_of_its_device() -> None:
    box = ByteQueue()
    box.form = RAW
    box.cut_frames(PIECE, WHOLE)
    box.append(frame("B", 60, pieces=4, device="camera"), 0.0)
    for number in range(3 * TURN):
        box.append(small("P", b"<%d/>" % number, device="mount"), 0.0)
    box.append(small("P", b"<last/>", device="guider"), 0.0)
    box.append(frame("B", 60, pieces=4, device="guider"), 0.0)
    written = drain(box, chunk=10)
    assert written.index(b"<?indi-pieces?>") < written.index(b"<last/>") < written.rindex(b"<?indi-pieces?>")


def test_what_is_read_whole_passes_frames_by_the_same_rules() -> None:
    box = ByteQueue()
    box.cut_frames(PIECE, WHOLE)
    early = small("P", device="dome")
    box.append(early, 0.0)
    picture = frame("B", 60, pieces=4, device="camera")
    box.append(picture, 0.0)
    for _ in range(3):
        pong = small(tag="pingReply")
        box.expedite(pong, 0.0)
        assert box.pop() is pong
    after, passing = small("P", device="camera"), small("P", device="mount")
    for message in (after, passing):
        box.append(message, 0.0)
    assert [box.pop() for _ in range(5)] == [early, passing, picture, after, None]
    assert box.queued == box.messages == 0 and not box.pending


def test_devices_whose_frames_have_left_are_forgotten() -> None:
    bypass = Bypass()
    for number in range(10_000):
        bypass.keep_behind(f"device {number}", 0)
        bypass.gone += 1
    assert len(bypass.guarded) < 1000
    bypass.keep_behind("camera", 0)
    assert not bypass.passes("camera", 1) and bypass.passes("device 9999", 1)


# With losses: what does arrive is whole and, of each device, in order.


@mock.patch.object(bytequeue, "TURN", TURN)
@settings(max_examples=400)
@given(st.booleans(), actions, st.just(0) | st.integers(1, 8), st.integers(1, 200))
def test_what_is_not_lost_is_whole_and_each_device_keeps_its_order(
    lossy: bool,
    actions: list[tuple],  # type: ignore[type-arg]
    agreed: int,
    chunk: int,
) -> None:
    """Pieces are agreed on after `agreed` actions."""
    box: ByteQueue = Outbox(replace(DEFAULT_LIMITS, queue=150, stream=60)) if lossy else ByteQueue()
    box.form = RAW
    said: dict[str | None, list[tuple[bytes, bool]]] = {}  # by device: what was put in, and whether it is a frame
    written = b""
    for number, (kind, *rest) in enumerate(actions):
        if number == agreed:
            box.cut_frames(PIECE, WHOLE)
        name = b"<%06d>" % number
        if kind == "blob":
            data = name + b"x" * rest[1] + b"<end>"
            message = frame(f"B{rest[1] % 2}", 0, format=".stream" if rest[1] % 3 else ".x", device=rest[0])
            message.data, message.size, message.pieces = data, len(data), 3
            # the XML, the content, and the end mark
            message.parts = lambda form, d=data: [d[:8], d[8:-5], d[-5:]]  # type: ignore[method-assign]
            said.setdefault(rest[0], []).append((name, kind == "blob"))
            box.append(message, 0.0)
        elif kind == "small":
            said.setdefault(rest[0], []).append((name, kind == "blob"))
            box.append(small("P", name, device=rest[0]), 0.0)
        elif kind in ("send", "take"):
            parts, _ = box.take(rest[1], rest[2])
            data = b"".join(map(bytes, parts))
            box.sent(min(rest[0], len(data)), 0.0)
            written += data[: rest[0]]
    written += drain(box, chunk)
    found = re.findall(rb"<\d{6}>", reassembled(written))
    for names in said.values():
        arrived = [found.index(name) if name in found else None for name, _ in names]
        for earlier, place in enumerate(arrived):
            # in a queue that gives up frames, a newer one may take the place of an older one
            later = [arrived[at] for at in range(earlier + 1, len(names)) if not (lossy and names[at][1])]
            assert place is None or all(other is None or place < other for other in later)
    assert len(set(found)) == len(found)
    assert box.queued == box.messages == 0
    assert not isinstance(box, Outbox) or box.blobs == box.small == 0


def reassembled(text: bytes) -> bytes:
    """Return what was written, with the pieces of each frame together, where the last one was."""
    out = held = b""
    number = 0
    while (match := HEAD.search(text)) is not None:
        before, text = text[: match.start()], text[match.end() :]
        index, length = map(int, match.groups())
        number += 1
        if index == 1:
            number = 1
            before, _, held = before.partition(b"<?indi-pieces?>")
        assert index == number
        out += before
        held += text[:length]
        text = text[length:]
        if text.startswith(b"<end>"):
            out += held + b"<end>"
            text = text[5:]
    return out + text
