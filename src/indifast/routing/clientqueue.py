"""Outgoing queue for clients and links, and what it gives up when they read slowly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable
from indifast.routing.dropnotes import DropNote, DropNotes
from indifast.routing.frames import Frame, Property, compact
from indifast.routing.losses import LossyQueue, count
from indifast.routing.queuelistener import NOBODY, QueueListener
from indifast.routing.replacing import EPOCH_ENDS, Replaceable, Replacements

_COMPACT = 256 << 10  # bytes of messages without content beyond which further ones are kept as serialized bytes


class Outbox(LossyQueue):
    """Messages to a client or a link, with the rules for one that reads slowly.

    * Everything keeps its order.
    * While more than `limits.stream` bytes of BLOBs wait (with `newest_wins` and frames in pieces: more than the peer
      takes at once), a waiting set with streamed content (`format` contains
      "stream"; with `newest_wins`, any format) is replaced by a newer one that has content for every member the older
      one has. The newer set goes to the end of the queue. If that is replaced in turn before any of it was sent, its
      replacement takes its place, so that a property can't be put off forever. If something else about the property
      follows that place, the older frame stays as well, one per property.
    * While more than `limits.queue` bytes of BLOBs wait, the oldest is dropped, and a note to the client takes its
      place. The first thousand properties have one note each, all others share one.
    * A BLOB that was started is finished, and counts toward none of these limits. Sets without content are never
      dropped.
    * If more than `limits.small_queue` bytes of messages without content wait, `on_overflow` is called once: the peer
      can't catch up.

    Args:
        limits: The limits that these rules refer to.
        attached: See `ByteQueue`.
        terminator: See `ByteQueue`.
        newest_wins: Whether newer BLOBs of any format replace older ones, not only streamed ones.
        listener: See `ByteQueue`.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        attached: bool = False,
        terminator: bytes = b"",
        newest_wins: bool = False,
        listener: QueueListener = NOBODY,
    ) -> None:
        super().__init__(attached=attached, terminator=terminator, full_at=2 * limits.queue, listener=listener)
        self.newest_wins = newest_wins
        self.newest_wins_of: frozenset[Property] = frozenset()
        """Properties for which `newest_wins` holds, whatever the connection's setting is."""
        self.blobs = 0
        """Bytes of the waiting BLOBs that have not been started."""
        self.frames_sent: Counter[Property] = Counter()
        """Frames that were started, by property; each is finished unless the connection ends."""
        self._limits = limits
        self._overflowed = False
        self._replacements = Replacements()
        self._notes = DropNotes()

    # -- Input

    def append(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message after the others. See `ByteQueue.append`."""
        if message.blob:
            self._append_blob(message, begun)
        else:
            if self.small > _COMPACT:
                message = compact(message)
            size = message.size
            if self._bypass.guarded:
                self._append_small(message, now)
            else:
                self._items.append(message)
            self.queued += size
            self.messages += 1
            self.small += size
            if self._replacements.known and message.tag in EPOCH_ENDS:
                self._replacements.end_epoch(message)
            if self.small > self._limits.small_queue:
                self._overflow()
        if not self._notified:
            self._notify(now)

    def expedite(self, message: Routable, now: float) -> None:
        """Queue a message ahead of all that have not been started. See `ByteQueue.expedite`."""
        super().expedite(message, now)
        if self.small > self._limits.small_queue:
            self._overflow()

    def _overflow(self) -> None:
        if not self._overflowed:
            self._overflowed = True
            self.listener.on_overflow()

    # -- BLOBs

    def _append_blob(self, message: Routable, begun: Callable[[], None] | None) -> None:
        self.messages += 1
        if message.tag != "setBLOBVector":  # a command to a link is never dropped: its sender waits instead
            self._enlist(self._append_frame(message, begun), self._frames)
            return
        current = self._replacements.of(message)
        place, replaced_older = (None, False) if current is None else self._replace_older(current, message)
        if place is None:
            frame = self._append_frame(message, begun)
            if current is not None:
                current.follow()
        else:  # into the slot of the older frame
            frame = place
            frame.fill(message, begun)
            self._gaps -= 1
        frame.replaced_older = replaced_older
        self._enlist(frame, self._droppable)
        self.blobs += frame.size
        if self._may_be_replaced(message):
            self._replacements.add(frame, message)
        while self.blobs > self._limits.queue and self._drop_oldest(spare=frame):
            pass
        self._trim()

    def _may_be_replaced(self, message: Routable) -> bool:
        """Return whether newer frames of the property may replace this one."""
        if not self._limits.stream:
            return False
        if self._newest_alone(message):
            return True
        formats = message.formats
        if len(formats) == 1:  # the usual case
            return "stream" in formats[0]
        return bool(formats) and all("stream" in format for format in formats)

    def _newest_alone(self, message: Routable) -> bool:
        """Return whether only the newest frame of a property matters, whatever its format."""
        if self.newest_wins:
            return True
        return bool(self.newest_wins_of) and (message.device, message.name) in self.newest_wins_of

    def _replace_older(self, current: Replaceable, newer: Routable) -> tuple[Frame | None, bool]:
        """Give up the waiting frames that a newer message replaces.

        Returns:
            The slot for the newer message (None for the end of the queue), and whether it replaced any frame.
        """
        most = self._limits.stream
        if self.piece and self._newest_alone(newer):
            # What a slow link takes at once: so only one frame waits, and it is the newest.
            most = min(most, self.whole)
        if self.blobs + newer.size <= most:
            return None, False
        place: Frame | None = None
        replaced_older = False
        for frame in current.covered(newer.carried):
            if frame.offered:
                self._offer.set_aside(frame.alike, frame)
                continue
            followed = current.followed(frame)
            if frame.replaced_older and followed and current.kept_in_place is None:
                current.keep_in_place(frame)
                continue
            self._give_up(frame, "replaced")
            replaced_older = True
            if frame.replaced_older and not followed and place is None:
                place = frame
        return place, replaced_older

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest waiting set with content; return False if there is none besides `spare`."""
        frame = self._oldest()
        if frame is None or frame is spare:
            return False
        message = self._give_up(frame, "dropped")
        note = self._notes.count(message.device, message.name)
        if note is not None:
            frame.message = note
            self._gaps -= 1
            self.messages += 1
        return True

    # -- Output

    def frames_left(self, nbytes: int) -> float:
        """Return how many frames of `nbytes` the peer still has to take, with what is left of the one that is begun."""
        waiting = self.blobs / nbytes
        if self._cut is not None or self._growing is not None:
            return waiting + 1
        if isinstance(self._started, Frame):
            return waiting + len(self._remaining) / self._grown  # its pieces are of about the same length
        return waiting

    def _begin(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame) and (inner := message.message) is not None and inner.blob:
            count(self.frames_sent, (inner.device, inner.name))
        super()._begin(message)

    def _leave(self, frame: Frame) -> None:
        if frame.order is self._droppable:
            self.blobs -= frame.size
            if frame.replaceable is not None:
                frame.replaceable.remove(frame)

    def _finish(self, message: Routable | Frame) -> None:
        if isinstance(message, Frame) and isinstance(message.message, DropNote):
            self._notes.written(message.message)
        super()._finish(message)

    def _forget_all(self) -> None:
        for frame in self._droppable:  # it and its books refer to each other, and would wait for the garbage collector
            if frame.replaceable is not None:
                frame.replaceable.remove(frame)
        self._replacements.clear()
        self._notes.clear()
        self.blobs = 0
        self._overflowed = False  # a peer that comes back may fall too far behind again
        super()._forget_all()
