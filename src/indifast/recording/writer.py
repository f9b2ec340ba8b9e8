"""Writes a recording, in a thread: who records is not kept waiting."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from indifast.protocol.message import Buffer, Routable
from indifast.recording.fileformat import Direction, Head, Party, Title, head_line, title_line, utc_now
from indifast.transport.blobs import BlobMessage

logger = logging.getLogger(__name__)

FLUSH = 0.2
"""Seconds after which what was said is in the file at the latest, unless the disk is slower."""

MAX_WAITING = 128 << 20
"""Bytes that wait to be written, beyond which the contents of BLOBs are left out."""

_BEHIND = 8 << 20  # bytes that wait, beyond which is written without compressing
_HURRY = 1 << 20  # bytes that are written without waiting for more
_MEMBER = 4 << 20  # bytes of a gzip member, each of which has a checksum
_PIECE = 64 << 10  # bytes, from which on a piece is compressed by itself
_FASTEST, _STORED = 1, 0  # levels of zlib


class _Entry:
    """One record that waits to be written; `parts` is None while the base64 of its BLOBs is being made."""

    __slots__ = ("direction", "label", "message", "parts", "party", "seconds", "size")

    def __init__(self, direction: Direction, party: Party, label: str) -> None:
        self.seconds = time.monotonic()
        self.direction = direction
        self.party = party
        self.label = label
        self.message: BlobMessage | None = None
        self.parts: Sequence[Buffer] | None = ()
        self.size = 100


class Recorder:
    """A new file of what is said on a connection, with times.

    To be used from one thread, that of the event loop. What is put in is compressed and written by a thread of the
    recorder's own, at the latest 0.2 s later, so that a crash loses little. When the thread is behind, it compresses
    no more; when it is far behind (`max_waiting` bytes), the contents of BLOBs are left out and counted.

    Args:
        path: the file, which must not exist yet unless `replace` is true. What is no regular file is written to.
        source: what is recorded, for people.
        blobs: also the contents of BLOBs.
        on_error: told of the OSError that ends the recording, in the recorder's thread.

    Raises:
        OSError: the file can't be made; FileExistsError when it exists.
    """

    def __init__(
        self,
        path: str,
        *,
        source: str,
        blobs: bool,
        replace: bool = False,
        max_waiting: int = MAX_WAITING,
        on_error: Callable[[OSError], None] | None = None,
    ) -> None:
        special = os.path.exists(path) and not os.path.isfile(path)
        self._file = open(path, "wb" if replace or special else "xb")  # noqa: SIM115
        self.path = path
        self.blobs = blobs
        self.messages = 0
        """Messages that were put in."""
        self.written_bytes = 0
        """Size of the file."""
        self.frames = 0
        """Messages that were put in with the contents of their BLOBs."""
        self.left_out = 0
        """Messages whose BLOBs were left out because the file could not be written fast enough."""
        self.error: OSError | None = None
        """What ended the recording before its time."""
        self._began = utc_now()
        self._zero = time.monotonic()
        self._max_waiting = max_waiting
        self._on_error = on_error
        self._entries: deque[_Entry] = deque()
        self._put_bytes = self._done_bytes = 0
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._deflate = _Deflate()
        try:
            self._write([title_line(Title(self._began, source, blobs))])
            self._flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            raise
        self._thread = threading.Thread(target=self._run, name="indifast recorder", daemon=True)
        self._thread.start()

    def put(self, direction: Direction, party: Party, label: str, message: Routable) -> None:
        """Record a message. What somebody is told is recorded without the contents of BLOBs."""
        if self._closing or self.error is not None:
            return
        entry = _Entry(direction, party, label)
        self.messages += 1
        if isinstance(message, BlobMessage):
            self._put_blobs(entry, message)
        else:
            entry.parts = message.parts(False) or ()
            entry.size += message.size
        self._append(entry)

    def lost(self, party: Party, label: str) -> None:
        """Record that a connection has ended, and with it the devices behind it."""
        self._append(_Entry(Direction.LOST, party, label))

    def note(self, text: str) -> None:
        """Record something about the recording, for people."""
        self._append(_Entry(Direction.NOTE, Party.SERVER, text))

    def close(self) -> None:
        """Write what waits, and the end. BLOBs of which the base64 is not there yet are left out."""
        if self._closing:
            return
        for entry in list(self._entries):
            if entry.parts is None and entry.message is not None:
                entry.parts = (entry.message.head(),)
                self.frames -= 1
                self.left_out += 1
        if self.left_out:
            self.note(f"the contents of {self.left_out} messages with BLOBs were left out: the disk was too slow")
        self._append(_Entry(Direction.END, Party.SERVER, ""))
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()

    # -- in the thread of the event loop

    def _put_blobs(self, entry: _Entry, message: BlobMessage) -> None:
        wanted = self.blobs and entry.direction is Direction.FROM
        if wanted and self._put_bytes - self._done_bytes + message.size > self._max_waiting:
            if not self.left_out:
                logger.warning("%s can't be written fast enough: contents of BLOBs are left out", self.path)
            self.left_out += 1
            wanted = False
        if not wanted:
            entry.parts = (message.head(),)
            return
        self.frames += 1
        entry.parts = None
        entry.size += message.size
        entry.message = message
        self._take_form(entry)

    def _take_form(self, entry: _Entry) -> None:
        """Take the inline form over once it is there as a whole; large ones grow piece by piece."""
        message = entry.message
        if message is None or entry.parts:
            return
        if message.whole(False):
            entry.parts = message.parts(False) or ()
            self._wake.set()
        else:
            message.when_ready(False, lambda: self._take_form(entry))

    def _append(self, entry: _Entry) -> None:
        if self._closing or self.error is not None:
            return
        self._put_bytes += entry.size
        self._entries.append(entry)
        if not self._wake.is_set():
            self._wake.set()
        if self._put_bytes - self._done_bytes > _HURRY:
            self._hurry.set()

    # -- in the thread of the recorder

    def _run(self) -> None:
        try:
            while not (self._closing and not self._entries):
                self._wake.wait()
                if not self._closing:
                    self._hurry.wait(FLUSH)
                self._wake.clear()
                self._hurry.clear()
                self._drain()
            self._put_on_disk(self._deflate.finish())
            self._file.close()
        except OSError as error:
            self.error = error
            self._entries.clear()
            with contextlib.suppress(OSError):
                self._file.close()
            if self._on_error is not None:
                self._on_error(error)

    def _drain(self) -> None:
        """Write the records that are complete, up to the first that is not."""
        pieces: list[Buffer] = []
        size = 0
        while self._entries and (parts := self._entries[0].parts) is not None:
            entry = self._entries.popleft()
            moment = self._began + timedelta(seconds=entry.seconds - self._zero)
            pieces.append(head_line(Head(moment, entry.direction, entry.party, entry.label)))
            if parts:
                pieces += parts
                if bytes(memoryview(parts[-1])[-1:]) != b"\n":
                    pieces.append(b"\n")
            size += entry.size
            if size > _HURRY:
                self._write(pieces)
                self._done_bytes += size
                pieces, size = [], 0
        self._write(pieces)
        self._flush()
        self._done_bytes += size

    def _write(self, pieces: Sequence[Buffer]) -> None:
        level = _STORED if self._put_bytes - self._done_bytes > _BEHIND else _FASTEST
        for piece in _joined(pieces):
            self._put_on_disk(self._deflate.add(piece, level))

    def _flush(self) -> None:
        self._put_on_disk(self._deflate.flush())
        self._file.flush()

    def _put_on_disk(self, data: bytes) -> None:
        self._file.write(data)
        self.written_bytes += len(data)


class _Deflate:
    """A sequence of gzip members: each is at most some MiB long, and of one level."""

    def __init__(self) -> None:
        self._level = -1
        self._compress: zlib._Compress | None = None
        self._size = 0

    def add(self, data: Buffer, level: int) -> bytes:
        """What is to be written now for the data that is added."""
        before = b""
        if self._compress is None or level != self._level or self._size > _MEMBER:
            before = self.finish()
            self._compress = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
            self._level = level
            self._size = 0
        self._size += len(data)
        return before + self._compress.compress(data)

    def flush(self) -> bytes:
        """The rest of what was added, so that it can be read when nothing more comes."""
        return b"" if self._compress is None else self._compress.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """The end of the member."""
        compress, self._compress = self._compress, None
        return b"" if compress is None else compress.flush(zlib.Z_FINISH)


def _joined(pieces: Sequence[Buffer]) -> list[Buffer]:
    """The same bytes, small pieces put together."""
    joined: list[Buffer] = []
    small: list[Buffer] = []
    for piece in pieces:
        if len(piece) < _PIECE:
            small.append(piece)
            continue
        joined += (b"".join(small), piece)
        small = []
    if small:
        joined.append(b"".join(small))
    return joined
