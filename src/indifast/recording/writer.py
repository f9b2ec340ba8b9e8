"""Recorder that writes in its own thread, so that its caller never waits for the disk."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta

from indifast.compression import LZ4, ZSTD, installed
from indifast.protocol.message import Buffer, Routable
from indifast.recording.container import MAGIC, PIECE, TITLE, FrameWriter, Index, TextWriter, block, state_block
from indifast.recording.fileformat import (
    Direction,
    Party,
    Title,
    head_rest,
    head_start,
    microseconds,
    title_line,
    utc_now,
)
from indifast.recording.state import Devices
from indifast.transport.blobs import BlobMessage

logger = logging.getLogger(__name__)

FLUSH = 0.2
"""Seconds within which messages are written to the file, unless the disk is slower."""

MAX_WAITING = 128 << 20
"""Bytes waiting to be written, beyond which the contents of BLOBs are left out."""

STATE_PAUSE = 10.0
"""Least seconds between two states."""

_STATE_SHARE = 4  # messages between two states are at least this many times as long as the state
_LEAST_BETWEEN_STATES = 64 << 10  # bytes of messages
_FRAME_COUNTS = 4 << 10  # how many bytes of messages a frame counts for
_BEHIND = 8 << 20  # waiting bytes beyond which text is written uncompressed
_FRAMES_BEHIND = 24 << 20  # waiting bytes beyond which frames are compressed less, but faster
_HURRY = 1 << 20  # bytes that are written without waiting for more
_HEAD = 100  # approximate bytes of a comment
_MAX_RESTS = 1000  # ends of comments that are cached


class _Run:
    """Records that are written together: many messages, one message with BLOBs, or a state."""

    __slots__ = ("frame", "message", "pieces", "size", "state", "time")

    def __init__(self, time: int) -> None:
        self.time = time
        """Microseconds since 1970."""
        self.pieces: list[Buffer] = []
        self.size = 0
        self.frame: BlobMessage | None = None
        """The message with BLOBs that belongs after the pieces."""
        self.message: BlobMessage | None = None
        """The same, as long as its contents can't be read yet."""
        self.state = False


class Recorder:
    """Writes the messages on a connection, with their times, to a new file.

    A recorder must be used from one thread, that of the event loop. Its own thread compresses and writes messages
    within 0.2 s, so that a crash loses little. Frames are compressed by zstd, or by LZ4 when that thread falls behind;
    without these (`indifast[compression]`) they are not compressed. When it falls far behind (`max_waiting` bytes), the
    contents of BLOBs are left out and counted, and at twice that, whole messages.

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
        self._began_at = microseconds(self._began)
        self._zero = time.monotonic() - began.microsecond / 1e6
        self._time = microseconds(began)  # of the newest record
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
        self._devices = Devices()
        self._said = 0  # bytes of messages since the newest state
        self._next_state = time.monotonic() + STATE_PAUSE
        self._between_states = _LEAST_BETWEEN_STATES
        self._text, self._frames, self._index = TextWriter(), FrameWriter(), Index()
        if blobs and not installed():
            logger.warning("%s: frames are recorded without compression: pip install indifast[compression]", path)
        try:
            self._put_on_disk((MAGIC, *block(TITLE, (title_line(Title(began, source, blobs)),), self._time)))
            self._file.flush()
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
        self._follow(direction, party, label, message)
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
        for device in self._devices.of((party, label)):
            self._devices.forget(device)
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
                self._leave_out(run, run.message)
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
        self._time = self._began_at + int(seconds) * 1_000_000 + int(fraction * 1e6)
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
        """Record the contents, or hold their place until they can be read."""
        run = _Run(self._time)
        run.frame = run.message = message
        run.pieces.append(head)
        run.size = message.size + _HEAD
        self._add(run)
        self._fill(run)

    def _fill(self, run: _Run) -> None:
        """Let the run be written once the contents can be read: those of a driver only when they are encoded."""
        message = run.message
        if message is None:
            return
        if message.raw() is not None:
            run.message = None
            self._wake.set()
        elif message.whole(False):
            self._leave_out(run, message)
            self._wake.set()
        else:
            message.when_ready(False, lambda: self._fill(run))

    def _leave_out(self, run: _Run, message: BlobMessage) -> None:
        """Record a message without the contents of its BLOBs."""
        run.pieces += (message.head(), b"\n")
        run.message = run.frame = None
        self.frames -= 1

    def _add(self, run: _Run) -> None:
        """Add a run that does not grow."""
        with self._lock:
            self._runs.append(run)
            self._open = None
        self._count(run.size)

    def _follow(self, direction: Direction, party: Party, label: str, message: Routable) -> None:
        """Keep the state up to date, and record it before a message, if it is time."""
        if self._said > self._between_states and time.monotonic() > self._next_state and not self._far_behind():
            self._put_state()
        if direction is Direction.FROM and party is not Party.CLIENT:
            self._devices.take(message, (party, label))
        self._said += _FRAME_COUNTS if message.blob else message.size

    def _far_behind(self) -> bool:
        return self.waiting > self._max_waiting // 2

    def _put_state(self) -> None:
        pieces: list[Buffer] = []
        for (party, label), definition in self._devices.definitions():
            pieces += (self._head(Direction.FROM, party, label), definition.data, b"\n")
        run = _Run(self._time)
        run.pieces, run.state = pieces, True
        run.size = sum(map(len, pieces))
        self._add(run)
        self._said = 0
        self._next_state = time.monotonic() + STATE_PAUSE
        self._between_states = max(_LEAST_BETWEEN_STATES, _STATE_SHARE * run.size)

    def _append(self, pieces: Iterable[Buffer], size: int) -> None:
        if self._closing or self.error is not None:
            return
        with self._lock:
            run = self._open
            if run is None:
                run = self._open = _Run(self._time)
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
                self._file.flush()
            self._put_on_disk(self._index.blocks(self.written_bytes, self._time))
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
        if run.state:
            self._index.add(self.written_bytes, run.time)
            self._put_on_disk(state_block(b"".join(run.pieces), run.time))
            self._text.restart()
        elif run.frame is None or not self._write_frame(run, run.frame):
            plain = self.waiting > _BEHIND
            self._put_on_disk(self._text.blocks(b"".join(run.pieces), run.time, plain=plain))

    def _write_frame(self, run: _Run, message: BlobMessage) -> bool:
        """Write a message with BLOBs. If that can't be, return False, and leave in the run what to write instead."""
        (head,) = run.pieces
        try:
            raw = message.raw()
            if raw is None:
                raise ValueError
            contents = [content.blocks(PIECE) for content in raw.contents]
            method = self._method(self.waiting - run.size > _FRAMES_BEHIND)
            made = self._frames.block(bytes(head), raw.envelope, contents, method, run.time)
        except (OSError, ValueError, MemoryError):  # the sender has truncated its file: `BlobMessage` reports that
            self._leave_out(run, message)
            return False
        if made is None:
            run.pieces += (*(message.parts(False) or (message.head(),)), b"\n")
            return False
        self._put_on_disk(made)
        return True

    @staticmethod
    def _method(behind: bool) -> str | None:
        """Return the method by which a frame is compressed."""
        methods = installed()
        wanted = LZ4 if behind else ZSTD
        return wanted if wanted in methods else next(iter(methods), None)

    def _put_on_disk(self, pieces: Iterable[Buffer]) -> None:
        for piece in pieces:
            self._file.write(piece)
            self.written_bytes += len(piece)
