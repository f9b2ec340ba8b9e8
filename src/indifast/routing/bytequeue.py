"""Outgoing queue for one peer: messages in, bytes out, in order and without loss.

The queue knows neither sockets nor clocks: messages come in by `append`, bytes go out by `take` and `sent`, and the
time is an argument (monotonic seconds).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from indifast.protocol.message import ATTACHED, INLINE, Buffer, Form, Instruction, Routable
from indifast.routing.dropnotes import DropNote
from indifast.routing.frames import Frame, Order
from indifast.routing.offer import JOIN, Offer, Pieces
from indifast.routing.queuelistener import NOBODY, QueueListener


class ByteQueue:
    """Messages in order, written out as bytes. Nothing is dropped: this is for a side that can wait for its only peer.

    Args:
        attached: Whether to write the form with descriptors, because the peer is on a Unix socket.
        terminator: Bytes written after each message.
        full_at: Bytes above which the queue is `full`, for senders that can be asked to wait.
        listener: Receives the events of the queue.
    """

    def __init__(
        self,
        *,
        attached: bool = False,
        terminator: bytes = b"",
        full_at: int | None = None,
        listener: QueueListener = NOBODY,
    ) -> None:
        self.listener = listener
        """Receives the events of the queue."""
        self.form: Form = ATTACHED if attached else INLINE
        """The form in which further BLOBs are written. Those that wait already keep theirs."""
        self.queued = 0
        """Bytes of all messages that are not completely written."""
        self.messages = 0
        """Messages that are not completely written."""
        self.sent_messages = 0
        self.sent_bytes = 0
        self.progress = 0.0
        """When the peer last took a byte, or when the queue last started to fill."""
        self._terminator = terminator
        self._full_at = full_at
        self._was_full = False
        self._items: deque[Routable | Frame] = deque()
        self._urgent: deque[Routable] = deque()
        self._remaining: deque[Buffer] = deque()  # what is left of the started message
        self._started: Routable | Frame | None = None
        self._growing: Frame | None = None  # the started message, while more of its pieces are to come
        self._grown = 0  # how many of its pieces were taken over
        self._frames: Order = OrderedDict()  # the unstarted frames among the items that must not be dropped
        self._gaps = 0  # empty slots among the items
        self._notified = False  # the listener knows that something is pending, and something still is
        self._blocked = False  # the first item, or more of the started message, is not ready
        self._offer = Offer()

    # -- Input

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message after the others. `begun` is called when the first byte of a BLOB message is written."""
        if message.blob:
            frame = Frame(message, self.form, begun)
            self._items.append(frame)
            self._enlist(frame, self._frames)
        else:
            self._items.append(message)
            self.queued += message.size
        self.messages += 1
        if not self._notified:
            self._notify(now)

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message that a newer one may replace. This queue keeps it all the same."""
        self.append(message, now, begun)

    def expedite(self, message: Routable, now: float) -> None:
        """Queue a small message, the answer to a ping, ahead of all that have not been started."""
        self._urgent.append(message)
        self.queued += message.size
        self.messages += 1
        if not self._notified or (self._blocked and self._growing is None):
            self._notified = False
            self._notify(now, urgent=True)

    def instruct(self, instruction: Instruction, now: float) -> None:
        """Do the same with an instruction, which does not count as sent message."""
        self.expedite(instruction, now)

    def _enlist(self, frame: Frame, order: Order) -> None:
        """Count a waiting frame. The first two are encoded in advance, so that the peer never waits for the encoder."""
        self.queued += frame.size
        frame.order = order
        order[frame] = None
        if len(order) <= 2:
            self._ask(frame)

    def _ask(self, frame: Frame) -> None:
        """Have the form of a frame made, if it is not ready."""
        message = frame.message
        if message is not None and message.blob and not frame.asked and message.parts(frame.form) is None:
            frame.asked = True
            message.when_ready(frame.form, self._made_ready)

    def _made_ready(self) -> None:
        if self._blocked:
            self._blocked = False
            if (self._items or self._growing is not None) and not self._notified:
                self._tell_listener()

    def _notify(self, now: float, urgent: bool = False) -> None:
        if self._blocked and not (urgent and self._growing is None):
            return
        self.progress = now
        self._tell_listener()

    def _tell_listener(self) -> None:
        self._notified = True
        try:
            self.listener.on_pending()
        except MemoryError:
            self._notified = False  # the next message makes up for it
            raise

    # -- Output

    @property
    def pending(self) -> bool:
        """Whether something could be written now."""
        if self._growing is not None:
            return bool(self._remaining) or not self._blocked
        return bool(self._remaining or self._urgent or (self._items and not self._blocked))

    @property
    def full(self) -> bool:
        """Whether senders that can wait should. The listener's `on_room` is called when there is room again."""
        if self._full_at is not None and self.queued > self._full_at:
            self._was_full = True
            return True
        return False

    def take(self, max_bytes: int, max_parts: int) -> tuple[list[Buffer], Sequence[int]]:
        """Return what to write next. Nothing is removed.

        Call `sent` with the number of bytes that were written, even if 0, before the next `take`. Until then, all that
        this returned counts as started, as a thread may be writing it: it stays, whatever is put into the queue.

        Args:
            max_bytes: About how many bytes to return at most. Pieces are not cut.
            max_parts: How many pieces to return at most.

        Returns:
            The pieces, at least one if something is pending, and the descriptors that go with the first byte.
        """
        offer = self._offer
        offer.withdraw()
        if self._growing is not None:
            self._grow(self._growing)
        if not self._remaining and self._growing is None:
            if len(self._items) == 1 and not self._urgent:
                only = self._items[0]
                if not isinstance(only, Frame) and only.size <= JOIN:
                    return self._offer_only(only), ()
            self._skip_empty()
        out: list[Buffer] = list(islice(self._remaining, max_parts))
        offer.total = sum(map(len, out))
        if offer.total >= max_bytes or len(out) >= max_parts or self._growing is not None:
            offer.whole = len(out) == len(self._remaining) and self._growing is None
            return out, ()
        pieces = Pieces(out, offer.total, max_bytes, max_parts)
        waiting = chain(self._urgent, self._items)
        gaps = 0
        while (frame := self._offer_small(waiting, pieces)) is not None:
            if frame.message is None:
                gaps += 1
            elif not self._offer_frame(frame, pieces):
                break
        offer.urgent = min(len(self._urgent), len(offer.messages))
        offer.total = pieces.total
        if gaps:
            self._close_gaps(gaps)
        return pieces.finish(), pieces.fds

    def _offer_only(self, message: Routable) -> list[Buffer]:
        """Offer a small message that is alone in the queue. This shortcut suits most commands and their answers."""
        parts = message.parts(self.form)
        assert parts is not None
        piece = parts[0] if len(parts) == 1 and not self._terminator else b"".join((*parts, self._terminator))
        self._offer.alone = message
        self._offer.total = len(piece)
        return [piece]

    def _offer_small(self, waiting: Iterator[Routable | Frame], pieces: Pieces) -> Frame | None:
        """Offer messages without content up to a frame, and return the frame.

        Returns:
            The frame; None if there are no more messages, or there is no room for more.
        """
        offer = self._offer
        form, terminator = self.form, self._terminator
        run, room = pieces.run, pieces.room
        for message in waiting:
            if isinstance(message, Frame):
                return message
            parts = message.parts(form)
            assert parts is not None
            if len(parts) == 1 and (size := len(parts[0])) <= JOIN:  # the usual case, without another method call
                run.append(parts[0])
                pieces.copied += size
                if terminator:
                    run.append(terminator)
                    size += len(terminator)
                pieces.total += size
                room -= size
            else:
                size, whole = pieces.add(parts)
                if not (whole or size):
                    return None
                if not whole:
                    offer.whole = False
                    room = 0
                else:
                    if terminator:
                        size += pieces.end(terminator)
                    room = pieces.room
            offer.messages.append(message)
            offer.sizes.append(size)
            if room <= 0:
                return None
        return None

    def _offer_frame(self, frame: Frame, pieces: Pieces) -> bool:
        """Offer a message that has a frame; return False if nothing after it can be written together with it."""
        parts = frame.parts()
        growing = frame.growing()
        if parts is None:
            self._wait_for(frame, first=pieces.empty)
            return False
        fds = frame.fds()
        if fds:
            if not pieces.empty:
                return False  # descriptors travel with the first byte of what is written
            pieces.fds = pieces.fds or fds
        size, whole = pieces.add(parts)
        if not (whole or size):
            return False
        whole = whole and not growing
        if whole and parts and self._terminator:
            size += pieces.end(self._terminator)
        offer = self._offer
        offer.messages.append(frame)
        offer.sizes.append(size)
        offer.frames = frame.offered = True
        if not whole:
            offer.whole = False
        return whole and pieces.room > 0

    def _close_gaps(self, gaps: int) -> None:
        """Remove the empty slots among the items on offer, so that they need not be passed a second time."""
        offered = self._offer.messages[self._offer.urgent :]
        for _ in range(len(offered) + gaps):
            self._items.popleft()
        self._items.extendleft(reversed(offered))
        self._gaps -= gaps

    def _skip_empty(self) -> None:
        """Remove empty slots, and BLOBs that turned out to have no form, from the front of the queue."""
        items = self._items
        while items and isinstance(frame := items[0], Frame) and not isinstance(frame.message, DropNote):
            if frame.message is None:
                items.popleft()
                self._gaps -= 1
                continue
            parts = frame.parts()
            if parts is None or len(parts):
                return
            items.popleft()
            self._begin(frame)
            self._finish(frame)
        if not self.pending:
            self._notified = False

    def _wait_for(self, frame: Frame, *, first: bool) -> None:
        """Wait for the next message, which is not ready. Order is kept, so everything after it waits too."""
        assert frame.message is not None
        if not frame.asked:  # even if it became ready after `take` checked: its callbacks have yet to run
            frame.asked = True
            frame.message.when_ready(frame.form, self._made_ready)
        self._blocked = True
        if first:
            self._notified = False

    def _grow(self, frame: Frame) -> None:
        """Take over the pieces that the message being written has gained."""
        parts = frame.parts()
        growing = frame.growing()
        assert parts is not None
        known, self._grown = self._grown, len(parts)
        self._remaining.extend(islice(parts, known, self._grown))
        if growing:
            if not self._remaining:
                assert frame.message is not None
                self._blocked = True
                self._notified = False
                frame.message.when_ready(frame.form, self._made_ready)
            return
        self._growing = None
        if self._terminator:
            self._remaining.append(self._terminator)
        if not self._remaining:
            self._started = None
            self._finish(frame)
            self._after_removal()

    # -- Progress

    def sent(self, nbytes: int, now: float) -> None:
        """Note that `nbytes` of the bytes that `take` returned were written."""
        offer = self._offer
        if nbytes:
            self.progress = now
            self.sent_bytes += nbytes
            alone = offer.alone
            if alone is not None:
                if nbytes == offer.total:
                    self._items.popleft()
                    self._finish_small(1, alone.size)
                else:
                    offer.messages.append(alone)
                    offer.sizes.append(offer.total)
                    self._sent_some(nbytes)
            elif nbytes == offer.total and offer.whole:
                self._sent_all()
            else:
                self._sent_some(nbytes)
        offer.withdraw()
        self._after_removal()

    def _sent_all(self) -> None:
        """Remove all that was on offer, because it was written."""
        offer = self._offer
        if self._started is not None:
            self._remaining.clear()
            self._finish(self._started)
            self._started = None
        if offer.frames:
            for message in offer.messages:
                self._remove_first()
                self._begin(message)
                self._finish(message)
            return
        # none of the messages had content: a flood of many small ones
        for _ in range(offer.urgent):
            if isinstance(self._urgent.popleft(), Instruction):
                self.sent_messages -= 1  # it is among those that are added below
        popleft = self._items.popleft
        for _ in range(len(offer.messages) - offer.urgent):
            popleft()
        self._finish_small(len(offer.messages), sum([message.size for message in offer.messages]))

    def _sent_some(self, nbytes: int) -> None:
        """Remove messages on offer, up to the last byte that was written."""
        if self._started is not None:
            nbytes = self._remove_written(nbytes)
            if self._remaining or self._growing is not None:
                return
            self._finish(self._started)
            self._started = None
        for message, size in zip(self._offer.messages, self._offer.sizes, strict=True):
            if not nbytes and size:
                return
            parts = message.parts() if isinstance(message, Frame) else message.parts(self.form)
            growing = isinstance(message, Frame) and message.growing()
            assert parts is not None
            self._remove_first()
            self._begin(message)
            self._grown = len(parts)
            self._remaining.extend(islice(parts, self._grown))
            if growing:
                assert isinstance(message, Frame)
                self._growing = message
            elif self._terminator and parts:
                self._remaining.append(self._terminator)
            nbytes = self._remove_written(nbytes)
            if self._remaining or growing:
                self._started = message
                return
            self._finish(message)

    def _remove_written(self, nbytes: int) -> int:
        """Remove written bytes from the started message, and return how many of them belong to later messages."""
        remaining = self._remaining
        while remaining and nbytes >= len(remaining[0]):
            nbytes -= len(remaining.popleft())
        if remaining and nbytes:
            remaining[0] = memoryview(remaining[0])[nbytes:]
            return 0
        return nbytes

    def _remove_first(self) -> None:
        """Remove the next message from its queue: an urgent one first, as long as the offer has any."""
        if self._offer.urgent:
            self._offer.urgent -= 1
            self._urgent.popleft()
        else:
            self._items.popleft()

    def pop(self) -> Routable | None:
        """Remove and return the next whole message, for a reader in this process; None if there is none."""
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

    # -- Hooks for subclasses that keep track of more

    def _begin(self, message: Routable | Frame) -> None:
        """Mark a message as started: its first byte was written, so it will be finished whatever happens."""
        if not isinstance(message, Frame):
            return
        message.started = True
        inner = message.message
        if isinstance(inner, DropNote):
            return
        assert inner is not None
        order = message.order
        order.pop(message, None)  # not there if it was set aside
        self._leave(message)
        if order and inner.blob:
            self._ask(next(iter(order)))
        if message.begun is not None:
            begun, message.begun = message.begun, None
            begun()

    def _leave(self, frame: Frame) -> None:
        """Handle a frame that no longer waits."""

    def _finish(self, message: Routable | Frame) -> None:
        """Count a message that is completely written."""
        self.queued -= message.size
        self.messages -= 1
        if not isinstance(message, Instruction):
            self.sent_messages += 1

    def _finish_small(self, count: int, size: int) -> None:
        """Count `count` messages without content, `size` bytes in all, that are completely written."""
        self.queued -= size
        self.messages -= count
        self.sent_messages += count

    def _after_removal(self) -> None:
        """Update the state after messages may have been written or forgotten."""
        if not self.pending:
            self._notified = False
        if self._was_full and self._full_at is not None and self.queued <= self._full_at // 2:
            self._was_full = False
            self.listener.on_room()

    # -- Content

    def stalled(self, now: float, timeout: float) -> bool:
        """Return whether the peer has taken nothing for `timeout` seconds although something was pending."""
        if not self.pending:
            self.progress = now
        return now - self.progress > timeout

    def waiting(self) -> Iterator[Routable]:
        """Yield all messages that have not been started, in order, for statistics."""
        for item in chain(self._urgent, self._items):
            message = item.message if isinstance(item, Frame) else item
            if message is not None and not isinstance(message, Instruction):
                yield message

    def clear(self) -> None:
        """Forget everything, because the peer is gone."""
        self._offer.withdraw()  # first, because this puts back what was set aside
        self._forget_all()
        self._after_removal()

    def _forget_all(self) -> None:
        """Empty the queue and everything that keeps track of it."""
        for queue in (self._items, self._urgent, self._remaining, self._frames):
            queue.clear()
        self._started = self._growing = None
        self.queued = self.messages = self._gaps = 0
