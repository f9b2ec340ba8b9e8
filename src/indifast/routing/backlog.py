"""What waits in the outgoing queue of one peer: the half of the queue into which messages come."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import chain

from indifast.protocol.callbacks import call_all
from indifast.protocol.message import ATTACHED, INLINE, Buffer, Form, Instruction, Routable
from indifast.routing.cutting import LARGEST_PIECE, Bypass, Cut, Packing, Piece
from indifast.routing.frames import Frame, Order
from indifast.routing.queuelistener import QueueListener

_LOW = 256 << 10  # bytes of messages without content below which a reader is no longer behind


class Backlog:
    """The messages of a queue that are not completely written, in order. Each wakes the listener if nothing else has.

    `ByteQueue` adds how they are written. It sets what is noted here of the message that is begun.

    Args:
        attached: Whether to write the form with descriptors, because the peer is on a Unix socket.
        full_at: Bytes above which the queue is `full`, for senders that can be asked to wait.
        listener: Receives the events of the queue.
    """

    def __init__(self, *, attached: bool, full_at: int | None, listener: QueueListener) -> None:
        self.listener = listener
        """Receives the events of the queue."""
        self.form: Form = ATTACHED if attached else INLINE
        """The form in which further BLOBs are written. Those that wait already keep theirs."""
        self.as_received = False
        """Whether further BLOBs that came as base64 are written as base64 although the peer takes raw ones.

        To convert them, and perhaps convert them back at the peer, takes longer than to write a third more bytes to a
        peer on the same machine.
        """
        self.queued = 0
        """Bytes of all messages that are not completely written."""
        self.small = 0
        """Bytes of messages without content that are not completely written."""
        self.messages = 0
        """Messages that are not completely written."""
        self.piece = 0
        """Bytes of content in one piece of a raw frame; 0 if frames are not cut. See `cut_frames`."""
        self.whole = 0
        """Bytes up to which a raw frame is written in one piece all the same."""
        self.progress = 0.0
        """When the peer last took a byte, or when the queue last started to fill."""
        self._full_at = full_at
        self._was_full = False
        self._when_low: dict[Callable[[], None], None] = {}
        self._when_taken: dict[Callable[[], None], None] = {}
        # What waits
        self._items: deque[Routable | Frame] = deque()
        self._urgent: deque[Routable] = deque()
        self._bypass = Bypass()
        self._packing = Packing()
        self._frames: Order = OrderedDict()  # the unstarted frames among the items that must not be dropped
        self._gaps = 0  # empty slots among the items
        self._notified = False  # the listener knows that something is pending, and something still is
        self._blocked = False  # the first item, or more of the started message, is not ready
        # What is begun
        self._started: Routable | Frame | Piece | None = None
        self._remaining: deque[Buffer] = deque()  # what is left of the started message
        self._growing: Frame | None = None  # the started message, while more of its pieces are to come
        self._cut: Cut | None = None  # the frame of which some pieces are begun, and others are not

    # -- Input

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message after the others. `begun` is called when the first byte of a BLOB message is written."""
        if message.blob:
            self._enlist(self._append_frame(message, begun), self._frames)
        else:
            size = message.size
            if self._bypass.guarded:
                self._append_small(message, now)
            else:
                self._items.append(message)
            self.queued += size
            self.small += size
        self.messages += 1
        if not self._notified:
            self._notify(now)

    def _append_frame(self, message: Routable, begun: Callable[[], None] | None) -> Frame:
        """Put a BLOB message at the end, and return it as a frame, which is not counted yet."""
        frame = Frame(message, self._form_of(message), begun)
        if self.piece:
            self._bypass.keep_behind(message.device, len(self._items))
        self._items.append(frame)
        return frame

    def _form_of(self, message: Routable) -> Form:
        """Return the form in which to write a BLOB message."""
        return INLINE if self.as_received and getattr(message, "came_inline", False) else self.form

    def _append_small(self, message: Routable, now: float) -> None:
        """Put a message without content before or behind the frames."""
        items, bypass, cut = self._items, self._bypass, self._cut
        device = message.device
        if cut is not None and cut.frame.message is not None and cut.frame.message.device == device:
            bypass.keep_behind(device, len(items))
            items.append(message)
        elif bypass.passes(device, len(items)):
            bypass.add(message)
            self._notify_urgent(now)
        else:
            items.append(message)

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message that a newer one may replace. This queue keeps it all the same."""
        self.append(message, now, begun)

    def expedite(self, message: Routable, now: float) -> None:
        """Queue a small message, the answer to a ping, ahead of all that have not been started."""
        size = message.size
        self._urgent.append(message)
        self.queued += size
        self.small += size
        self.messages += 1
        self._notify_urgent(now)

    def instruct(self, instruction: Instruction, now: float) -> None:
        """Do the same with an instruction, which does not count as sent message."""
        self.expedite(instruction, now)

    def cut_frames(self, piece: int, whole: int) -> None:
        """Write raw frames in pieces, between which messages about other devices go.

        Call this only if the peer reads pieces. A frame that is begun already stays as it is.

        Args:
            piece: Bytes of content in one piece, at most `LARGEST_PIECE`. With 0, frames are written as a whole.
            whole: Frames up to this many bytes are written as a whole all the same, because the peer is so fast.
        """
        if piece and not self.piece:
            self._close_up()
            self._bypass.look_over(self._items)
        self.piece, self.whole = min(piece, LARGEST_PIECE), whole

    def compress(self, method: str) -> None:
        """Compress the frames that are begun from now on; not if `method` is empty.

        Call this only if the peer inflates what this method compresses. Frames are compressed only if they are cut.
        """
        self._packing.method = method

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
            if (self._items or self._growing is not None or self._cut is not None) and not self._notified:
                self._tell_listener()

    def _notify_urgent(self, now: float) -> None:
        """Notify the listener of something that need not wait for the first item."""
        if not self._notified or (self._blocked and self._growing is None):
            self._notified = False
            self._notify(now, urgent=True)

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

    # -- State

    @property
    def pending(self) -> bool:
        """Whether something could be written now."""
        if self._growing is not None:
            return bool(self._remaining) or not self._blocked
        if self._remaining or self._urgent or self._bypass.messages:
            return True
        return bool((self._items or self._cut is not None) and not self._blocked)

    @property
    def starved(self) -> bool:
        """Whether a frame is begun of which the peer has taken all that a thread has compressed so far."""
        return self._cut is not None and not self._remaining and not self._cut.ready

    @property
    def full(self) -> bool:
        """Whether senders that can wait should. The listener's `on_room` is called when there is room again."""
        if self._full_at is not None and self.queued > self._full_at:
            self._was_full = True
            return True
        return False

    def when_low(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when few bytes of messages without content are left."""
        self._when_low[callback] = None

    def not_when_low(self, callback: Callable[[], None]) -> None:
        """No longer have `callback` called."""
        self._when_low.pop(callback, None)

    def when_taken(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when the peer has taken more, or is gone."""
        self._when_taken[callback] = None

    def not_when_taken(self, callback: Callable[[], None]) -> None:
        """No longer have `callback` called."""
        self._when_taken.pop(callback, None)

    def stalled(self, now: float, timeout: float) -> bool:
        """Return whether the peer has taken nothing for `timeout` seconds although something was pending."""
        if not self.pending:
            self.progress = now
        return now - self.progress > timeout

    def waiting(self) -> Iterator[Routable]:
        """Yield all messages that have not been started, in order, for statistics."""
        for item in chain(self._urgent, self._bypass.messages, self._items):
            message = item.message if isinstance(item, Frame) else item
            if message is not None and not isinstance(message, Instruction):
                yield message

    # -- Hooks for subclasses that keep track of more

    def _leave(self, frame: Frame) -> None:
        """Handle a frame that no longer waits."""

    def _after_removal(self) -> bool:
        """Update the state after messages may have been written or forgotten; return whether something is pending."""
        pending = bool(self.messages or self._items) and self.pending
        if not pending:
            self._notified = False
            # A frame that is begun is not among the items, and what is pending may wait for the rest of it.
            if not self._items and not self.messages and self._bypass.guarded:
                self._bypass.forget_frames()
        if self._was_full and self._full_at is not None and self.queued <= self._full_at // 2:
            self._was_full = False
            self.listener.on_room()
        if self._when_taken:
            callbacks, self._when_taken = self._when_taken, {}
            call_all(callbacks, self.progress)
        if self._when_low and self.small < _LOW:
            callbacks, self._when_low = self._when_low, {}
            call_all(callbacks, self.progress)
        return pending

    def _close_up(self) -> None:
        """Remove the empty slots among the items."""
        if self._gaps:
            self._items = deque(
                [item for item in self._items if not (isinstance(item, Frame) and item.message is None)]
            )
            self._gaps = 0

    def _forget_all(self) -> None:
        """Empty the queue and everything that keeps track of it."""
        for queue in (self._items, self._urgent, self._remaining, self._frames):
            queue.clear()
        self._bypass.clear()
        self._packing.clear()
        self.piece = self.whole = 0
        self._started = self._growing = self._cut = None
        self.queued = self.small = self.messages = self._gaps = 0
