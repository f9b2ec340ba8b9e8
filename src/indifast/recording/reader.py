"""Reader of recordings, even ones that were cut short, within the limits that apply on the wire."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from indifast._base64 import encode
from indifast._parser import Tokenizer
from indifast.compression import CompressionError, Decompressor
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.recording import container
from indifast.recording.container import Damaged, Header, Index
from indifast.recording.fileformat import (
    BEGIN,
    END,
    MAX_COMMENT,
    TEXT_VERSION,
    VERSION,
    Direction,
    Head,
    Party,
    RecordingError,
    microseconds,
    parse_head,
    parse_title,
    title_line,
)

if TYPE_CHECKING:
    from indifast._parser import Element

_CHUNK = 256 << 10  # bytes that are read, and inflated, at a time
_GZIP = b"\x1f\x8b"
_NEVER = 1 << 64


@dataclass(frozen=True, slots=True)
class Record:
    """Entry of a recording: a message, or something else that was recorded."""

    seconds: float
    """Time in seconds since the recording began."""
    head: Head
    message: Element | None
    """The message, if there is one. BLOBs without content announce a descriptor that does not exist."""
    unread: int = 0
    """Bytes of BLOBs in the message that were not read, as asked for: they seem to have no content."""

    @property
    def played(self) -> bool:
        """Whether the record is meant for clients."""
        return self.head.direction in (Direction.FROM, Direction.LOST) and self.head.party is not Party.CLIENT


class Recording:
    """Recording that can be read once, from its beginning to its end or to where it was cut short.

    A recording is a context manager, and iterating over it yields `Record` objects. Elements that exceed the limits are
    left out and counted. No more is held in memory than one element within the limits, and a few MiB.

    Args:
        path: The file.
        limits: The limits on its messages.
        contents: False does not read the contents of BLOBs where the format allows that; see `Record.unread`.

    Raises:
        OSError: The file can't be read.
        RecordingError: The file is not a recording. Also raised by iteration, where the file is damaged.
    """

    def __init__(self, path: str, limits: Limits = DEFAULT_LIMITS, *, contents: bool = True) -> None:
        self.path = path
        self.limits = limits
        self.ended = False
        """Whether the end of a properly ended recording has been read."""
        self.skipped = 0
        """Invalid messages that were left out."""
        self.position = 0
        """Bytes of the file that have been read or passed over."""
        self.seconds = 0.0
        """Time of the newest record."""
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115
        self._contents_from = 0 if contents else _NEVER  # microseconds since 1970
        self._unread = 0  # bytes of BLOBs that were not read, of the next message
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            begin = self._peek(len(container.MAGIC))
            self._version = VERSION if begin == container.MAGIC else TEXT_VERSION
            if begin == container.MAGIC:
                self._chunks = self._blocks(len(container.MAGIC))
            else:
                self._chunks = self._inflated() if _GZIP.startswith(begin[:2]) else self._plain()
            self._incomplete = b""
            self._read_title(begin)
        except BaseException:
            self._file.close()
            raise
        self._tokenizer = self._new_tokenizer()
        self._head: Head | None = None
        self._found = 0  # messages after the newest head
        self._in_comment = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[Record]:
        for records in self.batches():
            yield from records

    @property
    def cut(self) -> str | None:
        """After reading everything: a sentence that says that the recording was cut short, or None if it was not."""
        if self.ended:
            return None
        return f"{self.path} was cut short after {self.seconds:.1f} s: the recording was not ended properly"

    def seek(self, seconds: float) -> None:
        """Pass over as much as possible of what comes before a time. To be called before anything is read.

        The first records are then the definitions of all properties, with the values of the moment at which reading
        begins. Contents of BLOBs that come before the time are not read. Files of version 1 are read from the beginning
        all the same.

        Raises:
            OSError: The file can't be read.
            RecordingError: The file is damaged.
        """
        if self._version == TEXT_VERSION:
            return
        time = microseconds(self.title.began) + int(seconds * 1e6)
        self._contents_from = max(self._contents_from, time)
        try:
            offset = (self._index() or self._scanned(time)).before(time)
        except Damaged as error:
            raise self._damaged(str(error)) from None
        if offset is not None:
            self._chunks = self._blocks(offset, state=True)
            self._incomplete = b""

    def text(self) -> Iterator[bytes]:
        """Yield everything as text: a recording of version 1, which any editor can change. Nothing may be read before.

        Raises:
            OSError: The file can't be read.
            RecordingError: The file is damaged.
        """
        yield title_line(self.title, TEXT_VERSION).rstrip()
        yield from self._chunks_after(self._incomplete)

    # -- File

    def _peek(self, count: int) -> bytes:
        data = self._file.read(count)
        self._file.seek(0)
        return data

    def _read(self) -> bytes:
        data = self._file.read(_CHUNK)
        self.position += len(data)
        return data

    def _plain(self) -> Iterator[bytes]:
        while data := self._read():
            yield data

    def _inflated(self) -> Iterator[bytes]:
        """Yield the content of all gzip members in small pieces; end where the file ends."""
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        data = b""
        while True:
            if inflate.eof:
                data = inflate.unused_data or self._read()
                if not data.strip(b"\0"):  # a file system may leave zeros at the end after a crash
                    return
                inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
            last = False
            if not data:
                data = self._read()
                last = not data
            try:
                out = inflate.decompress(data, _CHUNK)
            except zlib.error as error:
                raise self._damaged(str(error)) from None
            data = inflate.unconsumed_tail
            if out:
                yield out
            elif last:
                return

    # -- Blocks of a container, as the text that they stand for

    def _blocks(self, offset: int, *, state: bool = False) -> Iterator[bytes]:
        """Yield the text of all blocks from an offset on; end where the file ends.

        Args:
            offset: The offset of a block.
            state: The block has a state, which is to be read.
        """
        reader = container.TextReader()
        try:
            while (header := self._header(offset)) is not None:
                self.position = offset
                self._unread = 0
                front = self._front(offset, header)
                if header.kind == container.TEXT:
                    yield reader.text(front)
                elif header.kind == container.FRAME:
                    yield from self._frame(offset, header, front)
                elif header.kind == container.STATE and state:
                    yield from self._state(offset, header, front)
                elif header.kind == container.TITLE:
                    yield front
                state = False
                offset += container.HEADER + header.length
            self.position = self.size
        except Damaged as error:
            raise self._damaged(str(error)) from None

    def _header(self, offset: int) -> Header | None:
        """Return the header of the block at an offset; None if the block is not complete."""
        data = self._bytes(offset, container.HEADER)
        if len(data) < container.HEADER or not data.strip(b"\0"):
            self._check_end(offset)
            return None
        header = container.parse_header(data)
        return header if header.length <= self._bytes_after(offset + container.HEADER) else None

    def _check_end(self, offset: int) -> None:
        """Check that there is nothing where a file was cut short: a file system may leave zeros after a crash."""
        while data := self._bytes(offset, _CHUNK):
            if data.strip(b"\0") and len(data) >= container.HEADER:
                raise Damaged("zeros instead of a block")
            offset += len(data)

    def _bytes_after(self, offset: int) -> int:
        return os.fstat(self._file.fileno()).st_size - offset

    def _bytes(self, offset: int, count: int) -> bytes:
        return os.pread(self._file.fileno(), count, offset)

    def _front(self, offset: int, header: Header) -> bytes:
        data = self._bytes(offset + container.HEADER, header.front)
        if zlib.crc32(data) != header.crc:
            raise Damaged("a block does not match its checksum")
        return data

    def _frame(self, offset: int, header: Header, front: bytes) -> Iterator[bytes]:
        """Yield a message with its BLOBs in base64, in pieces; without them if they are not wanted."""
        frame = container.parse_frame(front, header.length - header.front)
        if header.time < self._contents_from:
            self._unread = sum(content.length for content in frame.contents)
            yield frame.text
            return
        offset += container.HEADER + header.front
        done = 0
        for content in frame.contents:
            yield frame.text[done : content.place]
            done = content.place
            inflate = self._decompressor(content) if content.method is not None else None
            for number, (stored, crc) in enumerate(content.pieces):
                data = self._bytes(offset, stored)
                offset += stored
                self.position = offset
                if zlib.crc32(data) != crc:
                    raise Damaged("a piece of a frame does not match its checksum")
                size = container.piece_size(content.length, number)
                if inflate is None and len(data) != size:
                    raise Damaged(f"a piece of a frame of {len(data)} bytes instead of {size}")
                try:
                    yield encode(data if inflate is None else inflate.decompress(data, size))
                except CompressionError as error:
                    raise Damaged(str(error)) from None
        yield frame.text[done:]

    def _decompressor(self, content: container.Content) -> Decompressor:
        assert content.method is not None
        try:
            return Decompressor(content.method, content.width)
        except CompressionError as error:
            raise Damaged(str(error)) from None
        except ImportError as error:
            raise RecordingError(f"{self.path} has compressed frames, but {error}") from None

    def _state(self, offset: int, header: Header, front: bytes) -> Iterator[bytes]:
        reader = container.StateReader(front)
        offset += container.HEADER + header.front
        end = offset + header.length - header.front
        while offset < end:
            data = self._bytes(offset, min(_CHUNK, end - offset))
            yield from reader.text(data)
            offset += len(data)
        reader.finish()

    def _index(self) -> Index | None:
        """Return the index of a complete file; None if there is none that is good."""
        try:
            offset = self.size - container.TAIL_SIZE
            tail = self._header(offset) if offset > 0 else None
            if tail is None or tail.kind != container.TAIL:
                return None
            offset = container.parse_tail(self._front(offset, tail))
            header = self._header(offset) if offset < self.size else None
            return Index.parse(self._front(offset, header)) if header and header.kind == container.INDEX else None
        except Damaged:
            return None

    def _scanned(self, time: int) -> Index:
        """Return an index of the states up to a time, made from the headers of all blocks."""
        found = Index()
        offset = len(container.MAGIC)
        while (header := self._header(offset)) is not None and header.time <= time:
            if header.kind == container.STATE:
                found.add(offset, header.time)
            offset += container.HEADER + header.length
        return found

    def _damaged(self, why: str) -> RecordingError:
        return RecordingError(f"{self.path} is damaged near byte {self.position}, after {self.seconds:.1f} s: {why}")

    # -- Comments and messages

    def _read_title(self, begin: bytes) -> None:
        data = b""
        for chunk in self._chunks:
            data += chunk
            if not data.lstrip().startswith(BEGIN[: len(data.lstrip())]) or len(data) > MAX_COMMENT or END in data:
                break
        start, end = data.find(BEGIN), data.find(END)
        cut = container.MAGIC.startswith(begin) or BEGIN.startswith(data[: len(BEGIN)])
        if end < 0 and cut and self.size < MAX_COMMENT:
            raise RecordingError(f"{self.path} holds nothing: the recording was cut short at its beginning")
        try:
            if end < 0 or data[:start].strip():
                raise ValueError("not an indifast recording")
            self.title = parse_title(data[start + len(BEGIN) : end], self._version)
        except (ValueError, KeyError, TypeError) as error:
            why = str(error) if type(error) is ValueError else "not an indifast recording"
            raise RecordingError(f"{self.path} is {why}") from None
        self._newest = self.title.began
        self._incomplete = data[end + len(END) :]

    def _new_tokenizer(self) -> Tokenizer:
        bounds: dict[str, Any] = dict(self.limits.tokenizer())
        return Tokenizer(relay=True, **bounds)

    def batches(self) -> Iterator[list[Record]]:
        """Yield the records in lists, some of them empty; each takes a bounded amount of reading and inflating."""
        records: list[Record] = []
        chunks = self._chunks_after(self._incomplete)
        self._incomplete = b""
        while not self.ended:
            try:
                chunk = next(chunks, None)
                if chunk is not None:
                    self._split(self._incomplete + chunk if self._incomplete else chunk, records)
            except RecordingError:
                yield records  # everything before the damage is good
                raise
            if chunk is None:
                return
            yield records
            records = []

    def _split(self, data: bytes, records: list[Record]) -> None:
        """Take comments and the messages between them; keep the part that is not complete yet."""
        at = 0
        while not self.ended:
            if self._in_comment:
                end = data.find(END, at)
                if end < 0:
                    if len(data) - at > MAX_COMMENT:
                        raise self._damaged("a comment does not end")
                    break
                self._begin(data[at:end], records)
                at, self._in_comment = end + len(END), False
                continue
            start = data.find(BEGIN, at)
            stop = start if start >= 0 else len(data) - _partial_begin(data)
            self._feed(data, at, stop, records)
            at = stop
            if start < 0:
                break
            at, self._in_comment = start + len(BEGIN), True
        self._incomplete = data[at:]

    def _chunks_after(self, first: bytes) -> Iterator[bytes]:
        yield first
        yield from self._chunks

    def _begin(self, comment: bytes, records: list[Record]) -> None:
        """Take a comment, which ends the message before it."""
        if self._head is not None and not self._found:
            self.skipped += 1
            self._tokenizer = self._new_tokenizer()
        try:
            head = parse_head(comment)
        except ValueError:
            raise self._damaged(f"{comment[:60]!r} is not a comment of a recording") from None
        self._newest = max(self._newest, head.time)
        self.seconds = (self._newest - self.title.began).total_seconds()
        self._found = 0
        self._head = None
        if head.direction in (Direction.FROM, Direction.TO):
            self._head = head
        elif head.direction is Direction.END:
            self.ended = True
        else:
            records.append(Record(self.seconds, head, None))

    def _feed(self, data: bytes, start: int, stop: int, records: list[Record]) -> None:
        if start == stop or self._head is None:
            return
        for element in self._tokenizer.feed(data, start, stop):
            self._found += 1
            records.append(Record(self.seconds, self._head, element, self._unread))
            self._unread = 0


def _partial_begin(data: bytes) -> int:
    """Return how many bytes at the end may be the beginning of a comment."""
    return next((count for count in (3, 2, 1) if data.endswith(BEGIN[:count])), 0)
