"""The outbox against a naive model of its rules: a plain list that is searched from the start each time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.routing.clientqueue import Outbox
from indifast.routing.dropnotes import DropNote
from tests.routing.fakes import Fake, Observer, frame, small
from tests.routing.sidebyside import SideBySide

QUEUE, STREAM = 100, 30
LIMITS = replace(DEFAULT_LIMITS, queue=QUEUE, stream=STREAM)


@dataclass(eq=False)
class Slot:
    message: Fake | None
    missed: tuple[str, int] | None = None  # a note: a property, and how many of its frames were dropped
    moved: bool = False
    sealed: bool = False
    pinned: bool = False
    final: bool = False  # a definition or deletion of the property follows
    offered: bool = False  # it is on offer: how much of it has been written is not known yet

    @property
    def data(self) -> bytes:
        if self.missed is not None:
            note = DropNote("D", self.missed[0])
            note.count = self.missed[1]
            return bytes(note.parts(False)[0])
        return b"" if self.message is None else self.message.data


class Model:
    """What the peer should receive, byte by byte."""

    def __init__(self, newest_wins: bool) -> None:
        self.slots: list[Slot] = []
        self.urgent: list[bytes] = []
        self.left = b""  # the rest of the message that was started
        self.notes: dict[str, Slot] = {}  # the newest of each property
        self.offered_urgent: int | None = None  # during an offer: how many urgent messages are still part of it
        self.newest_wins = newest_wins
        self.replaced = 0
        self.dropped = 0

    def frames(self, name: str | None = None) -> list[Slot]:
        return [
            slot
            for slot in self.slots
            if slot.message is not None and slot.message.blob and name in (None, slot.message.name)
        ]

    def waiting(self) -> int:
        return sum(slot.message.size for slot in self.frames() if slot.message is not None)

    def append(self, message: Fake) -> None:
        if not message.blob:
            for slot in self.slots:
                if slot.message is None or not slot.message.blob:
                    continue
                if message.tag == "setBLOBVector" and message.name == slot.message.name:
                    slot.sealed = True
                if message.tag == "delProperty" and message.name in (None, slot.message.name):
                    slot.final = True
            self.slots.append(Slot(message))
            return
        new = Slot(message)
        if self.waiting() + message.size > STREAM:
            for slot in self.frames(message.name):
                older = slot.message
                assert older is not None
                if slot.offered or slot.final or not older.carried <= message.carried:
                    continue
                if not self.newest_wins and "stream" not in older.formats[0]:
                    continue
                pinned = any(other.pinned and not other.final for other in self.frames(message.name))
                if slot.moved and slot.sealed and not pinned:
                    slot.pinned = True
                if slot.pinned:
                    continue
                self.replaced += 1
                slot.message = None
                new.moved = True
                if slot.moved and not slot.sealed and new not in self.slots:
                    self.slots[self.slots.index(slot)] = new
        if new not in self.slots:
            for slot in self.frames(message.name):
                slot.sealed = True
            self.slots.append(new)
        for slot in self.oldest_first(new):
            if self.waiting() <= QUEUE:
                break
            dropped = slot.message
            assert dropped is not None
            self.dropped += 1
            name = dropped.name or ""
            slot.message = None
            note = self.notes.get(name)
            if note is None or note.offered:
                slot.missed = (name, 1)
                self.notes[name] = slot
            else:
                assert note.missed is not None
                note.missed = (name, note.missed[1] + 1)

    def oldest_first(self, newest: Slot) -> list[Slot]:
        """Return frames by age, not by place: one that took the place of an older frame is still new."""
        frames = [slot for slot in self.frames() if slot is not newest and not slot.offered]
        return sorted(frames, key=lambda slot: slot.message.age)  # type: ignore[union-attr]

    def offer(self, nbytes: int) -> None:
        """Offer `nbytes` bytes."""
        nbytes -= len(self.left)
        self.offered_urgent = 0
        for data in self.urgent:
            if nbytes > 0:
                self.offered_urgent += 1
                nbytes -= len(data)
        for slot in self.slots:
            if nbytes > 0:
                slot.offered = bool(slot.data)
                nbytes -= len(slot.data)

    def send(self, nbytes: int) -> bytes:
        """Write `nbytes` bytes of the offer, and return them."""
        out = b""
        while len(out) < nbytes:
            if not self.left:
                if self.urgent and self.offered_urgent != 0:
                    self.left = self.urgent.pop(0)
                    if self.offered_urgent is not None:
                        self.offered_urgent -= 1
                elif self.slots:
                    slot = self.slots.pop(0)
                    self.left = slot.data
                    if slot.missed is not None and self.notes.get(slot.missed[0]) is slot:
                        del self.notes[slot.missed[0]]
                    continue
                else:
                    break
            out += self.left[:1]
            self.left = self.left[1:]
        self.offered_urgent = None
        for slot in self.slots:
            slot.offered = False
        return out


def blobs() -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(
        st.just("blob"),
        st.sampled_from(["A", "B"]),
        st.sampled_from([".fits", ".stream"]),
        st.sampled_from(["a", "b", "ab"]),
        st.integers(1, 60),
        st.sampled_from([None, 1, 2]),
    )


def others() -> st.SearchStrategy[tuple[object, ...]]:
    return st.one_of(
        st.tuples(st.sampled_from(["small", "state", "del"]), st.sampled_from(["A", "B"])),
        st.tuples(st.just("ping")),
        st.tuples(st.just("grow"), st.integers(1, 9)),
        st.tuples(st.sampled_from(["send", "take"]), st.integers(0, 90), st.integers(1, 100), st.integers(3, 20)),
    )


@settings(max_examples=400)
@given(st.booleans(), st.lists(st.one_of(blobs(), others()), max_size=60))
def test_the_outbox_does_what_the_model_does(newest_wins: bool, actions: list[tuple]) -> None:  # type: ignore[type-arg]
    box = Outbox(LIMITS, newest_wins=newest_wins)
    model = Model(newest_wins)
    both = SideBySide(box, model)
    growing: deque[Fake] = deque()
    observer = Observer(box)

    def finish() -> None:
        if both.finish():
            observer.pending = 0

    for number, (kind, *rest) in enumerate(actions):
        if kind == "blob":
            name, format, members, size, shown = rest
            fill = b"%s%d," % (name.encode(), number)
            pieces = 1 + size % 4
            shown = None if shown is None or shown >= pieces else shown
            message = frame(name, size, format=format, members=members, fill=fill, pieces=pieces, shown=shown)
            message.age = number
            if shown is not None:
                growing.append(message)
            box.append(message, 0.0)
            model.append(message)
            assert box.blobs <= QUEUE or both.on_offer or len(model.frames()) == 1
        elif kind in ("take", "send"):
            finish()
            both.take(*rest)
            if kind == "send":
                finish()
        elif kind == "grow" and growing:
            pending = box.pending
            growing[0].grow((growing[0].shown or 0) + rest[0])
            assert pending or not box.pending or observer.pending == 1, "the listener is called"
            if not growing[0].growing:
                growing.popleft()
        elif kind == "grow":
            pass
        elif kind == "ping":
            box.expedite(small(data=b"<pong%d/>" % number, tag="pingReply"), 0.0)
            model.urgent.append(b"<pong%d/>" % number)
        else:
            tag = {"small": "setNumberVector", "state": "setBLOBVector", "del": "delProperty"}[kind]
            message = small(rest[0], b"<%s%d/>" % (kind.encode(), number), tag=tag)
            box.append(message, 0.0)
            model.append(message)
        assert box.blobs == model.waiting()
    finish()
    for message in growing:
        message.grow(None)
    while box.pending:
        both.take(1000, 500, 10)
        finish()
    assert not model.send(1) and not box.pending
    assert box.queued == box.messages == box.blobs == box.small == 0
    assert sum(box.replaced.values()) == model.replaced and sum(box.dropped.values()) == model.dropped
