"""The container of recordings: blocks with text, frames, states and an index. It is only ever appended to.

docs/reference/recordings.md describes it byte by byte. Here is what the bytes of a block mean, in both directions;
`writer` and `reader` say when which block is written, and what is made of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from indifast.compression import LZ4, ZSTD, Buffer, Compressor, best_width

MAGIC = b"\x89IFR\r\n\x1a\n"
"""The first bytes of the file. Programs that change line ends, or remove bits, damage them."""

TITLE, TEXT, FRAME, STATE, INDEX, TAIL = b"HEAD", b"TEXT", b"FRAM", b"STAT", b"INDX", b"TAIL"
KINDS = (TITLE, TEXT, FRAME, STATE, INDEX, TAIL)

MAX_FRONT = 1 << 20
"""The most bytes of a block that must be in memory at once."""

MAX_TEXT = 512 << 10
"""The most bytes of text in a block."""

PIECE = 3 << 18
"""Bytes of each piece of a frame but the last. In base64, pieces of a multiple of 3 bytes can be joined."""

_HEADER = struct.Struct("<4sIQQI")
_CRC = struct.Struct("<I")
HEADER = _HEADER.size + _CRC.size
"""Bytes of the header of a block."""

_TEXT = struct.Struct("<BxxxI")
_FRAME = struct.Struct("<HxxI")
_CONTENT = struct.Struct("<IBBxxQ")
_PIECE = struct.Struct("<II")
_STATE = struct.Struct("<QI")
_ENTRY = struct.Struct("<QQ")
_TAIL = struct.Struct("<Q")

PLAIN, FIRST, NEXT = 0, 1, 2
"""How text is written: plain, as the beginning of a new deflate stream, or as the continuation of the newest one."""

_METHODS = {0: None, 1: LZ4, 2: ZSTD}
_NUMBERS = {method: number for number, method in _METHODS.items()}
_RAW_DEFLATE = -zlib.MAX_WBITS
_MOST_ENTRIES = 32_768
_FASTEST = 1


class Damaged(ValueError):
    """A block is not what it should be."""


class Header(NamedTuple):
    """The header of a block."""

    kind: bytes
    front: int
    """Bytes of its front part."""
    length: int
    """Bytes of the whole block after the header: front part and rest."""
    time: int
    """Microseconds since 1970 of the first record in the block."""
    crc: int
    """CRC-32 of the front part."""


def parse_header(data: bytes) -> Header:
    """Return the header of a block.

    Raises:
        Damaged: It is not a header.
    """
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        raise Damaged("a header does not match its checksum")
    header = Header(*_HEADER.unpack_from(data))
    if header.kind not in KINDS:
        raise Damaged(f"a block of the unknown kind {header.kind!r}")
    if header.front > min(MAX_FRONT, header.length) or (header.front < header.length and header.kind not in _WITH_REST):
        raise Damaged(f"a block of {header.front} and {header.length} bytes")
    return header


_WITH_REST = (FRAME, STATE)


def block(kind: bytes, front: Sequence[Buffer], time: int, rest: int = 0) -> list[Buffer]:
    """Return the header and the front part of a block with `rest` more bytes."""
    size = sum(map(len, front))
    crc = 0
    for piece in front:
        crc = zlib.crc32(piece, crc)
    header = _HEADER.pack(kind, size, size + rest, time, crc)
    return [header, _CRC.pack(zlib.crc32(header)), *front]


# -- Text


class TextWriter:
    """Makes blocks of text, which continue one deflate stream as long as possible."""

    def __init__(self) -> None:
        self._deflate: zlib._Compress | None = None

    def blocks(self, text: Buffer, time: int, *, plain: bool) -> Iterator[Buffer]:
        view = memoryview(text)
        for start in range(0, len(view), MAX_TEXT):
            yield from self._block(view[start : start + MAX_TEXT], time, plain)

    def _block(self, text: memoryview, time: int, plain: bool) -> list[Buffer]:
        if plain:
            return block(TEXT, (_TEXT.pack(PLAIN, len(text)), text), time)
        how = NEXT
        if self._deflate is None:
            how = FIRST
            self._deflate = zlib.compressobj(_FASTEST, zlib.DEFLATED, _RAW_DEFLATE)
        data = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return block(TEXT, (_TEXT.pack(how, len(text)), data), time)

    def restart(self) -> None:
        """Begin a new stream: reading may begin here."""
        self._deflate = None


class TextReader:
    """Reads blocks of text, in order."""

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def text(self, front: bytes) -> bytes:
        """Return the text of a block.

        Raises:
            Damaged: It is damaged, or there is more than announced.
        """
        if len(front) < _TEXT.size:
            raise Damaged("a block of text that is too short")
        how, size = _TEXT.unpack_from(front)
        data = memoryview(front)[_TEXT.size :]
        if size > MAX_TEXT:
            raise Damaged(f"a block of {size} bytes of text")
        if how == PLAIN:
            text = bytes(data)
        else:
            if how == FIRST:
                self._inflate = zlib.decompressobj(_RAW_DEFLATE)
            if how not in (FIRST, NEXT) or self._inflate is None:
                raise Damaged("text that continues nothing")
            try:
                text = self._inflate.decompress(data, size + 1)
            except zlib.error as error:
                raise Damaged(str(error)) from None
            if self._inflate.unconsumed_tail or self._inflate.unused_data:
                raise Damaged("a block of text that holds more than it says")
        if len(text) != size:
            raise Damaged(f"a block of text that holds {len(text)} bytes instead of {size}")
        return text


# -- Frames


class Content(NamedTuple):
    """The content of one BLOB in a frame."""

    place: int
    """Where it belongs in the text."""
    method: str | None
    """The method of compression; None if it is not compressed."""
    width: int
    """Bytes per pixel, for the shuffle."""
    length: int
    """Bytes of the BLOB."""
    pieces: tuple[tuple[int, int], ...]
    """Bytes in the file and CRC-32 of each piece."""


class Frame(NamedTuple):
    """The front part of a block with a frame."""

    text: bytes
    """The comment and the message, without the base64 of its BLOBs."""
    contents: list[Content]


class FrameWriter:
    """Makes blocks of frames."""

    def __init__(self) -> None:
        self._compressors: dict[tuple[str, int], Compressor] = {}

    def block(
        self,
        head: bytes,
        envelope: Sequence[Buffer],
        contents: Sequence[Iterable[memoryview]],
        method: str | None,
        time: int,
    ) -> list[Buffer] | None:
        """Return a block, complete. None if its front part would be too long.

        Args:
            head: The comment.
            envelope: The pieces of the message around the contents.
            contents: The pieces of each content, each of `PIECE` bytes except for the last one.
            method: How to compress the contents; None for not at all.
            time: Microseconds since 1970.
        """
        pieces: list[Buffer] = []
        places, tables = bytearray(), bytearray()
        place = len(head)
        for before, content in zip(envelope, contents, strict=False):
            place += len(before)
            length, compressor = 0, None
            for piece in content:
                if method is not None and compressor is None:
                    compressor = self._compressor(method, best_width(piece))
                stored = piece if compressor is None else compressor.compress(piece)
                length += len(piece)
                pieces.append(bytes(stored))  # the memory of `piece` is used again
                tables += _PIECE.pack(len(stored), zlib.crc32(stored))
            width = compressor.width if compressor is not None else 1
            places += _CONTENT.pack(place, _NUMBERS[method if compressor else None], width, length)
        text = (head, *envelope, b"\n")
        size = sum(map(len, text))
        if _FRAME.size + len(places) + len(tables) + size > MAX_FRONT or len(contents) > 0xFFFF:
            return None
        front = (_FRAME.pack(len(contents), size), places, tables, *text)
        return block(FRAME, front, time, sum(map(len, pieces))) + pieces

    def _compressor(self, method: str, width: int) -> Compressor:
        if (method, width) not in self._compressors:
            self._compressors[method, width] = Compressor(method, width)
        return self._compressors[method, width]


def parse_frame(front: bytes, rest: int) -> Frame:
    """Return what the front part of a block says.

    Args:
        front: The front part.
        rest: Bytes of the block after it.

    Raises:
        Damaged: It is damaged, or does not match the rest.
    """
    try:
        count, size = _FRAME.unpack_from(front)
        table = _FRAME.size + count * _CONTENT.size
        contents: list[Content] = []
        stored = before = 0
        for number in range(count):
            place, method, width, length = _CONTENT.unpack_from(front, _FRAME.size + number * _CONTENT.size)
            pieces = _table(front, table, length)
            table += len(pieces) * _PIECE.size
            stored += sum(size for size, _ in pieces)
            if not before <= place <= size or method not in _METHODS:
                raise Damaged("a content at an impossible place, or compressed by an unknown method")
            before = place
            contents.append(Content(place, _METHODS[method], width, length, pieces))
    except struct.error:
        raise Damaged("a frame that is too short") from None
    if table + size != len(front) or stored != rest:
        raise Damaged("a frame whose parts are not as long as it says")
    return Frame(front[table:], contents)


def _table(front: bytes, start: int, length: int) -> tuple[tuple[int, int], ...]:
    count = -(-length // PIECE)
    if start + count * _PIECE.size > len(front):
        raise Damaged("a frame without a place for each of its pieces")
    pieces = tuple(_PIECE.iter_unpack(front[start : start + count * _PIECE.size]))
    if any(size > piece_size(length, number) for number, (size, _) in enumerate(pieces)):
        raise Damaged("a piece of a frame that is larger than its content")
    return pieces


def piece_size(length: int, number: int) -> int:
    """Return the bytes that a piece of a content inflates to."""
    return min(PIECE, length - number * PIECE)


# -- States


def state_block(text: bytes, time: int) -> list[Buffer]:
    """Return a block with the definitions of all properties, as text."""
    deflate = zlib.compressobj(_FASTEST, zlib.DEFLATED, _RAW_DEFLATE)
    data = deflate.compress(text) + deflate.flush()
    return [*block(STATE, (_STATE.pack(len(text), zlib.crc32(data)),), time, len(data)), data]


class StateReader:
    """Inflates a state bit by bit.

    Args:
        front: The front part of its block.

    Raises:
        Damaged: It is too short.
    """

    def __init__(self, front: bytes) -> None:
        if len(front) != _STATE.size:
            raise Damaged("a state that is too short")
        self._left, self._wanted = _STATE.unpack(front)
        self._crc = 0
        self._inflate = zlib.decompressobj(_RAW_DEFLATE)

    def text(self, data: bytes) -> Iterator[bytes]:
        """Yield the text in a part of the rest, in small pieces.

        Raises:
            Damaged: It is damaged, or there is more than announced.
        """
        self._crc = zlib.crc32(data, self._crc)
        while data or not self._inflate.eof:
            try:
                text = self._inflate.decompress(data, MAX_TEXT)
            except zlib.error as error:
                raise Damaged(str(error)) from None
            data = self._inflate.unconsumed_tail
            self._left -= len(text)
            if self._left < 0 or self._inflate.unused_data:
                raise Damaged("a state that holds more than it says")
            if not text:
                return
            yield text

    def finish(self) -> None:
        """Check that everything has come.

        Raises:
            Damaged: It has not.
        """
        if self._left or not self._inflate.eof or self._crc != self._wanted:
            raise Damaged("a state that is damaged or incomplete")


# -- Index


class Index:
    """Where in the file the states are, so that reading can begin there. In a long recording, not all of them."""

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self._entries = list(entries)
        self._step = self._left = 1

    def add(self, offset: int, time: int) -> None:
        """Add a state."""
        self._left -= 1
        if self._left:
            return
        self._left = self._step
        self._entries.append((offset, time))
        if len(self._entries) >= _MOST_ENTRIES:
            del self._entries[::2]
            self._step *= 2

    def before(self, time: int) -> int | None:
        """Return the offset of the last state that is earlier than `time`."""
        return max((offset for offset, begin in self._entries if begin < time), default=None)

    def blocks(self, offset: int, time: int) -> list[Buffer]:
        """Return the end of a file: the index, which will be at `offset`, and the block that says so."""
        front = b"".join(_ENTRY.pack(*entry) for entry in self._entries)
        return block(INDEX, (front,), time) + block(TAIL, (_TAIL.pack(offset),), time)

    @classmethod
    def parse(cls, front: bytes) -> Index:
        """Return the index in a block.

        Raises:
            Damaged: It is damaged.
        """
        if len(front) % _ENTRY.size:
            raise Damaged("an index of an impossible length")
        return cls((offset, time) for offset, time in _ENTRY.iter_unpack(front))


TAIL_SIZE = HEADER + _TAIL.size
"""Bytes of the last block of a complete file."""


def parse_tail(front: bytes) -> int:
    """Return the offset of the index.

    Raises:
        Damaged: The block is damaged.
    """
    if len(front) != _TAIL.size:
        raise Damaged("a last block of an impossible length")
    offset: int = _TAIL.unpack(front)[0]
    return offset
