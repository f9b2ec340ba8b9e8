"""What a queue has given out to be written, and nobody has told yet how much of it was."""

from __future__ import annotations

from collections.abc import Sequence

from indifast.protocol.message import Buffer, Routable
from indifast.routing.dropnotes import DropNote
from indifast.routing.frames import Frame, Order

JOIN = 8 << 10
"""Pieces up to this size are copied together: cheaper than an entry of the scatter-gather list."""

_COPIED = 256 << 10  # bytes copied per offer at most, as what the kernel refuses is copied again


class Offer:
    """The messages that `ByteQueue.take` gave out, in order, until `sent` tells how much of them was written.

    A part may have been written already while this is not known, by a thread say. So what is offered is neither
    dropped nor replaced: frames are marked, and those who look for one to drop set it aside from their books.
    """

    __slots__ = ("_aside", "alone", "frames", "messages", "sizes", "total", "urgent", "whole")

    def __init__(self) -> None:
        self.messages: list[Routable | Frame] = []
        """Without the one that was begun before: the rest of that comes first."""
        self.sizes: list[int] = []
        """Of each message the bytes that were given out."""
        self.urgent = 0
        """So many of the messages come from the urgent ones."""
        self.total = 0
        """Bytes, of the one that was begun as well."""
        self.whole = True
        """All that is offered is offered to its end."""
        self.frames = False
        """There are frames among the messages: they keep books of their own."""
        self.alone: Routable | None = None
        """Instead of all these: the offer is this one message."""
        self._aside: list[tuple[Order, Frame]] = []

    def set_aside(self, frames: Order, frame: Frame) -> None:
        """As long as it is offered, a frame is not met again among these."""
        del frames[frame]
        self._aside.append((frames, frame))

    def withdraw(self) -> None:
        """It is known what was written; the rest waits as before."""
        self.alone = None
        self.total = 0
        if self.whole and not self.messages:
            return
        if self.frames:
            self._release_frames()
        self.messages.clear()
        self.sizes.clear()
        self.urgent = 0
        self.whole = True
        self.frames = False

    def _release_frames(self) -> None:
        for message in self.messages:
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
    """The pieces of an offer while it is made: small ones are copied together, large ones stay as they are."""

    __slots__ = ("_max_bytes", "_max_parts", "copied", "fds", "out", "run", "total")

    def __init__(self, out: list[Buffer], total: int, max_bytes: int, max_parts: int) -> None:
        """`out` has pieces of `total` bytes already."""
        self.out = out
        self.total = total
        self.run: list[Buffer] = []
        """Small ones, to be copied together."""
        self.copied = 0
        """Bytes of all small ones."""
        self.fds: Sequence[int] = ()
        """Descriptors that go with the first byte."""
        self._max_bytes = max_bytes
        self._max_parts = max_parts - 2

    @property
    def empty(self) -> bool:
        """There is nothing yet."""
        return not (self.out or self.run)

    @property
    def room(self) -> int:
        """For so many bytes of small pieces there is room, and for a last message beyond; not above 0: for none."""
        if len(self.out) >= self._max_parts:
            return 0
        return min(self._max_bytes - self.total, _COPIED - self.copied)

    def add(self, parts: Sequence[Buffer]) -> tuple[int, bool]:
        """Take over the pieces of a message as far as there is room: how many bytes that are, and whether it is all."""
        begin = self.total
        for part in parts:
            length = len(part)
            if length <= JOIN:
                self.run.append(part)
                self.copied += length
            else:
                self._join()
                if len(self.out) >= self._max_parts or self.total >= self._max_bytes:
                    return self.total - begin, False
                self.out.append(part)
            self.total += length
        return self.total - begin, True

    def end(self, terminator: bytes) -> int:
        """A message has ended; how many bytes that takes."""
        self.run.append(terminator)
        self.total += len(terminator)
        return len(terminator)

    def finish(self) -> list[Buffer]:
        """All of them."""
        self._join()
        return self.out

    def _join(self) -> None:
        if self.run:
            self.out.append(self.run[0] if len(self.run) == 1 else b"".join(self.run))
            self.run.clear()
