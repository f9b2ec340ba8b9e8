"""Recorder that writes in its own thread, so that its caller never waits for the disk."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta

from indifast.protocol.message import Buffer, Routable
from indifast.recording.fileformat import Direction, Party, Title, head_rest, head_start, title_line, utc_now
from indifast.transport.blobs import BlobMessage

logger = logging.getLogger(__name__)

FLUSH = 0.2
"""Seconds within which messages are written to the file, unless the disk is slower."""

MAX_WAITING = 128 << 20
"""Bytes waiting to be written, beyond which the contents of BLOBs are left out."""

_BEHIND = 8 << 20  # waiting bytes beyond which data is written uncompressed
_HURRY = 1 << 20  # bytes that are written without waiting for more
_MEMBER = 4 << 20  # bytes of a gzip member, each of which has a checksum
_HEAD = 100  # approximate bytes of a comment
_MAX_RESTS = 1000  # ends of comments that are cached
_FASTEST, _STORED = 1, 0  # zlib levels


class _Run:
    """Pieces of the file that are written together: many small ones, or one message with BLOBs."""

    __slots__ = ("large", "message", "pieces", "size")

    def __init__(self, message: BlobMessage | None = None) -> None:
        self.pieces: list[Buffer] = []
        self.size = 0
        self.message = message
        """Message whose base64 is still being made."""
        self.large = message is not None


class Recorder:
    """Writes the messages on a connection, with their times, to a new file.

    A recorder must be used from one thread, that of the event loop. Its own thread compresses and writes messages
    within 0.2 s, so that a crash loses little. When that thread falls behind, it stops compressing; when it falls far
    behind (`max_waiting` bytes), the contents of BLOBs are left out and counted, and at twice that, whole messages.

    Args:
        path: The file, which must not exist yet unless `replace` is true. An existing file that is not a regular one,
            such as a pipe, is written to.
        source: What is recorded, for people.
        blobs: Whether to record the contents of BLOBs.
        replace: Whether to replace an existing file.
        max_waiting: Bytes waiting to be written, beyond which the contents of BLOBs are left out.
        on_error: Called in the recorder's thread with the OSError that ends the recording.

    Raises:
        FileExistsError: The file already exists.
        OSError: The file can't be created.
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
        """Size of the file in bytes."""
        self.frames = 0
        """Messages that were put in with the contents of their BLOBs."""
        self.left_out = 0
        """Messages whose BLOBs were left out because the file could not be written fast enough."""
        self.missed = 0
        """Messages that were not recorded at all, because leaving out BLOBs was not enough."""
        self.error: OSError | None = None
        """Error that ended the recording early, if any."""
        began = utc_now()
        self._began = began.replace(microsecond=0)
        self._zero = time.monotonic() - began.microsecond / 1e6
        self._max_waiting = max_waiting
        self._on_error = on_error
        self._runs: deque[_Run] = deque()
        self._open: _Run | None = None  # the newest run, while it may grow
        self._lock = threading.Lock()
        self._second = -1.0
        self._stamp = b""
        self._rests: dict[tuple[Direction, Party, str], bytes] = {}
        self._put_bytes = self._done_bytes = 0
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._closing = False
        self._deflate = _Deflate()
        try:
            self._put_on_disk(self._deflate.add(title_line(Title(began, source, blobs)), _FASTEST))
            self._flush()
        except OSError as error:
            error.filename = path
            with contextlib.suppress(OSError):
                self._file.close()
            raise
        self._thread = threading.Thread(target=self._run, name="indifast recorder", daemon=True)
        self._thread.start()

    def put(self, direction: Direction, party: Party, label: str, message: Routable) -> None:
        """Record a message. Messages to a party are recorded without the contents of BLOBs."""
        if self._closing or self.error is not None:
            return
        if self.waiting > 2 * self._max_waiting:
            self.missed += 1
            return
        self.messages += 1
        head = self._head(direction, party, label)
        if isinstance(message, BlobMessage):
            if direction is Direction.FROM and self._takes(message):
                self.frames += 1
                self._put_blobs(head, message)
            else:
                self._append((head, message.head(), b"\n"), 1000)
        else:
            parts = message.parts(False) or (b"",)
            self._append((head, *parts) if parts[-1][-1:] == b"\n" else (head, *parts, b"\n"), message.size + _HEAD)

    def lost(self, party: Party, label: str) -> None:
        """Record that a connection has ended, and that the devices behind it are gone."""
        self._append((self._head(Direction.LOST, party, label),), _HEAD)

    def note(self, text: str) -> None:
        """Record a note about the recording, for people."""
        self._append((self._head(Direction.NOTE, Party.SERVER, text),), _HEAD)

    def close(self) -> None:
        """Write everything that is waiting, and the end. BLOBs whose base64 is not ready yet are left out."""
        if self._closing:
            return
        for run in list(self._runs):
            if run.message is not None:
                run.pieces += (run.message.head(), b"\n")
                run.message = None
                self.frames -= 1
                self.left_out += 1
        if self.left_out or self.missed:
            self.note(
                f"the disk was too slow: {self.left_out} messages lack the contents of their BLOBs,"
                f" {self.missed} are missing"
            )
        self._append((self._head(Direction.END, Party.SERVER, ""),), _HEAD)
        self._closing = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Approximate number of bytes that are not written yet."""
        return self._put_bytes - self._done_bytes

    # -- In the thread of the event loop. Comments are made here, because the recorder's thread should run little
    # Python code: otherwise it would hold up this thread whenever this one returns from a system call.

    def _head(self, direction: Direction, party: Party, label: str) -> bytes:
        """Return the comment before a message; its parts are made once per second and once per party."""
        seconds, fraction = divmod(time.monotonic() - self._zero, 1.0)
        if seconds != self._second:
            self._second = seconds
            self._stamp = head_start(self._began + timedelta(seconds=seconds))
        key = (direction, party, label)
        rest = self._rests.get(key)
        if rest is None:
            if len(self._rests) >= _MAX_RESTS:
                self._rests.clear()
            rest = self._rests[key] = head_rest(direction, party, label)
        return b"%b%06d%b" % (self._stamp, fraction * 1e6, rest)

    def _takes(self, message: BlobMessage) -> bool:
        """Return whether to record the contents of these BLOBs."""
        if not self.blobs:
            return False
        if self.waiting + message.size > self._max_waiting:
            if not self.left_out:
                logger.warning("%s can't be written fast enough: some contents of BLOBs are left out", self.path)
            self.left_out += 1
            return False
        return True

    def _put_blobs(self, head: bytes, message: BlobMessage) -> None:
        """Record the inline form, or hold its place until it is complete."""
        run = _Run(message)
        run.pieces.append(head)
        run.size = message.size + _HEAD
        with self._lock:
            self._runs.append(run)
            self._open = None
        self._count(run.size)
        self._fill(run)

    def _fill(self, run: _Run) -> None:
        """Take the inline form once it is complete; large ones grow piece by piece."""
        message = run.message
        if message is None:
            return
        if message.whole(False):
            run.pieces += (*(message.parts(False) or ()), b"\n")
            run.message = None
            self._wake.set()
        else:
            message.when_ready(False, lambda: self._fill(run))

    def _append(self, pieces: Iterable[Buffer], size: int) -> None:
        if self._closing or self.error is not None:
            return
        with self._lock:
            run = self._open
            if run is None:
                run = self._open = _Run()
                self._runs.append(run)
            run.pieces += pieces
            run.size += size
            if run.size > _HURRY:
                self._open = None
        self._count(size)

    def _count(self, size: int) -> None:
        self._put_bytes += size
        if not self._wake.is_set():
            self._wake.set()
        if self._put_bytes - self._done_bytes > _HURRY and not self._hurry.is_set():
            self._hurry.set()

    # -- In the thread of the recorder

    def _run(self) -> None:
        try:
            while not (self._closing and not self._runs):
                self._wake.wait()
                if not self._closing:
                    self._hurry.wait(FLUSH)
                self._wake.clear()
                self._hurry.clear()
                while (run := self._next()) is not None:
                    self._write(run)
                    self._done_bytes += run.size
                self._flush()
            self._put_on_disk(self._deflate.finish())
            self._file.close()
        except OSError as error:
            error.filename = self.path
            self.error = error
            self._runs.clear()
            with contextlib.suppress(OSError):
                self._file.close()
            if self._on_error is not None:
                self._on_error(error)

    def _next(self) -> _Run | None:
        """Return the oldest run if it is complete; nothing more is added to it."""
        with self._lock:
            if not self._runs or self._runs[0].message is not None:
                return None
            run = self._runs.popleft()
            if run is self._open:
                self._open = None
            return run

    def _write(self, run: _Run) -> None:
        level = _STORED if self.waiting > _BEHIND else _FASTEST
        for piece in run.pieces if run.large else (b"".join(run.pieces),):
            self._put_on_disk(self._deflate.add(piece, level))

    def _flush(self) -> None:
        self._put_on_disk(self._deflate.flush())
        self._file.flush()

    def _put_on_disk(self, data: bytes) -> None:
        self._file.write(data)
        self.written_bytes += len(data)


class _Deflate:
    """Sequence of gzip members, each a few MiB long at most and of one compression level."""

    def __init__(self) -> None:
        self._level = -1
        self._compress: zlib._Compress | None = None
        self._size = 0

    def add(self, data: Buffer, level: int) -> bytes:
        """Add data, and return what is to be written now."""
        before = b""
        if self._compress is None or level != self._level or self._size > _MEMBER:
            before = self.finish()
            self._compress = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
            self._level = level
            self._size = 0
        self._size += len(data)
        return before + self._compress.compress(data)

    def flush(self) -> bytes:
        """Return the rest of what was added, so that it can be read even if nothing more follows."""
        return b"" if self._compress is None else self._compress.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Return the end of the current member."""
        compress, self._compress = self._compress, None
        return b"" if compress is None else compress.flush(zlib.Z_FINISH)
