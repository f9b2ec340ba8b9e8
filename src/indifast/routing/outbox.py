"""What waits to be written to one peer, in order, and what of it is given up when the peer is slow.

Nothing here knows a socket or a clock: messages come in by `append`, bytes go out by `take` and `sent`, and the time is
an argument (seconds, monotonic).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, islice
from operator import attrgetter
from sys import intern
from typing import TYPE_CHECKING, TypeAlias

from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Buffer, Routable, Wire
from indifast.protocol.vocabulary import DEF_VECTORS, SET_VECTORS

if TYPE_CHECKING:
    from indifast._parser import Element

Property: TypeAlias = tuple[str | None, str | None]
"""Device and name."""

_JOIN = 8 << 10  # pieces up to this size are copied together: cheaper than an entry of the scatter-gather list
_LOW = 256 << 10  # bytes of messages without content below which a reader is no longer behind
_COMPACT = 256 << 10  # bytes that wait from which on further messages without content are kept as they are written
_MAX_COUNTED = 5000  # properties per peer for which losses are counted one by one
_MAX_NOTES = 1000  # properties per peer whose losses are told one by one
_MAX_SETS = 64  # combinations of members with content, per property, that newer frames are compared with
_MIN_BOOKS = 64  # properties per peer about which books are kept although nothing of them waits
_MAX_GAPS = 32  # empty slots that may stay however little waits
_SEALING = frozenset({"setBLOBVector", "defBLOBVector", "delProperty"})  # what waiting BLOBs may not be moved behind
_MAX_URGENT = 1000  # answers to pings that may wait for a driver
_JOINED = 256 << 10  # bytes copied per take at most, as what the kernel refuses is copied again


def compact(message: Routable) -> Routable:
    """A message without content in the form in which it waits for long: a parsed element takes five times its bytes."""
    if isinstance(message, Wire):
        return message
    parts = message.parts(False)
    if parts is None:
        return message
    data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
    device, name = message.device, message.name
    return Wire(message.tag, device and intern(device), name and intern(name), data)


def _count(counter: Counter[Property], key: Property) -> None:
    """One more; those of properties beyond the first thousands together, as a peer may invent names without end."""
    counter[key if key in counter or len(counter) < _MAX_COUNTED else (None, None)] += 1


class Frame:
    """One message with BLOB content on its way through one queue; also the slot that it leaves when it is dropped."""

    __slots__ = (
        "age", "alike", "asked", "begun", "droppable", "message", "moved", "offered", "replaceable", "seals", "size",
        "started",
    )  # fmt: skip

    # Set by `Replaceable.add`:
    age: int  # the younger, the higher
    alike: OrderedDict[Frame, None]  # those of its property with content for the same members
    seals: int  # how much else about the property had come before it

    def __init__(self, message: Routable, begun: Callable[[], None] | None = None, droppable: bool = False) -> None:
        self.message: Routable | None = message
        self.size = message.size  # fixed here: that of the message is an estimate until it is encoded
        self.begun = begun
        self.asked = False  # its form is being made
        self.droppable = droppable  # it may be given up when too much waits
        self.offered = False  # `take` gave it out, `sent` has not yet told what became of it
        self.started = False
        self.moved = False  # it took the place of an older one that was not sent
        self.replaceable: Replaceable | None = None  # those of its property, of which it is one

    def growing(self, attached: bool) -> bool:
        """There are more pieces to come. To be looked at behind `parts`, as the encoder works meanwhile."""
        return not attached and self.message is not None and self.message.growing

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """The pieces to write; nothing once it was dropped."""
        return () if self.message is None else self.message.parts(attached)

    def fds(self) -> Sequence[int]:
        """The descriptors that go with the first byte."""
        return () if self.message is None else self.message.fds()


class Replaceable:
    """The waiting frames of one property that a newer one may replace."""

    __slots__ = ("count", "pinned", "seals", "sets")

    def __init__(self) -> None:
        self.sets: dict[frozenset[str], OrderedDict[Frame, None]] = {}
        """By the members that they have content for, oldest first."""
        self.pinned: Frame | None = None
        """It stays: it was put off before, and what waits behind it must stay behind it."""
        self.seals = 0
        """How often something else about the property came. A frame with a lower number has that behind it."""
        self.count = 0

    def add(self, frame: Frame, members: frozenset[str], age: int) -> None:
        """One more. Of members in ever new combinations a few are kept apart; frames of others are not replaced."""
        alike = self.sets.get(members)
        if alike is None:
            if len(self.sets) >= _MAX_SETS:
                self.sets = {key: frames for key, frames in self.sets.items() if frames}
                if len(self.sets) >= _MAX_SETS:
                    return
            alike = self.sets[members] = OrderedDict()
        alike[frame] = None
        frame.replaceable, frame.alike, frame.seals, frame.age = self, alike, self.seals, age
        self.count += 1

    def remove(self, frame: Frame) -> None:
        """It waits no more."""
        frame.alike.pop(frame, None)  # it may be pinned, or stand aside
        if self.pinned is frame:
            self.pinned = None
        frame.replaceable = None
        self.count -= 1

    def covered(self, members: frozenset[str]) -> list[Frame]:
        """Those that have content for no other members than these, oldest first."""
        sets = [frames for key, frames in self.sets.items() if frames and key <= members]
        if len(sets) == 1:
            return list(sets[0])
        return sorted(chain.from_iterable(sets), key=attrgetter("age"))


class DropNote:
    """Tells a client, in the place of what it missed, how many BLOBs of a property it missed.

    Without a property: of all those that have no note of their own.
    """

    tag: str = "message"
    name: str | None = None
    blob: bool = False
    growing: bool = False
    formats: tuple[str, ...] = ()
    carried: frozenset[str] = frozenset()
    size: int = 0  # it stands in the slot of a frame that was counted before

    def __init__(self, device: str | None, name: str | None) -> None:
        self.device: str | None = device
        self.of = name
        self.count = 1
        self._data: bytes | None = None

    @property
    def closed(self) -> bool:
        """It is being written: it can count no further."""
        return self._data is not None

    def reopen(self) -> None:
        """Nothing of it was written after all."""
        self._data = None

    def parts(self, attached: bool) -> Sequence[Buffer]:
        """Written when it is its turn, so that one note stands for all that was dropped until then."""
        if self._data is None:
            from indifast.protocol.wire import message

            what = "1 BLOB" if self.count == 1 else f"{self.count} BLOBs"
            of = "" if self.of is None else f" of {self.of}"
            text = f"{what}{of} dropped: this connection reads too slowly"
            self._data = message(text, None, self.device).data
        return (self._data,)

    def fds(self) -> Sequence[int]:
        """None."""
        return ()

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """Never needed."""
        raise RuntimeError("this message is ready")

    def element(self) -> Element:
        """Parsed from what is written."""
        from indifast._parser import Tokenizer

        (element,) = Tokenizer(relay=True).feed(bytes(self.parts(False)[0]))
        return element


class ByteQueue:
    """Messages in order, out as bytes. It drops nothing: for the side that can wait for its one peer.

    `attached` selects the form with descriptors (the peer is on a Unix socket); `terminator` follows each message;
    `full_at` bytes make the queue `full`, for those who can be asked to wait.
    """

    def __init__(
        self,
        *,
        attached: bool = False,
        terminator: bytes = b"",
        full_at: int | None = None,
        on_pending: Callable[[], None] | None = None,
    ) -> None:
        self.on_pending = on_pending
        """Called when the queue has something to write after it had nothing, or its first message was not ready."""
        self.on_room: Callable[[], None] | None = None
        """Called when a queue that was `full` is half empty again."""
        self.attached = attached
        self.queued = 0
        """Bytes of all messages that are not yet written to their end."""
        self.messages = 0
        """Messages that are not yet written to their end."""
        self.sent_messages = 0
        self.sent_bytes = 0
        self.progress = 0.0
        """When the peer last took a byte, or when the queue last began to fill."""
        self._terminator = terminator
        self._full_at = full_at
        self._was_full = False
        self._items: deque[Routable | Frame] = deque()
        self._urgent: deque[Routable] = deque()
        self._rest: deque[Buffer] = deque()  # what is left of the message that was begun
        self._started: Routable | Frame | None = None
        self._frames: OrderedDict[Frame, None] = OrderedDict()  # the unstarted ones among the items that stay
        self._droppable: OrderedDict[Frame, None] = OrderedDict()  # and those that may be given up, oldest first
        self._aside: list[tuple[OrderedDict[Frame, None], Frame]] = []  # given out and therefore not among these now
        self._gaps = 0  # slots among the items that are empty
        self._notified = False  # on_pending was called, and there still is something
        self._growing: Frame | None = None  # the started message, as long as not all of its pieces were taken
        self._grown = 0  # how many were
        self._blocked = False  # the first of the items, or more of the one that was begun, is not ready
        self._offer: list[Routable | Frame] = []  # what `take` gave out, in order, without the started one
        self._offer_sizes: list[int] = []
        self._offer_urgent = 0
        self._offer_total = 0
        self._offer_whole = True
        self._offer_frames = False  # it has slots of BLOBs, which keep books of their own
        self._offer_alone: Routable | None = None  # instead of all these: it is this one message

    # -- in

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message behind the others. `begun` is called when the first byte of a BLOB message is written."""
        if message.blob:
            self._append_frame(message, begun)
        else:
            self._items.append(message)
            self.queued += message.size
        self.messages += 1
        if not self._notified:
            self._notify(now)

    def expedite(self, message: Routable, now: float) -> None:
        """Queue a small message ahead of everything that is not yet begun: the answer to a ping."""
        self._urgent.append(message)
        self.queued += message.size
        self.messages += 1
        if not self._notified or (self._blocked and self._growing is None):
            self._notified = False
            self._notify(now, urgent=True)

    def _append_frame(self, message: Routable, begun: Callable[[], None] | None) -> None:
        frame = Frame(message, begun)
        self._items.append(frame)
        self._enlist(frame)

    def _enlist(self, frame: Frame) -> None:
        """Count a frame that waits; the first two are encoded ahead, so that the peer never waits for the encoder."""
        self.queued += frame.size
        frames = self._droppable if frame.droppable else self._frames
        frames[frame] = None
        if len(frames) <= 2:
            self._ask(frame)

    def _ask(self, frame: Frame) -> None:
        """See that the form of a frame is made."""
        message = frame.message
        if message is not None and message.blob and not frame.asked and message.parts(self.attached) is None:
            frame.asked = True
            message.when_ready(self.attached, self._made_ready)

    def _made_ready(self) -> None:
        if self._blocked:
            self._blocked = False
            if (self._items or self._growing is not None) and not self._notified:
                self._notified = True
                if self.on_pending is not None:
                    self.on_pending()

    def _notify(self, now: float, urgent: bool = False) -> None:
        if self._blocked and not (urgent and self._growing is None):
            return
        self._notified = True
        self.progress = now
        if self.on_pending is not None:
            self.on_pending()

    # -- out

    @property
    def pending(self) -> bool:
        """Something could be written now."""
        if self._growing is not None:
            return bool(self._rest) or not self._blocked
        return bool(self._rest or self._urgent or (self._items and not self._blocked))

    @property
    def full(self) -> bool:
        """Those who can wait should: `on_room` tells when to go on."""
        if self._full_at is not None and self.queued > self._full_at:
            self._was_full = True
            return True
        return False

    def take(self, max_bytes: int, max_parts: int) -> tuple[list[Buffer], Sequence[int]]:
        """What to write next, and the descriptors that go with its first byte; nothing is removed.

        At least one piece when something is pending; about `max_bytes` otherwise (pieces are not cut). `sent` must tell
        what was written of it, 0 included, before the next `take`.
        """
        self._withdraw_offer()
        if self._growing is not None:
            self._grow(self._growing)
        if not self._rest and self._growing is None:
            if len(self._items) == 1 and not self._urgent:
                only = self._items[0]
                if not isinstance(only, Frame) and only.size <= _JOIN:
                    return self._offer_only(only), ()
            self._skip_empty()
        out: list[Buffer] = list(islice(self._rest, max_parts))
        total = sum(map(len, out))
        self._offer_total = total
        if total >= max_bytes or len(out) >= max_parts or self._growing is not None:
            self._offer_whole = len(out) == len(self._rest) and self._growing is None
            return out, ()
        fds: Sequence[int] = ()
        run: list[Buffer] = []
        joined = gaps = 0
        for message in chain(self._urgent, self._items):
            parts = message.parts(self.attached)
            growing = isinstance(message, Frame) and message.growing(self.attached)
            if not parts:
                if parts is None:
                    self._wait_for(message, out, run)
                    break
                if isinstance(message, Frame) and message.message is None:
                    gaps += 1
                    continue
            own: Sequence[int] = message.fds() if self.attached else ()
            if own and (out or run):
                break  # descriptors travel with the first byte of what is written
            size = 0
            whole = True
            for part in parts:
                length = len(part)
                if length <= _JOIN:
                    run.append(part)
                    joined += length
                else:
                    if run:
                        out.append(run[0] if len(run) == 1 else b"".join(run))
                        run = []
                    if len(out) >= max_parts - 2 or total + size >= max_bytes:
                        whole = False
                        break
                    out.append(part)
                size += length
            if not (whole or size):
                break
            whole = whole and not growing
            fds = fds or own
            if whole and self._terminator and parts:
                run.append(self._terminator)
                size += len(self._terminator)
            self._offer.append(message)
            self._offer_sizes.append(size)
            if isinstance(message, Frame):
                message.offered = True
                self._offer_frames = True
            total += size
            if not whole:
                self._offer_whole = False
                break
            if total >= max_bytes or joined >= _JOINED or len(out) >= max_parts - 2:
                break
        if run:
            out.append(run[0] if len(run) == 1 else b"".join(run))
        self._offer_urgent = min(len(self._urgent), len(self._offer))
        self._offer_total = total
        if gaps:
            self._close_gaps(gaps)
        return out, fds

    def _close_gaps(self, gaps: int) -> None:
        """So many empty slots stand among the items that are offered: nobody is to pass them a second time."""
        offered = self._offer[self._offer_urgent :]
        for _ in range(len(offered) + gaps):
            self._items.popleft()
        self._items.extendleft(reversed(offered))
        self._gaps -= gaps

    def _empty(self, frame: Frame) -> None:
        """The slot of a frame that is given up."""
        frame.message = frame.begun = None
        frame.size = 0
        self._gaps += 1

    def _trim(self) -> None:
        """Remove the empty slots before they become many: who reads nothing would keep them."""
        if 3 * self._gaps > len(self._items):
            self._items = deque(
                [item for item in self._items if not (isinstance(item, Frame) and item.message is None)]
            )
            self._gaps = 0

    def _oldest(self) -> Frame | None:
        """The oldest frame that may be given up. What was given out stands aside until it is known what was sent."""
        while self._droppable:
            frame = next(iter(self._droppable))
            if not frame.offered:
                return frame
            self._set_aside(self._droppable, frame)
        return None

    def _set_aside(self, frames: OrderedDict[Frame, None], frame: Frame) -> None:
        """Until it is known what was sent, a frame that was given out is not met again among these."""
        del frames[frame]
        self._aside.append((frames, frame))

    def _offer_only(self, message: Routable) -> list[Buffer]:
        """A small message that has the queue to itself, as commands and their answers mostly do: the short way."""
        parts = message.parts(self.attached)
        assert parts is not None
        piece = parts[0] if len(parts) == 1 and not self._terminator else b"".join((*parts, self._terminator))
        self._offer_alone = message
        self._offer_total = len(piece)
        return [piece]

    def _grow(self, frame: Frame) -> None:
        """Take over the pieces that the message which is being written has got since."""
        parts = frame.parts(self.attached)
        growing = frame.growing(self.attached)
        assert parts is not None
        known, self._grown = self._grown, len(parts)
        self._rest.extend(islice(parts, known, self._grown))
        if growing:
            if not self._rest:
                assert frame.message is not None
                self._blocked = True
                self._notified = False
                frame.message.when_ready(self.attached, self._made_ready)
            return
        self._growing = None
        if self._terminator:
            self._rest.append(self._terminator)
        if not self._rest:
            self._started = None
            self._finish(frame)
            self._after_removal()

    def _skip_empty(self) -> None:
        """Pass over slots that were left empty, and BLOBs that turned out to have no form."""
        items = self._items
        while items and isinstance(frame := items[0], Frame) and not isinstance(frame.message, DropNote):
            if frame.message is None:
                items.popleft()
                self._gaps -= 1
                continue
            parts = frame.parts(self.attached)
            if parts is None or len(parts):
                return
            items.popleft()
            self._begin(frame)
            self._finish(frame)
        if not self.pending:
            self._notified = False

    def _wait_for(self, message: Routable | Frame, out: list[Buffer], run: list[Buffer]) -> None:
        """The next message is not ready: order is kept, so all behind it waits with it."""
        assert isinstance(message, Frame)
        assert message.message is not None
        if not message.asked:  # even if it has become ready since `take` looked: its callbacks are still to come
            message.asked = True
            message.message.when_ready(self.attached, self._made_ready)
        self._blocked = True
        if not (out or run):
            self._notified = False

    def _withdraw_offer(self) -> None:
        self._offer_alone = None
        self._offer_total = 0
        if self._offer_whole and not self._offer:
            return
        for message in self._offer if self._offer_frames else ():
            if isinstance(message, Frame):
                message.offered = False
                if not message.started and isinstance(message.message, DropNote):
                    message.message.reopen()
        if self._aside:
            for frames, frame in reversed(self._aside):
                if not frame.started:
                    frames[frame] = None
                    frames.move_to_end(frame, last=False)
            self._aside.clear()
        self._offer.clear()
        self._offer_sizes.clear()
        self._offer_urgent = 0
        self._offer_whole = True
        self._offer_frames = False

    def sent(self, nbytes: int, now: float) -> None:
        """So many bytes of what `take` gave were written."""
        if nbytes:
            self.progress = now
            self.sent_bytes += nbytes
            alone = self._offer_alone
            if alone is not None:
                if nbytes == self._offer_total:
                    self._items.popleft()
                    self._finish_small(1, alone.size)
                else:
                    self._offer.append(alone)
                    self._offer_sizes.append(self._offer_total)
                    self._sent_some(nbytes)
            elif nbytes == self._offer_total and self._offer_whole:
                if self._started is not None:
                    self._rest.clear()
                    self._finish(self._started)
                    self._started = None
                if self._offer_frames:
                    for message in self._offer:
                        self._remove_first()
                        self._begin(message)
                        self._finish(message)
                else:
                    self._finish_offer()
            else:
                self._sent_some(nbytes)
        self._withdraw_offer()
        self._after_removal()

    def _finish_offer(self) -> None:
        """All that was offered is written, and none of it had content: the many small messages of a flood."""
        for _ in range(self._offer_urgent):
            self._urgent.popleft()
        popleft = self._items.popleft
        for _ in range(len(self._offer) - self._offer_urgent):
            popleft()
        self._finish_small(len(self._offer), sum([message.size for message in self._offer]))

    def _finish_small(self, count: int, size: int) -> None:
        """So many messages without content, of so many bytes together, are written."""
        self.queued -= size
        self.messages -= count
        self.sent_messages += count

    def _sent_some(self, nbytes: int) -> None:
        """Walk over the messages that were offered, up to the byte that was reached."""
        if self._started is not None:
            nbytes = self._shorten_rest(nbytes)
            if self._rest or self._growing is not None:
                return
            self._finish(self._started)
            self._started = None
        for message, size in zip(self._offer, self._offer_sizes, strict=True):
            if not nbytes and size:
                return
            parts = message.parts(self.attached)
            growing = isinstance(message, Frame) and message.growing(self.attached)
            assert parts is not None
            self._remove_first()
            self._begin(message)
            self._grown = len(parts)
            self._rest.extend(islice(parts, self._grown))
            if growing:
                assert isinstance(message, Frame)
                self._growing = message
            elif self._terminator and parts:
                self._rest.append(self._terminator)
            nbytes = self._shorten_rest(nbytes)
            if self._rest or growing:
                self._started = message
                return
            self._finish(message)

    def _shorten_rest(self, nbytes: int) -> int:
        """Take what was written off the rest of the started message; returns the bytes that went beyond it."""
        rest = self._rest
        while rest and nbytes >= len(rest[0]):
            nbytes -= len(rest.popleft())
        if rest and nbytes:
            rest[0] = memoryview(rest[0])[nbytes:]
            return 0
        return nbytes

    def _remove_first(self) -> None:
        """The next message leaves its queue: an urgent one first, as long as the offer had any."""
        if self._offer_urgent:
            self._offer_urgent -= 1
            self._urgent.popleft()
        else:
            self._items.popleft()

    def _begin(self, message: Routable | Frame) -> None:
        """The first byte of a message was written: from now on it is finished whatever happens."""
        if not isinstance(message, Frame):
            return
        message.started = True
        inner = message.message
        if isinstance(inner, DropNote):
            return
        assert inner is not None
        frames = self._droppable if message.droppable else self._frames
        frames.pop(message, None)  # unless it stands aside
        self._leave(message)
        if frames and inner.blob:
            self._ask(next(iter(frames)))
        if message.begun is not None:
            begun, message.begun = message.begun, None
            begun()

    def _leave(self, frame: Frame) -> None:
        """A frame waits no longer; for those who keep more books about waiting frames."""

    def _finish(self, message: Routable | Frame) -> None:
        self.queued -= message.size
        self.messages -= 1
        self.sent_messages += 1

    def _after_removal(self) -> None:
        if not self.pending:
            self._notified = False
        if self._was_full and self._full_at is not None and self.queued <= self._full_at // 2:
            self._was_full = False
            if self.on_room is not None:
                self.on_room()

    def pop(self) -> Routable | None:
        """The next whole message, for a reader in this process; None when there is none."""
        while self._urgent or self._items:
            item = self._urgent.popleft() if self._urgent else self._items.popleft()
            message = item.message if isinstance(item, Frame) else item
            if message is None:
                self._gaps -= 1
                continue
            self._begin(item)
            self._finish(item)
            self._after_removal()
            return message
        self._after_removal()
        return None

    def stalled(self, now: float, timeout: float) -> bool:
        """The peer has taken nothing for so many seconds, although there was something to take."""
        if not self.pending:
            self.progress = now
        return now - self.progress > timeout

    def clear(self) -> None:
        """Forget everything: the peer is gone."""
        self._withdraw_offer()
        for queue in (self._items, self._urgent, self._rest, self._frames, self._droppable):
            queue.clear()
        self._started = self._growing = None
        self.queued = self.messages = self._gaps = 0
        self._after_removal()

    def waiting(self) -> Iterator[Routable]:
        """All messages that are not begun, in order: for statistics."""
        for item in chain(self._urgent, self._items):
            message = item.message if isinstance(item, Frame) else item
            if message is not None:
                yield message


class Outbox(ByteQueue):
    """Messages towards a client or a link, with the rules for one that reads slowly.

    * Everything keeps its order.
    * While more than `limits.stream` bytes of BLOBs wait, a waiting set with streamed content (`format` contains
      "stream"; with `newest_wins` any) is replaced by a newer one that has content for every member the older one has.
      Replaced a second time before anything of it was sent, a property keeps its place, so that it can't be put off for
      ever; where a set without content follows that place, the older frame stays as well, one per property.
    * While more than `limits.queue` bytes of BLOBs wait, the oldest is dropped; a note to the client takes its place:
      one for each property, and from a thousand on one for all others.
    * A message that was begun is finished, and counts for none of the limits. Sets without content are never dropped.
    * More than `limits.small_queue` bytes of messages without content: `on_overflow`, once; the peer can't be helped.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        attached: bool = False,
        terminator: bytes = b"",
        newest_wins: bool = False,
        on_pending: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(attached=attached, terminator=terminator, full_at=2 * limits.queue, on_pending=on_pending)
        self.on_overflow: Callable[[], None] | None = None
        self.on_low: Callable[[], None] | None = None
        """Called, once, when little is left of the messages without content."""
        self.on_drop: Callable[[Routable, str], None] | None = None
        """Called with each frame that is lost, and how: "dropped" or "replaced"."""
        self.newest_wins = newest_wins
        self.newest_wins_of: frozenset[Property] = frozenset()
        """Properties for which newest_wins holds whatever the connection has."""
        self.small = 0
        """Bytes of messages without BLOB content."""
        self.blobs = 0
        """Bytes of the BLOBs that wait and are not begun."""
        self.dropped: Counter[Property] = Counter()
        """Frames that were dropped because too much waited, by property."""
        self.replaced: Counter[Property] = Counter()
        """Frames that a newer one took the place of, by property."""
        self.frames_sent: Counter[Property] = Counter()
        """Frames that were begun, by property; each is finished unless the connection ends."""
        self._limits = limits
        self._overflown = False
        self._current: dict[str | None, dict[str | None, Replaceable]] = {}  # by device and name
        self._new_books = 0  # since those that are needed no more were last sorted out
        self._books_kept = _MIN_BOOKS  # so many come before that is done again
        self._ages = count()
        self._notes: dict[Property, DropNote] = {}

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message behind the others; see `ByteQueue.append`."""
        if message.blob:
            self._append_blob(message, begun)
        else:
            if self.small > _COMPACT:
                message = compact(message)
            self._items.append(message)
            self.queued += message.size
            self.messages += 1
            self.small += message.size
            if self._current and message.tag in _SEALING:
                self._seal(message)
            if self.small > self._limits.small_queue:
                self._overflow()
        if not self._notified:
            self._notify(now)

    def _after_removal(self) -> None:
        super()._after_removal()
        if self.on_low is not None and self.small < _LOW:
            on_low, self.on_low = self.on_low, None
            on_low()

    def expedite(self, message: Routable, now: float) -> None:
        """Queue ahead of everything that is not begun; see `ByteQueue.expedite`."""
        self.small += message.size
        if self.small > self._limits.small_queue:
            self._overflow()
        super().expedite(message, now)

    def _overflow(self) -> None:
        if not self._overflown:
            self._overflown = True
            if self.on_overflow is not None:
                self.on_overflow()

    def _append_blob(self, message: Routable, begun: Callable[[], None] | None) -> None:
        if message.tag != "setBLOBVector":  # a command to a link: its sender waits instead
            self._append_frame(message, begun)
            self.messages += 1
            return
        names = self._current.get(message.device)
        current = None if names is None else names.get(message.name)
        place, moved = (None, False) if current is None else self._replace_older(current, message)
        if place is None:
            frame = Frame(message, begun, True)
            self._items.append(frame)
        else:  # in the slot of the older one
            frame = place
            frame.message = message
            frame.size = message.size
            frame.begun = begun
            frame.asked = False
            self._gaps -= 1
        frame.moved = moved
        self.messages += 1
        self._enlist(frame)
        self.blobs += frame.size
        if self._may_be_replaced(message):
            if current is None:
                current = self._begin_replacement(message.device, message.name)
            current.add(frame, message.carried, next(self._ages))
        while self.blobs > self._limits.queue and self._drop_oldest(spare=frame):
            pass
        if self._gaps > _MAX_GAPS:
            self._trim()

    def _may_be_replaced(self, message: Routable) -> bool:
        """Whether newer frames of its property may take the place of this one."""
        if not self._limits.stream:
            return False
        if self.newest_wins or (self.newest_wins_of and (message.device, message.name) in self.newest_wins_of):
            return True
        formats = message.formats
        if len(formats) == 1:  # as a rule
            return "stream" in formats[0]
        return bool(formats) and all("stream" in format for format in formats)

    def _replace_older(self, current: Replaceable, newer: Routable) -> tuple[Frame | None, bool]:
        """Take out the waiting frames that a newer one stands for; where the newer one goes (None: at the end), and
        whether it replaced any."""
        if self.blobs + newer.size <= self._limits.stream:
            return None, False
        place: Frame | None = None
        moved = False
        for frame in current.covered(newer.carried):
            if frame.offered:
                self._set_aside(frame.alike, frame)
                continue
            sealed = frame.seals != current.seals
            if frame.moved and sealed and current.pinned is None:
                current.pinned = frame
                del frame.alike[frame]
                continue
            self._take_out(frame, self.replaced)
            moved = True
            if frame.moved and not sealed and place is None:
                place = frame
        return place, moved

    def _seal(self, message: Routable) -> None:
        """Something about a property follows its waiting frames, so none may come to stand in their place later.

        A definition or deletion ends replacement altogether: what comes after it is another property.
        """
        names = self._current.get(message.device)
        if names is None:
            return
        if message.tag == "setBLOBVector":
            current = names.get(message.name)
            if current is not None:
                current.seals += 1
        elif message.name is None:
            del self._current[message.device]
        else:
            names.pop(message.name, None)

    def _begin_replacement(self, device: str | None, name: str | None) -> Replaceable:
        """The books about a property of which none are kept. Of those of which nothing waits some are kept as well, as
        mostly one frame comes after the other has gone."""
        if self._new_books >= self._books_kept:
            kept = {
                key: waiting
                for key, names in self._current.items()
                if (waiting := {name: current for name, current in names.items() if current.count})
            }
            self._current = kept
            self._new_books, self._books_kept = 0, _MIN_BOOKS + sum(map(len, kept.values()))
        self._new_books += 1
        current = self._current.setdefault(device, {})[name] = Replaceable()
        return current

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest waiting set with content; False when there is none but the newest."""
        frame = self._oldest()
        if frame is None or frame is spare:
            return False
        message = frame.message
        assert message is not None
        self._take_out(frame, self.dropped)
        key: Property = (message.device, message.name)
        if key not in self._notes and len(self._notes) >= _MAX_NOTES:
            key = (None, None)
        note = self._notes.get(key)
        if note is not None and not note.closed:
            note.count += 1
        else:
            self._notes[key] = frame.message = DropNote(*key)
            self._gaps -= 1
            self.messages += 1
        return True

    def _take_out(self, frame: Frame, counter: Counter[Property]) -> None:
        """A waiting frame is given up; its slot stays, empty."""
        message = frame.message
        assert message is not None
        _count(counter, (message.device, message.name))
        del self._droppable[frame]
        self._leave(frame)
        self.queued -= frame.size
        self.messages -= 1
        self._empty(frame)
        if self.on_drop is not None:
            self.on_drop(message, "replaced" if counter is self.replaced else "dropped")

    def _begin(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame) and (inner := message.message) is not None and inner.blob:
            _count(self.frames_sent, (inner.device, inner.name))
        ByteQueue._begin(self, message)  # `super()` takes a twentieth of a microsecond

    def _leave(self, frame: Frame) -> None:
        message = frame.message
        assert message is not None
        if message.tag != "setBLOBVector":
            return
        self.blobs -= frame.size
        current = frame.replaceable
        if current is not None:
            current.remove(frame)

    def _finish(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame):
            note = message.message
            if isinstance(note, DropNote) and self._notes.get((note.device, note.of)) is note:
                del self._notes[(note.device, note.of)]
        else:
            self.small -= message.size
        ByteQueue._finish(self, message)

    def _finish_small(self, count: int, size: int) -> None:
        self.small -= size
        super()._finish_small(count, size)

    def clear(self) -> None:
        """Forget everything: the peer is gone."""
        self._current.clear()
        self._notes.clear()
        self.small = self.blobs = 0
        super().clear()


def _ask_for_all() -> Routable:
    from indifast.protocol.wire import get_properties

    return get_properties()


_Latest: TypeAlias = dict[tuple[str, str | None], Frame]
"""Of one device the newest message of each kind (tag and name) that waits and may be replaced."""


class DriverOutbox(ByteQueue):
    """Messages towards a driver: commands always fit, and whoever sends them is asked to wait while it is `full`.

    What a driver hears of other drivers' devices gives way instead: while the queue is full, a newer update of a
    property replaces an older one that is not begun. The same holds for requests for definitions. Of properties without
    end, of which none is heard of twice, the oldest message is dropped when they alone would fill the queue twice.
    """

    def __init__(
        self,
        full_at: int = 16 << 20,
        *,
        attached: bool = False,
        terminator: bytes = b"\n",
        on_pending: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(attached=attached, terminator=terminator, full_at=full_at, on_pending=on_pending)
        self.on_drop: Callable[[Routable, str], None] | None = None
        """Called with each message that is lost, and how: "dropped" or "replaced"."""
        self.replaced: Counter[Property] = Counter()
        """Messages that a newer one took the place of, by property."""
        self.dropped: Counter[Property] = Counter()
        """Messages that were dropped because too much waited, by property."""
        self.snooped = 0
        """Bytes of what gives way and is not begun, but for requests: of these there are few."""
        self._latest: dict[str | None, _Latest] = {}
        self._requests: dict[str | None, _Latest] = {}

    def expedite(self, message: Routable, now: float) -> None:
        """Queue the answer to a ping ahead of everything that is not begun; not while a thousand of them wait."""
        if len(self._urgent) >= _MAX_URGENT:
            _count(self.dropped, (message.device, message.name))
            if self.on_drop is not None:
                self.on_drop(message, "dropped")
            return
        super().expedite(message, now)

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue something about another driver's device, or a request for definitions.

        A request that waits already is as good as a second one; while the queue is full, one for everything is as good
        as one for anything. An update takes the place of the older one: what is replaced leaves nothing behind, however
        long the driver reads nothing.
        """
        full = self._full_at is not None and self.queued + message.size > self._full_at
        request = message.tag == "getProperties"
        if request and full and message.device is not None:
            message = _ask_for_all()
        tag, device = message.tag, message.device
        key = (tag, message.name)
        books = self._requests if request else self._latest
        latest = books.get(device)
        older = None if latest is None else latest.get(key)
        if older is not None and not older.offered:
            if request:
                return
            if full and not self._sets_wait_behind(message):
                self._replace(older, message, begun)
                return
        if tag == "delProperty" or tag in DEF_VECTORS:
            self._end_replacement(message)
            latest = books.get(device)
        if not message.blob and self.queued > _COMPACT:
            message = compact(message)
        frame = Frame(message, begun, not request)
        self._items.append(frame)
        self._enlist(frame)
        if latest is None:
            latest = books[device] = {}
        latest[key] = frame
        self.messages += 1
        if not request:
            self.snooped += frame.size
            if self._full_at is not None:
                while self.snooped > 2 * self._full_at and self._drop_oldest(spare=frame):
                    pass
                if self._gaps > _MAX_GAPS:
                    self._trim()
        if not self._notified:
            self._notify(now)

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest message that gives way; False when there is none but the newest."""
        frame = self._oldest()
        if frame is None or frame is spare:
            return False
        message = frame.message
        assert message is not None
        _count(self.dropped, (message.device, message.name))
        del self._droppable[frame]
        self._leave(frame)
        self.queued -= frame.size
        self.messages -= 1
        self._empty(frame)
        if self.on_drop is not None:
            self.on_drop(message, "dropped")
        return True

    def _replace(self, frame: Frame, message: Routable, begun: Callable[[], None] | None) -> None:
        older = frame.message
        assert older is not None
        _count(self.replaced, (message.device, message.name))
        if not message.blob:
            message = compact(message)
        self.queued += message.size - frame.size
        self.snooped += message.size - frame.size
        frame.message, frame.size, frame.begun, frame.asked = message, message.size, begun, False
        if self.on_drop is not None:
            self.on_drop(older, "replaced")

    def _sets_wait_behind(self, message: Routable) -> bool:
        """A newer definition may not come to stand before an older update."""
        if message.tag not in DEF_VECTORS:
            return False
        latest = self._latest.get(message.device, {})
        return any((tag, message.name) in latest for tag in SET_VECTORS)

    def _end_replacement(self, message: Routable) -> None:
        """What comes behind a definition or deletion may not take a place before it."""
        latest = self._latest.get(message.device)
        if latest is None:
            return
        if message.name is not None:
            for tag in (*DEF_VECTORS, *SET_VECTORS):
                latest.pop((tag, message.name), None)
        else:
            latest.clear()
        if not latest:
            del self._latest[message.device]

    def _leave(self, frame: Frame) -> None:
        message = frame.message
        assert message is not None
        if frame.droppable:
            books = self._latest
            self.snooped -= frame.size
        else:
            books = self._requests
        latest = books.get(message.device)
        if latest is not None:
            key = (message.tag, message.name)
            if latest.get(key) is frame:
                del latest[key]
                if not latest:
                    del books[message.device]

    def clear(self) -> None:
        """Forget everything: the driver is gone. What it is asked when it comes back is new to it."""
        self._latest.clear()
        self._requests.clear()
        self.snooped = 0
        super().clear()
