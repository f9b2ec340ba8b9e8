"""Raw frames: BLOBs that travel as they are between two indifast programs, which have agreed on it.

The side that has connected offers it, in a processing instruction between elements. Every parser of INDI skips these,
and no server passes them on, so the offer reaches the next hop only. The other side answers with another instruction,
which the side that offers never sends: an echo is no acceptance. Raw frames follow only then, in both directions, until
the connection ends.

A raw frame is a BLOB vector whose members have attached="raw" and `len`, then their bytes, then `END_MARK`. Nothing can
tell raw bytes from elements, so whoever has lost count ends the connection.

If both sides want that as well, the bytes may come in numbered pieces, with elements between them. An instruction
before the vector says so, and one before each piece says how long it is. `indifast.routing.cutting` writes them. Pieces
may be compressed, by methods that both sides have named. They come in blocks, each of which can be inflated by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from indifast._parser import Arrival, BlockPool
from indifast.compression import METHODS, WIDTHS, CompressionError, Decompressor, prepared
from indifast.protocol import wire
from indifast.protocol.message import Buffer, Instruction
from indifast.routing.cutting import LARGEST_PIECE
from indifast.transport.blobs import END_MARK, BlobMessage

if TYPE_CHECKING:
    from indifast._parser import Element, Tokenizer
    from indifast.transport.timers import CallLater, Timer

OFFERED = b"indi-offer"
"""The instruction that offers what follows its name. Only the side that has connected sends it."""

ACCEPTED = b"indi-accept"
"""The instruction that accepts it. Only the side that was connected to sends it."""

RAW_WORD, PIECES_WORD = b"raw", b"pieces"
"""What is offered and accepted: raw frames; raw frames in pieces."""


def offer(methods: Sequence[str] = ()) -> Instruction:
    """Return the instruction that offers raw frames, in pieces, compressed by any of these methods."""
    return _instruction(OFFERED, Agreement(pieces=True, methods=tuple(methods)))


def _instruction(name: bytes, agreed: Agreement) -> Instruction:
    words = [name, RAW_WORD] + [PIECES_WORD] * agreed.pieces + [method.encode() for method in agreed.methods]
    return Instruction(b"<?%b?>" % b" ".join(words))


AT_ONCE = 16 << 20
"""Bytes of compressed frames that are inflated before others get their turn: a few kilobytes may be gigabytes."""

_PIECES_FOLLOW, _PIECE = b"indi-pieces", b"indi-piece"

_LONG = 64 << 10  # bytes of a slice that is worth keeping the buffer that it is in
_GATHERED = 256 << 10  # bytes up to which shorter slices are copied together
_SPARE_SIZES = range(1 << 20, (64 << 20) + 1)  # bytes of contents whose memory may be used again
_MOST_SPARE = 2  # one is with the program, while the next one arrives
_REST = 1.0  # seconds without frames after which that memory is given back
_LOADING = 0.01  # seconds
_UNKNOWN = "?"  # the method of a block that is not complete
_NEARLY_WHOLE = LARGEST_PIECE // 4 * 3  # bytes of a block that is worth memory for the largest one

NOT_AGREED = "sent a raw frame, which was not agreed on"
_LOST_COUNT = "sent a damaged BLOB vector, which raw bytes may follow"
_UNFINISHED = "sent a raw frame before it had finished another one"
_NO_PIECE = "sent a piece of a raw frame that is not the next one"
_DAMAGED = "sent a piece of a raw frame that can't be inflated ({})"

_pool = BlockPool(LARGEST_PIECE, 48)  # memory that blocks are inflated into


class Agreement(NamedTuple):
    """What the two sides of a connection have agreed on."""

    pieces: bool
    """Whether raw frames may come in pieces."""
    methods: tuple[str, ...] = ()
    """The methods by which pieces may be compressed, fastest first."""

    @property
    def acceptance(self) -> Instruction:
        """The instruction by which an offer is accepted."""
        return _instruction(ACCEPTED, self)


OFFER, ACCEPTANCE = offer(), Agreement(pieces=True).acceptance


def agreement(instruction: bytes, name: bytes, methods: Callable[[], Collection[str]] = tuple) -> Agreement | None:
    """Return what is agreed on by an instruction with this name; None if it does not mean raw frames.

    Words that are not known may be added in the future.

    Args:
        instruction: What the other side has said.
        name: `OFFERED` or `ACCEPTED`.
        methods: Returns the methods of compression that this side allows. Called only if the other side names any.
    """
    first, *words = instruction.split()
    if first != name or RAW_WORD not in words:
        return None
    if PIECES_WORD not in words:
        return Agreement(pieces=False)
    named = [method for method in METHODS if method.encode() in words]
    allowed = methods() if named else ()
    return Agreement(pieces=True, methods=tuple(method for method in named if method in allowed))


class _Head(NamedTuple):
    """What stands before a piece."""

    length: int
    method: str = ""
    """How the block is compressed that the piece completes; empty if it is not."""
    width: int = 1
    size: int = 0
    """The content of the block; 0 if it is not complete with this piece."""


class RawFrames:
    """Reads a stream of elements and raw frames.

    Args:
        tokenizer: The tokenizer of the stream. Its `raw` is set.
        limit: The maximum size of one BLOB in bytes.
        on_refuse: Called with the element of a frame that is dropped for lack of memory, and the error.
        pieces: Whether frames may come in pieces. If so, `on_instruction` of the tokenizer is set.
        methods: The methods by which pieces may be compressed.
        most: The bytes that an unfinished frame may take in memory.
        whole: Whether long contents become one `bytes` object each, for those who read them. Otherwise they stay in the
            pieces in which they came, for those who pass them on.
        on_outgrown: Called when inflating the next block would exceed that. It has to `abandon` the frame.
        call_later: The `call_later` of the event loop.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        limit: int,
        on_refuse: Callable[[Element, MemoryError], None],
        *,
        pieces: bool = False,
        methods: Collection[str] = (),
        most: int,
        whole: bool,
        on_outgrown: Callable[[int], None],
        call_later: CallLater,
    ) -> None:
        tokenizer.raw = True
        tokenizer.on_instruction = self._instructed if pieces else None
        self.held = 0
        """Bytes of the unfinished frame."""
        self.fault: str | None = None
        """Why the connection has to end: a sentence that begins with the name of the peer. Nothing more is read."""
        self._tokenizer = tokenizer
        self._limit = limit
        self._on_refuse = on_refuse
        self._frame: _Frame | None = None
        self._in_pieces = False  # the next frame comes in pieces, or the unfinished one does
        self._piece = 0  # the number of the newest piece of the unfinished frame
        self._left = 0  # bytes of that piece which are still to come
        self._head = _Head(0)  # of that piece
        self._block = bytearray()  # the compressed block, as far as it has come
        self._methods = methods
        self._decompressors: dict[tuple[str, int], Decompressor] = {}
        self._most = most
        self._whole = whole
        self._on_outgrown = on_outgrown
        self._call_later = call_later
        self._spares: list[bytes] = []  # the newest contents: once nobody has them, others may take their place
        self._fresh = False  # whether there was one since the timer was set
        self._resting: Timer | None = None
        self._inflated = 0  # bytes, by this call of `read`
        self._loading = False  # what comes next has to wait for NumPy
        self._unread: tuple[Buffer, int, int] | None = None

    def read(self, data: Buffer, start: int, end: int) -> list[Element | BlobMessage]:
        """Take over `data[start:end]`, which must not change afterwards. Return what is complete now.

        What inflates to much more than `AT_ONCE` is left for the next call, which may be without data: see `unread`.
        """
        found: list[Element | BlobMessage] = []
        self._inflated = 0
        if self._unread is not None:
            unread, self._unread = self._unread, None
            self._read(*unread, found, all_of_it=start < end)
            if self._unread is not None:  # only NumPy can be the reason, if there is more
                earlier, begin, stop = self._unread
                data = b"".join((memoryview(earlier)[begin:stop], memoryview(data)[start:end]))
                self._unread = data, 0, len(data)
                return found
        self._read(data, start, end, found)
        return found

    @property
    def unread(self) -> bool:
        """Whether something is left for the next call of `read`, which may be without data."""
        return self._unread is not None and self.fault is None

    @property
    def again_after(self) -> float:
        """Seconds after which to read that: while NumPy is loaded, by a thread, there is no use in trying at once."""
        return _LOADING if self._loading else 0.0

    def target(self) -> memoryview | None:
        """Return the memory that the next bytes of the stream belong in, so that they need not be copied there.

        Release it before you call `arrived`, or anything else. None: `read` the bytes from where they are.
        """
        frame = self._frame
        if frame is None or self._unread is not None or (self._in_pieces and (self._head.method or not self._left)):
            return None
        target = frame.target()
        if target is None or not self._in_pieces:
            return target
        return target[: self._left] if self._left >= _LONG else None

    def arrived(self, nbytes: int) -> None:
        """Take note of bytes that were written to the beginning of what `target` has returned."""
        frame = self._frame
        assert frame is not None
        frame.arrived(nbytes)
        if self._in_pieces:
            self._left -= nbytes
        self.held = frame.kept

    def _read(
        self,
        data: Buffer,
        start: int,
        end: int,
        found: list[Element | BlobMessage],
        *,
        all_of_it: bool = False,
    ) -> None:
        while start < end and self.fault is None:
            if self._loading or self._left:
                self._loading = self._left > 0 and self._head.width > 1 and not prepared()
            if self._loading or (self._inflated > AT_ONCE and not all_of_it):
                self._unread = data, start, end
                return
            if self._within:
                start = self._go_on(data, start, end, found)
            else:
                elements = self._tokenizer.feed(data, start, end)
                start = self._found(elements, self._tokenizer.stopped, found)

    @property
    def _within(self) -> bool:
        """Whether bytes of a frame come next, or its end mark."""
        frame = self._frame
        return frame is not None and (not self._in_pieces or self._left > 0 or frame.filled)

    def _instructed(self, instruction: bytes) -> None:
        """Read an instruction between two elements."""
        name, *words = instruction.split()
        if self.fault is not None:
            return
        if name == _PIECES_FOLLOW:
            if self._frame is not None:
                self.fault = _UNFINISHED
                self._tokenizer.halt = True
            self._in_pieces = True
        elif name == _PIECE:
            self._tokenizer.halt = True
            head = self._head_of(words)
            if head is None:
                self.fault = _NO_PIECE
            else:
                self._piece += 1
                self._head = head
                if head.method == _UNKNOWN:  # perhaps there is time until the block is complete
                    prepared()
                self._left = head.length

    def _head_of(self, words: Sequence[bytes]) -> _Head | None:
        """Return what the words before a piece say; None if they are at fault."""
        frame = self._frame
        if frame is None or len(words) < 2:
            return None
        number, length = map(_number, words[:2])
        if number != self._piece + 1 or length < 1:
            return None
        most = min(LARGEST_PIECE, frame.missing)
        come = len(self._block)
        match words[2:]:
            case []:
                return _Head(length) if length <= most and not come else None
            case [wire.MORE] if self._methods:
                return _Head(length, _UNKNOWN) if come + length < most else None
            case [method, width, size]:
                head = _Head(length, method.decode("ascii", "replace"), _number(width), _number(size))
                known = head.method in self._methods and head.width in WIDTHS
                return head if known and come + length < head.size <= most else None
        return None

    def read_rest(self, elements: list[Element], data: Buffer, end: int) -> list[Element | BlobMessage]:
        """Do the same after the tokenizer has been fed, and raw frames were agreed on meanwhile."""
        found: list[Element | BlobMessage] = []
        start = self._found(elements, self._tokenizer.stopped, found)
        return found + self.read(data, start, end) if start < end else found

    def _found(self, elements: list[Element], start: int, found: list[Element | BlobMessage]) -> int:
        """Add what the tokenizer has found before `start`, and begin the frame that follows. Return `start`."""
        frame = elements.pop() if elements and elements[-1].raws else None
        found += elements
        if self.fault is not None:
            return start
        if self._tokenizer.broken:
            self.fault = _LOST_COUNT
        elif frame is not None and self._frame is not None:
            self.fault = _UNFINISHED
        elif frame is not None:
            self._frame = self._begun(frame)
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
        try:
            # What would be more than an unfinished frame may take is never complete, so it is not worth the memory.
            return _Frame(element, sizes, self._spares if self._whole and sum(sizes) <= self._most else None)
        except MemoryError as error:
            self._on_refuse(element, error)
            frame = _Frame(element, sizes, None)
            frame.drop()
            return frame

    def _go_on(self, data: Buffer, start: int, end: int, found: list[Element | BlobMessage]) -> int:
        """Take the next bytes of the frame. Return where it ends, or else `end`."""
        frame = self._frame
        assert frame is not None
        if not self._in_pieces:
            start = frame.take(data, start, end)
        elif not frame.filled:
            begin = start
            if not self._head.method:
                start = frame.take(data, start, min(end, start + self._left))
            else:
                start = min(end, start + self._left)
                self._block += memoryview(data)[begin:start]
            self._left -= start - begin
            if not self._left and self._head.size:
                self._inflate(frame)
        self.held = frame.kept + len(self._block)
        if not frame.filled:
            return start
        start = frame.finish(data, start, end)
        if frame.mark is None:
            self.abandon()
            self.fault = "sent a raw frame without its end mark"
        elif not frame.mark:
            self._frame, self.held = None, 0
            self._in_pieces, self._piece = False, 0
            if frame.pieces is not None:
                try:
                    found.append(BlobMessage.of(frame.element, raws=frame.contents(self._keep)))
                except MemoryError as error:
                    self._on_refuse(frame.element, error)
        return start

    def _inflate(self, frame: _Frame) -> None:
        """Add the content of a complete block to the frame."""
        _, method, width, size = self._head
        self._inflated += size
        compressed, self._block = self._block, bytearray()
        if frame.pieces is not None and frame.kept + size > self._most:
            self._on_outgrown(frame.kept + size)
        if frame.pieces is None:
            frame.take(b"", 0, size)
            return
        inflate = self._decompressors.get((method, width))
        if inflate is None:
            inflate = self._decompressors[method, width] = Decompressor(method, width)
        try:
            target = frame.target(size)
            if target is not None:
                with target, target[:size] as place:
                    inflate.decompress(compressed, size, place)
                frame.arrived(size)
                return
            target = memoryview(_pool.get() if size >= _NEARLY_WHOLE else bytearray(size))[:size]
            inflate.decompress(compressed, size, target)
        except CompressionError as error:
            self.fault = _DAMAGED.format(error)
            return
        except MemoryError as error:
            frame.drop()
            frame.take(b"", 0, size)
            self._on_refuse(frame.element, error)
            return
        frame.take(target, 0, size)

    def _keep(self, content: bytes) -> None:
        """Keep a content for its memory, until there are no frames any more, or newer ones."""
        if len(content) in _SPARE_SIZES:
            self._spares.append(content)
            del self._spares[:-_MOST_SPARE]
            self._fresh = True
            if self._resting is None:
                self._resting = self._call_later(_REST, self._rest)

    def _rest(self) -> None:
        self._resting = None
        if self._fresh:
            self._fresh = False
            self._resting = self._call_later(_REST, self._rest)
        else:
            self._spares.clear()

    def close(self) -> None:
        """Give back all memory."""
        self._spares.clear()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def abandon(self) -> bool:
        """Drop the unfinished frame, whose further bytes are skipped. Return False if there is none."""
        self._spares.clear()
        if self._frame is None or self._frame.pieces is None:
            return False
        self._frame.drop()
        self.held = 0
        return True


def _number(word: bytes) -> int:
    """Return a number of few digits; -1 if it is something else."""
    return int(word) if word.isdigit() and len(word) < 10 else -1


class _Frame:
    """A raw frame that arrives.

    Args:
        element: What announces it.
        lengths: The bytes of each content.
        spares: Contents whose memory may be used again, if each long content is to be in one piece. Memory for all of
            it is taken at once. None: it stays in the pieces in which it arrives.

    Raises:
        MemoryError: There is none.
    """

    def __init__(self, element: Element, lengths: Sequence[int], spares: list[bytes] | None) -> None:
        self.element = element
        self.kept = 0
        self.pieces: list[list[Buffer]] | None = [[] for _ in lengths]
        """What has arrived of each content; None if it is to be skipped."""
        self.mark: bytes | None = END_MARK
        """What is missing of the end mark; None if something else is in its place."""
        self.missing = sum(lengths)
        """Bytes of content that are still to come."""
        self._missing = list(lengths)
        self._at = 0
        self._gathered = bytearray()
        self._arrivals = [
            Arrival(length, spares) if spares is not None and length >= _LONG else None for length in lengths
        ]

    @property
    def filled(self) -> bool:
        """Whether nothing but the end mark is missing."""
        return self._at == len(self._missing)

    def take(self, data: Buffer, start: int, end: int) -> int:
        """Take bytes up to the end of the content, and return where that is, or else `end`."""
        while self._at < len(self._missing):
            if start == end and self._missing[self._at]:
                return end
            taken = min(end - start, self._missing[self._at])
            if self.pieces is not None:
                self._keep(self.pieces[self._at], data, start, start + taken)
            start += taken
            self._missing[self._at] -= taken
            self.missing -= taken
            if not self._missing[self._at]:
                self._flush()
                self._at += 1
        return start

    def target(self, least: int = _LONG) -> memoryview | None:
        """Return the memory for what is missing of the present content; None if it has none, or less than `least`."""
        if self.pieces is None or self.filled or self._missing[self._at] < least:
            return None
        arrival = self._arrivals[self._at]
        return None if arrival is None else memoryview(arrival)[-self._missing[self._at] :]

    def arrived(self, nbytes: int) -> None:
        """Take note of bytes of the present content that are in its memory."""
        self.kept += nbytes
        self.missing -= nbytes
        self._missing[self._at] -= nbytes
        if not self._missing[self._at]:
            self._at += 1

    def finish(self, data: Buffer, start: int, end: int) -> int:
        """Take the end mark as far as it is there, and return where that is."""
        assert self.mark is not None
        here = bytes(memoryview(data)[start : min(end, start + len(self.mark))])
        self.mark = self.mark[len(here) :] if self.mark.startswith(here) else None
        return start + len(here)

    def _keep(self, pieces: list[Buffer], data: Buffer, start: int, end: int) -> None:
        """Keep a slice: by reference, or as a copy if it would keep a much larger buffer in memory."""
        self.kept += end - start
        arrival = self._arrivals[self._at]
        if arrival is not None:
            place = len(arrival) - self._missing[self._at]
            memoryview(arrival)[place : place + end - start] = memoryview(data)[start:end]
            return
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
        self._arrivals = [None] * len(self._arrivals)

    def contents(self, keep: Callable[[bytes], None]) -> Sequence[Sequence[Buffer]]:
        """Return the contents, in pieces. Those that are in one piece are given to `keep`, too. Call this once."""
        assert self.pieces is not None
        for pieces, arrival in zip(self.pieces, self._arrivals, strict=True):
            if arrival is not None:
                content = arrival.finish()
                keep(content)
                pieces.append(content)
        return self.pieces
