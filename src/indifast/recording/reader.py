"""Reader of recordings, even ones that were cut short, within the limits that apply on the wire."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from indifast._parser import Tokenizer
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.recording.fileformat import (
    BEGIN,
    END,
    MAX_COMMENT,
    Direction,
    Head,
    Party,
    RecordingError,
    parse_head,
    parse_title,
)

if TYPE_CHECKING:
    from indifast._parser import Element

_CHUNK = 256 << 10  # bytes that are read, and inflated, at a time
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Record:
    """Entry of a recording: a message, or something else that was recorded."""

    seconds: float
    """Time in seconds since the recording began."""
    head: Head
    message: Element | None
    """The message, if there is one. BLOBs without content announce a descriptor that does not exist."""

    @property
    def played(self) -> bool:
        """Whether the record is meant for clients."""
        return self.head.direction in (Direction.FROM, Direction.LOST) and self.head.party is not Party.CLIENT


class Recording:
    """Recording that can be read once, from its beginning to its end or to where it was cut short.

    A recording is a context manager, and iterating over it yields `Record` objects. Elements that exceed the limits are
    left out and counted.

    Raises:
        OSError: The file can't be read.
        RecordingError: The file is not a recording. Also raised by iteration, where the file is damaged.
    """

    def __init__(self, path: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = path
        self.limits = limits
        self.ended = False
        """Whether the end of a properly ended recording has been read."""
        self.skipped = 0
        """Invalid messages that were left out."""
        self.position = 0
        """Bytes of the file that have been read."""
        self.seconds = 0.0
        """Time of the newest record."""
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self._chunks = self._inflated() if _GZIP.startswith(self._peek(2)) else self._plain()
            self._incomplete = b""
            self._read_title()
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

    def _damaged(self, why: str) -> RecordingError:
        return RecordingError(f"{self.path} is damaged near byte {self.position}, after {self.seconds:.1f} s: {why}")

    # -- Comments and messages

    def _read_title(self) -> None:
        data = b""
        for chunk in self._chunks:
            data += chunk
            if not data.lstrip().startswith(BEGIN[: len(data.lstrip())]) or len(data) > MAX_COMMENT or END in data:
                break
        start, end = data.find(BEGIN), data.find(END)
        if end < 0 and BEGIN.startswith(data[: len(BEGIN)]) and self.size < MAX_COMMENT:
            raise RecordingError(f"{self.path} holds nothing: the recording was cut short at its beginning")
        try:
            if end < 0 or data[:start].strip():
                raise ValueError("not an indifast recording")
            self.title = parse_title(data[start + len(BEGIN) : end])
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
            records.append(Record(self.seconds, self._head, element))


def _partial_begin(data: bytes) -> int:
    """Return how many bytes at the end may be the beginning of a comment."""
    return next((count for count in (3, 2, 1) if data.endswith(BEGIN[:count])), 0)
