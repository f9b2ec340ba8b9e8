"""What waits to be written to one peer, in order, and what of it is given up when the peer is slow.

Nothing here knows a socket or a clock: messages come in by `append`, bytes go out by `take` and `sent`, and the time is
an argument (seconds, monotonic).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
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

    __slots__ = ("asked", "begun", "droppable", "message", "moved", "offered", "pinned", "sealed", "size", "started")

    def __init__(self, message: Routable, begun: Callable[[], None] | None = None) -> None:
        self.message: Routable | None = message
        self.size = message.size  # fixed here: that of the message is an estimate until it is encoded
        self.begun = begun
        self.asked = False  # its form is being made
        self.droppable = False  # of what a driver snoops on
        self.offered = False  # `take` gave it out, `sent` has not yet told what became of it
        self.started = False
        self.moved = False  # it took the place of an older one that was not sent
        self.pinned = False  # it stays: it was put off before, and what waits behind it must stay behind it
        self.sealed = False  # something else about the property waits behind it

    def growing(self, attached: bool) -> bool:
        """There are more pieces to come. To be looked at behind `parts`, as the encoder works meanwhile."""
        return not attached and self.message is not None and self.message.growing

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """The pieces to write; nothing once it was dropped."""
        return () if self.message is None else self.message.parts(attached)

    def fds(self) -> Sequence[int]:
        """The descriptors that go with the first byte."""
        return () if self.message is None else self.message.fds()


class DropNote:
    """Tells a client, in the place of what it missed, how many BLOBs of a property it missed."""

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
            text = f"{what} of {self.of} dropped: this connection reads too slowly"
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
        self._frames: deque[Frame] = deque()  # the unstarted ones among the items, oldest first
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

    def _append_frame(self, message: Routable, begun: Callable[[], None] | None) -> Frame:
        frame = Frame(message, begun)
        self._items.append(frame)
        self._enlist(frame)
        return frame

    def _enlist(self, frame: Frame) -> None:
        """Count a frame that waits; the first two are encoded ahead, so that the peer never waits for the encoder."""
        self.queued += frame.size
        self._frames.append(frame)
        if len(self._frames) <= 2:
            self._ask(frame)

    def _ask(self, frame: Frame) -> bool:
        """See that the form of a frame is made; True when it is there."""
        message = frame.message
        if message is None or message.parts(self.attached) is not None:
            return True
        if not frame.asked:
            frame.asked = True
            message.when_ready(self.attached, self._made_ready)
        return False

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
        joined = 0
        for message in chain(self._urgent, self._items):
            parts = message.parts(self.attached)
            growing = isinstance(message, Frame) and message.growing(self.attached)
            if parts is None:
                self._wait_for(message, out, run)
                break
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
        return out, fds

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
        if message.message is None or not message.message.blob:
            return  # dropped, or a note in the place of what was dropped
        frames = self._frames
        if frames[0] is message:
            frames.popleft()
        else:
            frames.remove(message)
        self._leave(message)
        if frames:
            self._ask(frames[0])
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
            self._begin(item)
            self._finish(item)
            message = item.message if isinstance(item, Frame) else item
            if message is not None:
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
        for queue in (self._items, self._urgent, self._rest, self._frames):
            queue.clear()
        self._started = self._growing = None
        self.queued = self.messages = 0
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
    * While more than `limits.queue` bytes of BLOBs wait, the oldest is dropped; a note to the client takes its place.
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
        self._current: dict[Property, deque[Frame]] = {}  # waiting sets that a newer one may replace
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
            if self._current:
                self._seal(message)
            if self.small > self._limits.small_queue and not self._overflown:
                self._overflown = True
                if self.on_overflow is not None:
                    self.on_overflow()
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
        super().expedite(message, now)

    def _append_blob(self, message: Routable, begun: Callable[[], None] | None) -> None:
        if message.tag != "setBLOBVector":  # a command to a link: its sender waits instead
            self._append_frame(message, begun)
            self.messages += 1
            return
        key = (message.device, message.name)
        place, moved = self._replace_older(key, message)
        if place is None:
            frame = Frame(message, begun)
            self._items.append(frame)
        else:  # in the slot of the older one
            frame = place
            frame.message = message
            frame.size = message.size
            frame.begun = begun
            frame.asked = False
        frame.moved = moved
        self.messages += 1
        self._enlist(frame)
        self.blobs += frame.size
        self._current.setdefault(key, deque()).append(frame)
        while self.blobs > self._limits.queue and self._drop_oldest(spare=frame):
            pass

    def _replace_older(self, key: Property, newer: Routable) -> tuple[Frame | None, bool]:
        """Take out the waiting frames that a newer one stands for; where the newer one goes (None: at the end), and
        whether it replaced any."""
        stream = self._limits.stream
        frames = self._current.get(key)
        if not frames or not stream or self.blobs + newer.size <= stream:
            return None, False
        place: Frame | None = None
        moved = False
        pinned = any(frame.pinned for frame in frames)
        for frame in list(frames):
            older = frame.message
            assert older is not None
            if frame.offered or not older.carried <= newer.carried or not self._may_replace(key, older):
                continue
            if frame.moved and frame.sealed and not pinned:
                frame.pinned = pinned = True
            if frame.pinned:
                continue
            self._take_out(frame, self.replaced)
            moved = True
            if frame.moved and not frame.sealed and place is None:
                place = frame
        return place, moved

    def _may_replace(self, key: Property, older: Routable) -> bool:
        if self.newest_wins or key in self.newest_wins_of:
            return True
        return bool(older.formats) and all("stream" in format for format in older.formats)

    def _seal(self, message: Routable) -> None:
        """Something about a property follows its waiting frames, so none may come to stand in their place later.

        A definition or deletion ends replacement altogether: what comes after it is another property.
        """
        tag = message.tag
        if tag == "setBLOBVector":
            for frame in self._current.get((message.device, message.name), ()):
                frame.sealed = True
        elif tag == "delProperty" or tag == "defBLOBVector":
            for key in [key for key in self._current if key[0] == message.device]:
                if message.name is None or message.name == key[1]:
                    del self._current[key]

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest waiting set with content; False when there is none but the newest."""
        for frame in self._frames:
            if frame is spare or frame.offered:
                continue
            message = frame.message
            if message is None or message.tag != "setBLOBVector":
                continue
            key = (message.device, message.name)
            self._take_out(frame, self.dropped)
            note = self._notes.get(key)
            if note is not None and not note.closed:
                note.count += 1
            else:
                self._notes[key] = note = DropNote(message.device, message.name)
                frame.message = note
                self.messages += 1
            return True
        return False

    def _take_out(self, frame: Frame, counter: Counter[Property]) -> None:
        """A waiting frame is given up; its slot stays, empty."""
        message = frame.message
        assert message is not None
        _count(counter, (message.device, message.name))
        self._frames.remove(frame)
        self._leave(frame)
        self.queued -= frame.size
        self.messages -= 1
        frame.message = frame.begun = None
        frame.size = 0
        if self.on_drop is not None:
            self.on_drop(message, "replaced" if counter is self.replaced else "dropped")

    def _begin(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame) and (inner := message.message) is not None and inner.blob:
            _count(self.frames_sent, (inner.device, inner.name))
        super()._begin(message)

    def _leave(self, frame: Frame) -> None:
        message = frame.message
        assert message is not None
        if message.tag != "setBLOBVector":
            return
        self.blobs -= frame.size
        key = (message.device, message.name)
        frames = self._current.get(key)
        if frames is not None and frame in frames:
            frames.remove(frame)
            if not frames:
                del self._current[key]

    def _finish(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame):
            if message.message is None:
                return  # an empty slot
            note = message.message
            if isinstance(note, DropNote) and self._notes.get((note.device, note.of)) is note:
                del self._notes[(note.device, note.of)]
        else:
            self.small -= message.size
        super()._finish(message)

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
        """Bytes of what gives way and is not begun."""
        self._latest: dict[tuple[str, Property], Frame] = {}

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue something about another driver's device, or a request for definitions.

        A request that waits already is as good as a second one; while the queue is full, one for everything is as good
        as one for anything. An update takes the place of the older one: what is replaced leaves nothing behind, however
        long the driver reads nothing.
        """
        full = self._full_at is not None and self.queued + message.size > self._full_at
        if message.tag == "getProperties" and full and message.device is not None:
            message = _ask_for_all()
        key = (message.tag, (message.device, message.name))
        older = self._latest.get(key)
        if older is not None and not older.offered:
            if message.tag == "getProperties":
                return
            if full and not self._sets_wait_behind(message):
                self._replace(key, older, message, begun)
                return
        if message.tag == "delProperty" or message.tag in DEF_VECTORS:
            self._end_replacement(message)
        if not message.blob and self.queued > _COMPACT:
            message = compact(message)
        frame = Frame(message, begun)
        frame.droppable = True
        self._items.append(frame)
        self._enlist(frame)
        self._latest[key] = frame
        self.messages += 1
        self.snooped += frame.size
        if self._full_at is not None:
            while self.snooped > 2 * self._full_at and self._drop_oldest(spare=frame):
                pass
        if not self._notified:
            self._notify(now)

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest message that gives way, slot and all; False when there is none but the newest."""
        for frame in self._frames:
            message = frame.message
            if frame is spare or frame.offered or not frame.droppable or message is None:
                continue
            if message.tag == "getProperties":
                continue  # there are few of them while the queue is full
            _count(self.dropped, (message.device, message.name))
            self._frames.remove(frame)
            self._items.remove(frame)
            self.queued -= frame.size
            self.snooped -= frame.size
            self.messages -= 1
            key = (message.tag, (message.device, message.name))
            if self._latest.get(key) is frame:
                del self._latest[key]
            if self.on_drop is not None:
                self.on_drop(message, "dropped")
            return True
        return False

    def _replace(
        self, key: tuple[str, Property], frame: Frame, message: Routable, begun: Callable[[], None] | None
    ) -> None:
        older = frame.message
        assert older is not None
        _count(self.replaced, key[1])
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
        return any((tag, (message.device, message.name)) in self._latest for tag in SET_VECTORS)

    def _end_replacement(self, message: Routable) -> None:
        """What comes behind a definition or deletion may not take a place before it."""
        if message.name is not None:
            for tag in (*DEF_VECTORS, *SET_VECTORS):
                self._latest.pop((tag, (message.device, message.name)), None)
        else:
            for key in [key for key in self._latest if key[1][0] == message.device and key[0] != "getProperties"]:
                del self._latest[key]

    def _begin(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame) and message.message is not None:
            inner = message.message
            key = (inner.tag, (inner.device, inner.name))
            if self._latest.get(key) is message:
                del self._latest[key]
            if message.droppable:
                self.snooped -= message.size
            if not inner.blob:  # wrapped only to be replaceable
                self._frames.remove(message)
        super()._begin(message)

    def _finish(self, message: Routable | Frame) -> None:
        if not (isinstance(message, Frame) and message.message is None):
            super()._finish(message)

    def clear(self) -> None:
        """Forget everything: the driver is gone. What it is asked when it comes back is new to it."""
        self._latest.clear()
        self.snooped = 0
        super().clear()
