"""What one end of a connection was told to send, and what of it has arrived at the other end.

A journal knows the promises of queues, and nothing of how they are kept. What is told arrives once, intact and in
order, but for what a queue reports as lost; what a queue may lose, and when, is for the checkers to say.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.ledger import Mark

Key = tuple[str | None, str | None]

_NOTE = re.compile(r"(?:1 BLOB|(\d+) BLOBs)(?: of (\w+))? dropped: this connection reads too slowly")


@dataclass(eq=False, slots=True)
class Entry:
    """One message that was told."""

    index: int
    mark: Mark
    frame: bool
    blob: bool
    size: int
    carried: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    arrived: bool = False
    counted: bool = False
    """Whether the server counts it by property."""
    made_room: int = 0
    """Bytes of those that were given up for it."""


class Mismatch(Exception):
    """What arrives was not told, or not now.

    Attributes:
        invariant: Which invariant is broken.
    """

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(text)
        self.invariant = invariant


@dataclass(eq=False)
class Journal:
    """One direction of one conversation: from the first message to the end of the connection.

    Attributes:
        title: Who tells whom.
        plain: Whether nothing is ever lost, frames included.
        replaceable: Whether this is the queue of a driver, where messages of others and requests may give way.
        broken: The connection was lost: what has not arrived never will.
        damaged: Something was sent that is no message; attached frames may be lost with it.
    """

    title: str
    plain: bool = False
    replaceable: bool = False
    broken: bool = False
    damaged: bool = False
    closed: bool = False
    told: Counter[Key] = field(default_factory=Counter)
    arrived: Counter[Key] = field(default_factory=Counter)
    frames_arrived: Counter[Key] = field(default_factory=Counter)
    counted: Counter[Key] = field(default_factory=Counter)
    """What has arrived of what a server counts by property."""
    lost: Counter[tuple[str | None, str | None, str]] = field(default_factory=Counter)
    noted: int = 0
    """BLOBs of which the reader was told that they were dropped."""
    relayed_notes: int = 0
    """BLOBs of which the same was told by a server further away."""
    messages_arrived: int = 0

    def __post_init__(self) -> None:
        self._next = 0
        self._requests_told = 0
        self._control: dict[str | None, deque[Entry]] = {}  # by device if frames come in pieces, all together if not
        self._pieces = False
        self._replies: deque[Entry] = deque()
        self._frames: dict[Key, deque[Entry]] = {}
        self._snooped: dict[Key, deque[Entry]] = {}
        self._requests: deque[Entry] = deque()
        self._behind: dict[str | None, dict[str | None, int]] = {}  # by device and name, what has arrived last
        self._perhaps_lost: Counter[Mark] = Counter()  # how many of those that are alike will not arrive
        self.newest: Entry | None = None
        """What was told last."""

    # Telling

    def tell(
        self,
        mark: Mark,
        *,
        frame: bool = False,
        blob: bool = False,
        size: int = 0,
        carried: frozenset[str] = frozenset(),
        formats: tuple[str, ...] = (),
    ) -> Entry:
        """Note a message that is put into the queue."""
        self._next += 1
        frame = frame and not self.plain
        entry = Entry(self._next, mark, frame, blob, size, carried, formats)
        self._place(entry).append(entry)
        self.told[(mark.device, mark.name)] += 1
        self.newest = entry
        return entry

    def _place(self, entry: Entry) -> deque[Entry]:
        mark = entry.mark
        if mark.tag == "pingReply":
            return self._replies
        if self.replaceable:
            if mark.tag == "getProperties":
                self._requests_told += 1
                return self._requests
            if not mark.tag.startswith("new") and mark.tag != "enableBLOB":
                return self._snooped.setdefault((mark.device, mark.name), deque())
        if entry.frame:
            return self._frames.setdefault((mark.device, mark.name), deque())
        return self._controls(mark)

    def _controls(self, mark: Mark) -> deque[Entry]:
        return self._control.setdefault(mark.device if self._pieces else None, deque())

    def cut(self) -> None:
        """Note that frames come in pieces from now on, and that messages about other devices may pass them."""
        told = sorted((entry for place in self._control.values() for entry in place), key=lambda entry: entry.index)
        self._pieces = True
        self._control = {}
        for entry in told:
            self._controls(entry.mark).append(entry)

    def lose(self, mark: Mark, how: str) -> Entry:
        """Note that the queue reports a message as lost.

        Several that are alike may not have arrived, as a server makes the same deletion each time a device goes. A
        newer message replaces the last one of its kind. The oldest one that waits is dropped, but others may be on
        their way already: which one it was, shows when they arrive.

        Raises:
            Mismatch: It does not wait there.
        """
        for place in self._places(mark):
            alike = [entry for entry in place if entry.mark == mark]
            if how == "replaced" and len(alike) > 1 and alike[-1] is self.newest:
                del alike[-1]
            if len(alike) <= self._perhaps_lost[mark]:
                continue
            entry = alike[-1] if how == "replaced" else alike[0]
            if how == "replaced" or len(alike) == 1:
                place.remove(entry)
            else:
                self._perhaps_lost[mark] += 1
            self.lost[(mark.device, mark.name, how)] += 1
            return entry
        raise Mismatch("Counted", f"{self.title}: {how} is {show(mark)}, which does not wait")

    def _places(self, mark: Mark) -> list[deque[Entry]]:
        key = (mark.device, mark.name)
        return [self._frames.get(key, deque()), self._snooped.get(key, deque()), self._replies, self._requests]

    # Arriving

    def arrive(self, mark: Mark, *, frame: bool = False) -> Entry | None:
        """Note that a message has arrived; return the entry that it fulfils, None for a note about drops.

        Raises:
            Mismatch: It should not have arrived, or something else should have before it.
        """
        self.messages_arrived += 1
        frame = frame and not self.plain
        key = (mark.device, mark.name)
        if mark.tag == "message" and (note := _NOTE.fullmatch(mark.what)):
            place = self._snooped.get(key) if self.replaceable else self._controls(mark)
            if not (place and place[0].mark == mark):
                self.noted += int(note[1] or 1)
                return None
            self.relayed_notes += int(note[1] or 1)  # that of another server or a driver, or perhaps ours
        entry = self._find(mark, frame)
        entry.arrived = True
        self.arrived[key] += 1
        if entry.counted:
            self.counted[key] += 1
        if entry.blob:
            self.frames_arrived[key] += 1
        if mark.tag != "pingReply" and mark.device is not None:
            self._check_order(entry)
        return entry

    def _find(self, mark: Mark, frame: bool) -> Entry:
        key = (mark.device, mark.name)
        if mark.tag == "pingReply":
            return self._pop(self._replies, mark)
        if self.replaceable:
            if mark.tag == "getProperties":
                return self._answer_requests(mark)
            if not mark.tag.startswith("new") and mark.tag != "enableBLOB":
                return self._pop(self._snooped.get(key, deque()), mark)
        if frame:
            return self._pop(self._frames.get(key, deque()), mark)
        return self._behind_frames(self._pop(self._controls(mark), mark))

    def _behind_frames(self, entry: Entry) -> Entry:
        """Check that a message has not overtaken a frame of its device, however many others it has passed."""
        if _NOTE.fullmatch(entry.mark.what):  # perhaps not this one, but one like it, which is in the place of a frame
            return entry
        for (device, _), frames in self._frames.items():
            if device == entry.mark.device and device is not None:
                for frame in frames:
                    if frame.index < entry.index and not self._perhaps_lost[frame.mark] and not self.damaged:
                        text = f"{self.title}: {show(entry.mark)} has passed {show(frame.mark)}"
                        raise Mismatch("InOrder", text)
        return entry

    def _pop(self, place: deque[Entry], mark: Mark) -> Entry:
        while place and self._passed_over(place[0], mark):
            place.popleft()
        if not place:
            text = f"{self.title}: {show(mark)} has arrived, which was not told, or was lost, or has arrived before"
            raise Mismatch("Intact", text)
        if place[0].mark != mark:
            text = f"{self.title}: {show(mark)} has arrived where {show(place[0].mark)} is next"
            raise Mismatch("NothingLost", text)
        return place.popleft()

    def _passed_over(self, entry: Entry, mark: Mark) -> bool:
        """Return whether the first message that has not arrived never will, as this one arrives instead."""
        if entry.mark == mark and self._latest(mark) <= entry.index:
            return False
        if self._perhaps_lost[entry.mark]:
            self._perhaps_lost[entry.mark] -= 1
            return True
        return self.damaged and entry.frame and entry.mark != mark

    def _answer_requests(self, mark: Mark) -> Entry:
        """One request may stand for several."""
        covered = [
            each
            for each in self._requests
            if mark.device is None or (mark.device == each.mark.device and mark.name in (None, each.mark.name))
        ]
        self._requests_told -= 1
        if self._requests_told < 0:
            raise Mismatch("Intact", f"{self.title}: {show(mark)} has arrived, for which nobody waits")
        for each in covered:
            self._requests.remove(each)
        return covered[-1] if covered else Entry(0, mark, False, False, 0)

    def _check_order(self, entry: Entry) -> None:
        """What concerns a property keeps its order, and a whole device's deletion its place among all of them."""
        mark = entry.mark
        if mark.tag in ("getProperties", "enableBLOB") or mark.tag.startswith("new"):
            return
        if self._latest(mark) > entry.index:
            raise Mismatch("InOrder", f"{self.title}: {show(mark)} has arrived behind what was told after it")
        names = self._behind.setdefault(mark.device, {})
        if mark.tag == "delProperty" and mark.name is None:
            names.clear()
            names["*"] = entry.index
        else:
            names[mark.name] = entry.index

    def _latest(self, mark: Mark) -> int:
        """Return the index of the last message that has arrived and must not be told after this one."""
        names = self._behind.get(mark.device, {})
        if mark.tag == "delProperty" and mark.name is None:
            return max(names.values(), default=0)
        return max(names.get(mark.name, 0), names.get("*", 0))

    # What is left

    def missing(self) -> list[Entry]:
        """Return what was told, was not lost, and has not arrived."""
        places = [*self._control.values(), self._replies, self._requests]
        places += [*self._frames.values(), *self._snooped.values()]
        missing, lost = [], self._perhaps_lost.copy()
        for entry in (entry for place in places for entry in place):
            if lost[entry.mark]:
                lost[entry.mark] -= 1
            elif not (self.damaged and (entry.frame or self.replaceable)):
                missing.append(entry)
        return missing

    def waiting(self, *keep: Callable[[Entry], bool]) -> list[Entry]:
        """Return what has not arrived and satisfies all conditions."""
        return [entry for entry in self.missing() if all(each(entry) for each in keep)]

    def forget_waiting(self) -> None:
        """Forget what has not arrived: it never will, and nothing is wrong with that."""
        self.broken = True

    def take_over(self, older: Journal) -> None:
        """Be what an older journal was: the peer keeps its queue although its connection is a new one."""
        self.title, self.plain, self.replaceable = older.title, older.plain, older.replaceable
        for entry in sorted(older.missing(), key=lambda entry: entry.index):
            again = self.tell(
                entry.mark,
                frame=entry.frame,
                blob=entry.blob,
                size=entry.size,
                carried=entry.carried,
                formats=entry.formats,
            )
            again.counted = entry.counted


def show(mark: Mark) -> str:
    """Return a mark as text for people."""
    return " ".join(part for part in mark if part)
