"""What a queue has offered to be written, until it knows how much of it was written."""

from __future__ import annotations

from collections.abc import Sequence

from indifast.protocol.message import Buffer, Routable
from indifast.routing.cutting import Piece
from indifast.routing.dropnotes import DropNote
from indifast.routing.frames import Frame, Order

JOIN = 8 << 10
"""Pieces up to this size are copied together, which is cheaper than an entry in the scatter-gather list."""

_MAX_COPIED = 256 << 10  # bytes copied per offer: what the kernel does not accept is copied again next time


class Offer:
    """The messages that `ByteQueue.take` returned, in order, until `sent` says how much of them was written.

    Some of it may have been written in the meantime, by a thread for example, so it counts as started. Messages on
    offer are neither dropped nor replaced: frames are marked, and a search for a frame to drop sets marked ones aside.
    """

    __slots__ = ("_aside", "alone", "before", "frames", "messages", "passing", "sizes", "total", "urgent", "whole")

    def __init__(self) -> None:
        self.messages: list[Routable | Frame | Piece] = []
        """The messages, and pieces of frames, without one that was started before: what is left of that comes first."""
        self.sizes: list[int] = []
        """Bytes on offer of each message."""
        self.urgent = 0
        """How many of the messages are urgent ones. They come first."""
        self.before = 0
        """If some are `passing`: how many come before those, after the urgent ones."""
        self.passing = 0
        """How many of the messages pass frames that wait, or go between two pieces of a frame."""
        self.total = 0
        """Bytes on offer, including those of the message that was started before."""
        self.whole = True
        """Whether every message on offer is complete."""
        self.frames = False
        """Whether there are frames among the messages. They need more bookkeeping."""
        self.alone: Routable | None = None
        """The only message on offer; `messages` and `sizes` are empty then."""
        self._aside: list[tuple[Order, Frame]] = []

    def set_aside(self, frames: Order, frame: Frame) -> None:
        """Take a frame out of these frames for as long as it is on offer, so that no search finds it again."""
        del frames[frame]
        self._aside.append((frames, frame))

    def withdraw(self) -> None:
        """End the offer: the queue knows what was written, and everything else waits as before."""
        self.alone = None
        self.total = 0
        if self.whole and not self.messages:
            return
        if self.frames:
            self._release_frames()
        self.messages.clear()
        self.sizes.clear()
        self.urgent = self.before = self.passing = 0
        self.whole = True
        self.frames = False

    def _release_frames(self) -> None:
        for offered in self.messages:
            message = offered.cut.frame if isinstance(offered, Piece) else offered
            if isinstance(message, Frame):
                message.offered = False
                if not message.started and isinstance(message.message, DropNote):
                    message.message.reopen()
        for frames, frame in reversed(self._aside):
            if not frame.started:
                frames[frame] = None
                frames.move_to_end(frame, last=False)
        self._aside.clear()


class Pieces:
    """The pieces of an offer that is being made: small ones are copied together, large ones stay as they are."""

    __slots__ = ("_max_bytes", "_max_parts", "copied", "fds", "out", "run", "total")

    def __init__(self, out: list[Buffer], total: int, max_bytes: int, max_parts: int) -> None:
        """Start with pieces that are on offer already.

        Args:
            out: Those pieces.
            total: Their size in bytes.
            max_bytes: Bytes to offer in all. The last piece may exceed this.
            max_parts: Pieces to offer in all.
        """
        self.out = out
        self.total = total
        self.run: list[Buffer] = []
        """Small pieces to be copied together."""
        self.copied = 0
        """Bytes of all small pieces."""
        self.fds: Sequence[int] = ()
        """Descriptors that go with the first byte."""
        self._max_bytes = max_bytes
        self._max_parts = max_parts - 2

    @property
    def empty(self) -> bool:
        """Whether there are no pieces yet."""
        return not (self.out or self.run)

    @property
    def room(self) -> int:
        """Bytes of small pieces that still fit, although the last message may exceed them; 0 or less if none fit."""
        if len(self.out) >= self._max_parts:
            return 0
        return min(self._max_bytes - self.total, _MAX_COPIED - self.copied)

    def add(self, parts: Sequence[Buffer]) -> tuple[int, bool]:
        """Add the pieces of a message as far as there is room.

        Returns:
            How many bytes were added, and whether they are all of the message.
        """
        begin = self.total
        for part in parts:
            length = len(part)
            if length <= JOIN:
                self.run.append(part)
                self.copied += length
            else:
                if self.run:
                    self._join()
                if len(self.out) >= self._max_parts or self.total >= self._max_bytes:
                    return self.total - begin, False
                self.out.append(part)
            self.total += length
        return self.total - begin, True

    def end(self, terminator: bytes) -> int:
        """Add the terminator of a message, and return its length."""
        self.run.append(terminator)
        self.total += len(terminator)
        return len(terminator)

    def finish(self) -> list[Buffer]:
        """Return all pieces."""
        if self.run:
            self._join()
        return self.out

    def _join(self) -> None:
        self.out.append(self.run[0] if len(self.run) == 1 else b"".join(self.run))
        self.run.clear()
