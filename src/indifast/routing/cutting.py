"""Frames that are written in pieces, and the messages about other devices that go between these.

A frame of a few megabytes occupies a slow link for seconds. In pieces, it lets small messages pass, unless they belong
to a device whose frames wait before them: a picture and what is said about it later keep their order.

Pieces may be compressed, if a slow link is worth the work. A thread does that, block by block, once for all receivers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from indifast.protocol import wire
from indifast.protocol.message import Buffer, Routable
from indifast.routing.frames import Frame, Property
from indifast.routing.packed import Packed

LARGEST_PIECE = 256 << 10
"""Bytes of the largest piece. Receivers accept no larger ones."""

TURN = 64 << 10
"""Bytes of messages that pass a frame before its next piece has its turn."""

RETRY = 16
"""Frames of a property after which it is tried again whether they shrink."""

_MIN_KEPT = 64  # devices that stay known although their frames may have left


class Packing:
    """Which frames of a queue are compressed, and by which method."""

    __slots__ = ("_reluctant", "method")

    def __init__(self) -> None:
        self.method = ""
        """The method for frames that are begun from now on; empty if they are sent as they are."""
        self._reluctant: dict[Property, int] = {}  # what does not shrink, and after how many frames to try again

    def of(self, frame: Frame) -> Packed | None:
        """Return a frame whose raw form is ready as it is compressed; None if it is to be sent as it is."""
        message = frame.message
        if not self.method or message is None or (message.device, message.name) in self._reluctant:
            return None
        packed = frame.packed(self.method)
        if packed is not None and packed.worth is False:
            if len(self._reluctant) >= _MIN_KEPT:
                self._reluctant.clear()
            self._reluctant[message.device, message.name] = RETRY
            return None
        return packed

    def begun(self, frame: Frame) -> None:
        """Count a frame that is begun."""
        if self._reluctant and (message := frame.message) is not None:
            key = (message.device, message.name)
            left = self._reluctant.get(key, 0)
            if left > 1:
                self._reluctant[key] = left - 1
            elif left:
                del self._reluctant[key]

    def clear(self) -> None:
        """Forget everything: there will be another peer."""
        self.method = ""
        self._reluctant.clear()


class _Place(NamedTuple):
    """A place in the content of a frame."""

    part: int
    offset: int


class Piece:
    """One piece of a frame: what is written at once, from the first byte to the last."""

    __slots__ = ("cut", "first", "last", "next", "number", "parts")

    def __init__(self, cut: Cut, number: int, parts: Sequence[Buffer], following: _Place, *, last: bool) -> None:
        self.cut = cut
        self.number = number
        self.parts = parts
        self.next = following
        """Where the next piece begins."""
        self.first = number == 1
        self.last = last


class Cut:
    """A frame that is written in pieces, from some place on.

    Args:
        frame: The frame.
        parts: The frame as it would be written as a whole: the XML, the content, and the end mark.
        terminator: What follows the frame.
    """

    __slots__ = ("_end", "_envelope", "_number", "_parts", "_place", "frame")

    def __init__(self, frame: Frame, parts: Sequence[Buffer], terminator: bytes) -> None:
        self.frame = frame
        self._envelope = parts[0]
        self._parts = parts[1:-1]
        self._end = (parts[-1], terminator) if terminator else (parts[-1],)
        self._place = _Place(0, 0)
        self._number = 0

    @property
    def ready(self) -> bool:
        """Whether there is a next piece, after those that were begun."""
        return True

    def begun(self, piece: Piece) -> None:
        """Note that a byte of a piece was written: it will be finished, and the next piece follows it."""
        self._place = piece.next
        self._number = piece.number

    def next(self, size: int, before: Piece | None = None) -> Piece | None:
        """Return the next piece; None if there is none yet.

        Args:
            size: Bytes in it at most.
            before: The piece after which it comes; None for the last one that was begun.
        """
        number, (part, offset) = (self._number, self._place) if before is None else (before.number, before.next)
        number += 1
        content: list[Buffer] = []
        left = size
        while left and part < len(self._parts):
            source = self._parts[part]
            taken = min(left, len(source) - offset)
            content.append(source if taken == len(source) else memoryview(source)[offset : offset + taken])
            left -= taken
            offset += taken
            if offset == len(source):
                part, offset = part + 1, 0
        last = part == len(self._parts)
        return self._piece(number, wire.piece_head(number, size - left), content, _Place(part, offset), last=last)

    def when_more(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when there may be a next piece, after there was none."""

    def _piece(self, number: int, head: bytes, content: Sequence[Buffer], following: _Place, *, last: bool) -> Piece:
        parts = [b"".join((wire.PIECES_FOLLOW, self._envelope, head)) if number == 1 else head, *content]
        if last:
            parts += self._end
        return Piece(self, number, parts, following, last=last)


class PackedCut(Cut):
    """A frame that is compressed and written in pieces.

    A block that is longer than a piece takes several of them.

    Args:
        frame: The frame.
        packed: Its content.
        parts: The frame as it would be written as a whole.
        terminator: What follows the frame.
    """

    __slots__ = ("_packed",)

    def __init__(self, frame: Frame, packed: Packed, parts: Sequence[Buffer], terminator: bytes) -> None:
        super().__init__(frame, parts, terminator)
        self._packed = packed

    @property
    def ready(self) -> bool:
        """See `Cut.ready`."""
        return self._packed.block(self._place.part) is not None

    def next(self, size: int, before: Piece | None = None) -> Piece | None:
        """Return the next piece; None if it is still being compressed. See `Cut.next`."""
        number, (at, offset) = (self._number, self._place) if before is None else (before.number, before.next)
        block = self._packed.block(at)
        if block is None:
            return None
        number += 1
        end = min(offset + size, len(block.data))
        complete = end == len(block.data)
        if not block.method:
            head = wire.piece_head(number, end - offset)
        elif complete:
            head = wire.packed_head(number, end - offset, block.method, block.width, block.size)
        else:
            head = wire.beginning_head(number, end - offset)
        content = block.data if complete and not offset else memoryview(block.data)[offset:end]
        following = _Place(at + 1, 0) if complete else _Place(at, end)
        return self._piece(number, head, [content], following, last=following.part == self._packed.count)

    def when_more(self, callback: Callable[[], None]) -> None:
        """See `Cut.when_more`."""
        self._packed.when_more(callback)


class Bypass:
    """The messages that may pass the frames of a queue.

    A message passes only if nothing about its device is in the queue at or behind a frame. For each device with frames,
    the place of its last item is known. Places count from the first item that the queue ever had. A message without a
    device, such as a request for all definitions, passes nothing, and nothing passes it.
    """

    __slots__ = ("_added", "_first", "_kept", "_newest", "gone", "guarded", "messages", "passed")

    def __init__(self) -> None:
        self.messages: deque[Routable] = deque()
        """The messages, in order."""
        self.passed = 0
        """Bytes of messages that were written since a frame, or a piece, was begun."""
        self.gone = 0
        """Items that have left the queue."""
        self._added = 0  # how many messages there ever were
        self._newest: dict[str | None, int] = {}  # by device, which of these is the newest
        self._first = 0  # the place of the first frame
        self.guarded: dict[str | None, int] = {}
        """The place of the last item of each device with frames; empty if no frames are in the queue."""
        self._kept = _MIN_KEPT

    @property
    def front(self) -> int:
        """How many items were in the queue before the first frame: these come before the messages."""
        return max(0, self._first - self.gone)

    def keep_behind(self, device: str | None, index: int) -> None:
        """Let no message of a device pass the item at this index, which is a frame."""
        if not self.guarded:
            self._first = self.gone + index
        self.guarded[device] = self.gone + index
        if len(self.guarded) > self._kept:
            self.guarded = {device: place for device, place in self.guarded.items() if place >= self.gone}
            self._kept = _MIN_KEPT + 2 * len(self.guarded)

    def passes(self, device: str | None, index: int) -> bool:
        """Return whether a message may pass. If not, it becomes the item at this index."""
        if device is not None and max(self.guarded.get(device, -1), self.guarded.get(None, -1)) < self.gone:
            return True
        self.guarded[device] = self.gone + index
        return False

    def add(self, message: Routable) -> None:
        """Add a message that may pass."""
        messages, newest = self.messages, self._newest
        if len(newest) > _MIN_KEPT + 2 * len(messages):
            left = self._added - len(messages)
            self._newest = newest = {device: number for device, number in newest.items() if number > left}
        messages.append(message)
        self._added += 1
        newest[message.device] = self._added

    def holds(self, device: str | None) -> bool:
        """Return whether a message of a device is among those that may pass: its next frame has to wait for that."""
        return self._newest.get(device, 0) > self._added - len(self.messages)

    def look_over(self, items: Iterable[Routable | Frame]) -> None:
        """Take note of the items of a queue, which keep their places."""
        for index, item in enumerate(items):
            if not isinstance(item, Frame):
                if self.guarded:
                    self.guarded[item.device] = self.gone + index
            elif item.message is not None:
                self.keep_behind(item.message.device, index)

    def forget_frames(self) -> None:
        """Note that there are neither frames nor other messages in the queue."""
        self.guarded.clear()
        self._newest.clear()
        self._kept = _MIN_KEPT

    def clear(self) -> None:
        """Forget everything."""
        self.messages.clear()
        self.passed = 0
        self.forget_frames()
