"""Outgoing queue for one peer: messages in, bytes out, in order and without loss.

The queue knows neither sockets nor clocks: messages come in by `append`, bytes go out by `take` and `sent`, and the
time is an argument (monotonic seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import cast

from indifast.protocol.message import RAW, Buffer, Instruction, Routable
from indifast.routing.backlog import Backlog
from indifast.routing.cutting import LARGEST_PIECE, TURN, Cut, PackedCut, Piece
from indifast.routing.dropnotes import DropNote
from indifast.routing.frames import Frame
from indifast.routing.offer import JOIN, Offer, Pieces
from indifast.routing.queuelistener import NOBODY, QueueListener

_FEW = 64  # pieces of a frame that need not be copied together


class ByteQueue(Backlog):
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
        super().__init__(attached=attached, full_at=full_at, listener=listener)
        self.sent_messages = 0
        self.sent_bytes = 0
        self._terminator = terminator
        self._grown = 0  # how many pieces of the started message were taken over, while more of them are to come
        self._offer = Offer()

    # -- Output

    def take_single(self) -> Buffer | None:
        """Do the same as `take` if nothing but one small message waits, which is the usual case; otherwise return None.

        If all of it was written, call `sent_single` before anything else is put into the queue; otherwise `sent`.
        """
        items = self._items
        if self.messages != 1 or len(items) != 1:
            return None
        message = items[0]
        if isinstance(message, Frame):
            return None
        parts = message.parts(self.form)
        assert parts is not None
        single = parts[0]
        if len(single) > JOIN or len(parts) > 1:
            return None
        if self._terminator:
            single = b"".join((single, self._terminator))
        offer = self._offer
        offer.alone = message
        offer.total = len(single)
        return single

    def sent_single(self, now: float) -> None:
        """Note that all of what `take_single` returned was written. Then nothing waits."""
        offer, bypass = self._offer, self._bypass
        self.progress = now
        self.sent_bytes += offer.total
        self.sent_messages += 1
        self.queued = self.small = self.messages = 0
        self._items.clear()
        bypass.gone += 1
        offer.alone = None
        self._notified = False
        if self._was_full or self._when_low or self._when_taken or bypass.guarded:
            self._after_removal()

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
        single = self.take_single()
        if single is not None:
            return [single], ()
        if self._growing is not None:
            self._grow(self._growing)
        if not self._remaining and self._growing is None and self._cut is None:
            if len(self._items) == 1 and not (self._urgent or self._bypass.messages):
                only = self._items[0]
                if isinstance(only, Frame):
                    offered = self._offer_frame_only(only, max_bytes, min(max_parts, _FEW))
                    if offered is not None:
                        return offered
            self._skip_empty()
        out: list[Buffer] = []
        for part in islice(self._remaining, max_parts):
            if offer.total >= max_bytes and len(part) > JOIN:  # the end of a frame goes with what is before it
                break
            out.append(part)
            offer.total += len(part)
        if offer.total >= max_bytes or len(out) >= max_parts or self._growing is not None:
            offer.whole = len(out) == len(self._remaining) and self._growing is None
            return out, ()
        pieces = Pieces(out, offer.total, max_bytes, max_parts)
        gaps = self._offer_items(pieces) if self._cut is None else self._offer_between(self._cut, pieces)
        offer.total = pieces.total
        if gaps:
            self._close_gaps(gaps)
        return pieces.finish(), pieces.fds

    def _offer_items(self, pieces: Pieces) -> int:
        """Offer what waits, in order; return how many empty slots were passed."""
        offer, items, bypass = self._offer, self._items, self._bypass
        if not bypass.messages:
            gaps = self._offer_in_order(chain(self._urgent, items), pieces)
            offer.urgent = min(len(self._urgent), len(offer.messages))
            return gaps
        front = bypass.front
        self._offer_in_order(chain(self._urgent, islice(items, front)), pieces)
        offer.urgent = min(len(self._urgent), len(offer.messages))
        if not self._has_room(len(self._urgent) + front, pieces):
            return 0
        if bypass.passed >= TURN and front < len(items):
            first = items[front]
            offered = len(offer.messages)
            if isinstance(first, Frame) and self._may_go_first(first):
                self._offer_frame(first, pieces)
            if len(offer.messages) > offered:  # otherwise it waits for a thread
                return 0
        self._offer_passing(pieces)
        if not self._has_room(len(self._urgent) + front + len(bypass.messages), pieces):
            return 0
        return self._offer_in_order(islice(items, front, None), pieces)

    def _may_go_first(self, frame: Frame) -> bool:
        """Return whether the next frame could be written before the messages that pass frames."""
        message = frame.message
        return message is not None and not self._bypass.holds(message.device) and frame.parts() is not None

    def _has_room(self, offered: int, pieces: Pieces) -> bool:
        """Return whether so many messages are on offer, all of them, and there is room for more."""
        return len(self._offer.messages) == offered and self._offer.whole and pieces.room > 0

    def _offer_in_order(self, waiting: Iterator[Routable | Frame], pieces: Pieces) -> int:
        """Offer messages and frames; return how many empty slots were passed."""
        gaps = 0
        while (frame := self._offer_small(waiting, pieces)) is not None:
            if frame.message is None:
                gaps += 1
            elif not self._offer_frame(frame, pieces):
                break
        return gaps

    def _offer_passing(self, pieces: Pieces) -> None:
        """Offer the messages that pass frames."""
        offer = self._offer
        before = len(offer.messages)
        self._offer_small(iter(self._bypass.messages), pieces)
        offer.passing = len(offer.messages) - before
        offer.before = max(0, before - len(self._urgent))

    def _offer_between(self, cut: Cut, pieces: Pieces) -> int:
        """Offer the next pieces of the frame that is begun, and before them what may go between two pieces."""
        offer = self._offer
        self._offer_small(iter(self._urgent), pieces)
        offer.urgent = len(offer.messages)
        bypass = self._bypass
        if bypass.messages and (bypass.passed < TURN or not cut.ready) and offer.whole and pieces.room > 0:
            self._offer_passing(pieces)
        if offer.whole and pieces.room > 0:
            self._offer_pieces(cut, pieces)
        return 0

    def _offer_pieces(self, cut: Cut, pieces: Pieces) -> None:
        offer = self._offer
        piece = None
        while piece is None or not piece.last:
            following = cut.next(self.piece or LARGEST_PIECE, piece)
            if following is None:
                if piece is None:
                    self._wait(cut.when_more, first=pieces.empty)
                return
            piece = following
            self._blocked = False
            size, whole = pieces.add(piece.parts)
            if not (whole or size):
                return
            offer.messages.append(piece)
            offer.sizes.append(size)
            offer.frames = cut.frame.offered = True
            if not whole:
                offer.whole = False
            if not whole or pieces.room <= 0:
                return

    def _offer_frame_only(
        self, frame: Frame, max_bytes: int, max_parts: int
    ) -> tuple[list[Buffer], Sequence[int]] | None:
        """Offer a frame that is alone in the queue, in its own pieces. This shortcut suits clients that keep up.

        Returns:
            What `take` returns; None if the frame is not ready, too large, or to be cut, and needs more than this.
        """
        parts = frame.parts()
        if not parts or len(parts) >= max_parts or frame.growing() or (frame.form == RAW and self.piece):
            return None
        out = [*parts, self._terminator] if self._terminator else list(parts)
        total = sum(map(len, out))
        if total > max_bytes:
            return None
        offer = self._offer
        offer.total = total
        offer.messages.append(frame)
        offer.sizes.append(total)
        offer.frames = frame.offered = True
        return out, frame.fds()

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
        elif self.piece and frame.form == RAW and len(parts) > 2:
            packed = self._packing.of(frame)
            if packed is not None and packed.worth is None:
                self._wait(packed.when_more, first=pieces.empty)
                return False
            if packed is not None or sum(map(len, parts)) > max(self.piece, self.whole):
                terminator = self._terminator
                cut = (
                    PackedCut(frame, packed, parts, terminator) if packed is not None else Cut(frame, parts, terminator)
                )
                self._offer_pieces(cut, pieces)
                return False
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
        offer = self._offer
        offered: list[Routable | Frame] = []
        for message in chain(
            islice(offer.messages, offer.urgent, offer.urgent + offer.before),
            islice(offer.messages, offer.urgent + offer.before + offer.passing, None),
        ):
            if not isinstance(message, Piece):
                offered.append(message)
            elif message.first:
                offered.append(message.cut.frame)
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
                self._bypass.gone += 1
                self._gaps -= 1
                continue
            parts = frame.parts()
            if parts is None or len(parts):
                return
            items.popleft()
            self._bypass.gone += 1
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
        self._block(first=first)

    def _wait(self, when_more: Callable[[Callable[[], None]], None], *, first: bool) -> None:
        """Do the same until there is more of what is compressed."""
        when_more(self._made_ready)
        self._block(first=first)

    def _block(self, *, first: bool) -> None:
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
        frame.let_go()
        if self._terminator:
            self._remaining.append(self._terminator)
        if not self._remaining:
            self._started = None
            self._finish(frame)
            self._after_removal()

    # -- Progress

    def sent(self, nbytes: int, now: float) -> bool:
        """Note that `nbytes` of the bytes that `take` returned were written; return whether something is pending."""
        offer = self._offer
        alone = offer.alone
        if nbytes:
            self.progress = now
            self.sent_bytes += nbytes
            if alone is not None:
                if nbytes == offer.total:
                    offer.alone = None
                    self._items.popleft()
                    self._bypass.gone += 1
                    self._finish_small(1, alone.size)
                    return self._after_removal()
                offer.messages.append(alone)
                offer.sizes.append(offer.total)
                self._sent_some(nbytes)
            elif nbytes == offer.total and offer.whole:
                self._sent_all()
            else:
                self._sent_some(nbytes)
        offer.withdraw()
        return self._after_removal()

    def _sent_all(self) -> None:
        """Remove all that was on offer, because it was written."""
        offer = self._offer
        if self._started is not None:
            self._remaining.clear()
            self._end_started(self._started)
            self._started = None
        if offer.frames:
            for message in offer.messages:
                self._start_first(message)
                self._end_started(message)
            return
        # none of the messages had content: a flood of many small ones
        for _ in range(offer.urgent):
            if isinstance(self._urgent.popleft(), Instruction):
                self.sent_messages -= 1  # it is among those that are added below
        if offer.passing:
            self._bypass.passed += sum([self._bypass.messages.popleft().size for _ in range(offer.passing)])
        items = len(offer.messages) - offer.urgent - offer.passing
        self._bypass.gone += items
        popleft = self._items.popleft
        for _ in range(items):
            popleft()
        messages = cast("list[Routable]", offer.messages)
        self._finish_small(len(messages), sum([message.size for message in messages]))

    def _sent_some(self, nbytes: int) -> None:
        """Remove messages on offer, up to the last byte that was written."""
        if self._started is not None:
            nbytes = self._remove_written(nbytes)
            if self._remaining or self._growing is not None:
                return
            self._end_started(self._started)
            self._started = None
        for message, size in zip(self._offer.messages, self._offer.sizes, strict=True):
            if not nbytes and size:
                return
            growing = False
            parts: Sequence[Buffer] | None
            if isinstance(message, Frame):
                parts = message.parts()
                growing = message.growing()
            else:
                parts = message.parts if isinstance(message, Piece) else message.parts(self.form)
            assert parts is not None
            self._start_first(message)
            self._grown = len(parts)
            self._remaining.extend(islice(parts, self._grown))
            if growing:
                assert isinstance(message, Frame)
                self._growing = message
            else:
                if isinstance(message, Frame):
                    message.let_go()
                if self._terminator and parts and not isinstance(message, Piece):
                    self._remaining.append(self._terminator)
            nbytes = self._remove_written(nbytes)
            if self._remaining or growing:
                self._started = message
                return
            self._end_started(message)

    def _remove_written(self, nbytes: int) -> int:
        """Remove written bytes from the started message, and return how many of them belong to later messages."""
        remaining = self._remaining
        while remaining and nbytes >= len(remaining[0]):
            nbytes -= len(remaining.popleft())
        if remaining and nbytes:
            remaining[0] = memoryview(remaining[0])[nbytes:]
            return 0
        return nbytes

    def _start_first(self, message: Routable | Frame | Piece) -> None:
        """Note that the next message on offer is started, and remove it from the place where it has waited."""
        offer = self._offer
        if isinstance(message, Piece):
            self._start_piece(message)
            return
        if offer.urgent:
            offer.urgent -= 1
            self._urgent.popleft()
        elif offer.passing and not offer.before:
            offer.passing -= 1
            self._bypass.passed += self._bypass.messages.popleft().size
        else:
            if offer.before:
                offer.before -= 1
            self._items.popleft()
            self._bypass.gone += 1
        self._begin(message)

    def _start_piece(self, piece: Piece) -> None:
        cut = piece.cut
        if piece.first:
            self._items.popleft()
            self._bypass.gone += 1
            self._begin(cut.frame)
        cut.begun(piece)
        self._cut = None if piece.last else cut
        self._bypass.passed = 0

    def _end_started(self, message: Routable | Frame | Piece) -> None:
        """Note that a started message, or piece, is completely written."""
        if not isinstance(message, Piece):
            self._finish(message)
        elif message.last:
            self._finish(message.cut.frame)

    def pop(self) -> Routable | None:
        """Remove and return the next whole message, for a reader in this process; None if there is none."""
        urgent, items, bypass = self._urgent, self._items, self._bypass
        while urgent or items or bypass.messages:
            item: Routable | Frame
            if urgent:
                item = urgent.popleft()
            elif bypass.messages and not (items and bypass.front):
                item = bypass.messages.popleft()
            else:
                item = items.popleft()
                bypass.gone += 1
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
        self._bypass.passed = 0
        self._packing.begun(message)
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

    def _finish(self, message: Routable | Frame) -> None:
        """Count a message that is completely written."""
        size = message.size
        self.queued -= size
        if not isinstance(message, Frame):
            self.small -= size
        self.messages -= 1
        if not isinstance(message, Instruction):
            self.sent_messages += 1

    def _finish_small(self, count: int, size: int) -> None:
        """Count `count` messages without content, `size` bytes in all, that are completely written."""
        self.queued -= size
        self.small -= size
        self.messages -= count
        self.sent_messages += count

    # -- The end

    def clear(self) -> None:
        """Forget everything, because the peer is gone. Whether frames are cut is agreed on anew with the next one."""
        self._offer.withdraw()  # first, because this puts back what was set aside
        self._forget_all()
        self._after_removal()
