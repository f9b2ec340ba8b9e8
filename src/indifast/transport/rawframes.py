"""Raw frames: BLOBs that travel as they are between two indifast programs, which have agreed on it.

The side that has connected offers it, in a processing instruction between elements. Every parser of INDI skips these,
and no server passes them on, so the offer reaches the next hop only. The other side answers with another instruction,
which the side that offers never sends: an echo is no acceptance. Raw frames follow only then, in both directions, until
the connection ends.

A raw frame is a BLOB vector whose members have attached="raw" and `len`, then their bytes, then `END_MARK`. Nothing can
tell raw bytes from elements, so whoever has lost count ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol.message import Buffer, Instruction
from indifast.transport.blobs import END_MARK, BlobMessage

if TYPE_CHECKING:
    from indifast._parser import Element, Tokenizer

OFFERED = b"indi-offer"
"""The instruction that offers what follows its name. Only the side that has connected sends it."""

ACCEPTED = b"indi-accept"
"""The instruction that accepts it. Only the side that was connected to sends it."""

OFFER = Instruction(b"<?%b raw?>" % OFFERED)
ACCEPTANCE = Instruction(b"<?%b raw?>" % ACCEPTED)

_LONG = 64 << 10  # bytes of a slice that is worth keeping the buffer that it is in
_GATHERED = 256 << 10  # bytes up to which shorter slices are copied together

NOT_AGREED = "sent a raw frame, which was not agreed on"
_LOST_COUNT = "sent a damaged BLOB vector, which raw bytes may follow"


def means_raw(instruction: bytes, name: bytes) -> bool:
    """Return whether an instruction has this name, and "raw" among its words. Others may be added in the future."""
    first, *words = instruction.split()
    return first == name and b"raw" in words


class RawFrames:
    """Reads a stream of elements and raw frames.

    Args:
        tokenizer: The tokenizer of the stream. Its `raw` is set.
        limit: The maximum size of one BLOB in bytes.
        on_refuse: Called with the element of a frame that is dropped for lack of memory, and the error.
    """

    def __init__(self, tokenizer: Tokenizer, limit: int, on_refuse: Callable[[Element, MemoryError], None]) -> None:
        tokenizer.raw = True
        self.held = 0
        """Bytes of the unfinished frame."""
        self.fault: str | None = None
        """Why the connection has to end: a sentence that begins with the name of the peer. Nothing more is read."""
        self._tokenizer = tokenizer
        self._limit = limit
        self._on_refuse = on_refuse
        self._frame: _Frame | None = None

    def read(self, data: Buffer, start: int, end: int) -> list[Element | BlobMessage]:
        """Take over `data[start:end]`, which must not change afterwards. Return what is complete now."""
        found: list[Element | BlobMessage] = []
        if self._frame is not None and self.fault is None:
            start = self._go_on(data, start, end, found)
        while start < end and self.fault is None:
            elements = self._tokenizer.feed(data, start, end)
            start = self._found(elements, data, self._tokenizer.stopped, end, found)
        return found

    def read_rest(self, elements: list[Element], data: Buffer, end: int) -> list[Element | BlobMessage]:
        """Do the same after the tokenizer has been fed, and raw frames were agreed on meanwhile."""
        found: list[Element | BlobMessage] = []
        start = self._found(elements, data, self._tokenizer.stopped, end, found)
        return found + self.read(data, start, end) if start < end else found

    def _found(
        self, elements: list[Element], data: Buffer, start: int, end: int, found: list[Element | BlobMessage]
    ) -> int:
        """Add what the tokenizer has found. Return where it is to go on: after a raw frame, if one was begun."""
        frame = elements.pop() if elements and elements[-1].raws else None
        found += elements
        if self._tokenizer.broken:
            self.fault = _LOST_COUNT
        elif frame is not None:
            self._frame = self._begun(frame)
            if self._frame is not None:
                return self._go_on(data, start, end, found)
        return start

    def _begun(self, element: Element) -> _Frame | None:
        """Return the frame that follows an element, unless that is at fault."""
        members = element.blobs
        lengths = [member.blob_length for member in members if member.raw]
        if len(lengths) != len(members) or len(lengths) != element.raws:
            self.fault = "sent a raw frame with BLOBs of another form, or without a size"
            return None
        if None in lengths:
            self.fault = "sent a raw frame without a length"
            return None
        sizes = [length for length in lengths if length is not None]
        if max(sizes, default=0) > self._limit:
            self.fault = f"sent a raw frame of {max(sizes)} bytes, more than {self._limit}"
            return None
        return _Frame(element, sizes)

    def _go_on(self, data: Buffer, start: int, end: int, found: list[Element | BlobMessage]) -> int:
        """Take the next bytes of the frame. Return where it ends, or else `end`."""
        frame = self._frame
        assert frame is not None
        start = frame.take(data, start, end)
        self.held = frame.kept
        if frame.mark is None:
            self.abandon()
            self.fault = "sent a raw frame without its end mark"
        elif not frame.mark:
            self._frame, self.held = None, 0
            if frame.pieces is not None:
                try:
                    found.append(BlobMessage.of(frame.element, [], frame.contents()))
                except MemoryError as error:
                    self._on_refuse(frame.element, error)
        return start

    def abandon(self) -> bool:
        """Drop the unfinished frame, whose further bytes are skipped. Return False if there is none."""
        if self._frame is None or self._frame.pieces is None:
            return False
        self._frame.drop()
        self.held = 0
        return True


class _Frame:
    """A raw frame that arrives."""

    def __init__(self, element: Element, lengths: Sequence[int]) -> None:
        self.element = element
        self.kept = 0
        self.pieces: list[list[Buffer]] | None = [[] for _ in lengths]
        """What has arrived of each content; None if it is to be skipped."""
        self.mark: bytes | None = END_MARK
        """What is missing of the end mark; None if something else is in its place."""
        self._missing = list(lengths)
        self._at = 0
        self._gathered = bytearray()

    def take(self, data: Buffer, start: int, end: int) -> int:
        """Take bytes up to the end of the frame, and return where that is, or else `end`."""
        while self._at < len(self._missing):
            if start == end and self._missing[self._at]:
                return end
            taken = min(end - start, self._missing[self._at])
            if self.pieces is not None:
                self._keep(self.pieces[self._at], data, start, start + taken)
            start += taken
            self._missing[self._at] -= taken
            if not self._missing[self._at]:
                self._flush()
                self._at += 1
        assert self.mark is not None
        here = bytes(memoryview(data)[start : min(end, start + len(self.mark))])
        self.mark = self.mark[len(here) :] if self.mark.startswith(here) else None
        return start + len(here)

    def _keep(self, pieces: list[Buffer], data: Buffer, start: int, end: int) -> None:
        """Keep a slice: by reference, or as a copy if it would keep a much larger buffer in memory."""
        self.kept += end - start
        if end - start >= _LONG:
            self._flush()
            pieces.append(memoryview(data)[start:end])
            return
        self._gathered += memoryview(data)[start:end]
        if len(self._gathered) >= _GATHERED:
            self._flush()

    def _flush(self) -> None:
        if self._gathered and self.pieces is not None:
            self.pieces[self._at].append(bytes(self._gathered))
            self._gathered.clear()

    def drop(self) -> None:
        """Free what has arrived, and keep no more."""
        self.pieces = None
        self.kept = 0
        self._gathered.clear()

    def contents(self) -> Sequence[Sequence[Buffer]]:
        """Return the contents, in pieces."""
        assert self.pieces is not None
        return self.pieces
