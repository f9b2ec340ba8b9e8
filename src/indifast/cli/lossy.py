"""Standard streams that never wait for their reader, and report lost lines.

A pipe that nobody reads blocks its writer, and so does a terminal after Ctrl-S. A server must not stop for that, and it
can't keep an unlimited amount of output. So lines wait in a queue of limited size; further ones are counted, and a line
in their place says how many are missing.

A line is written at once, by the thread that produced it, if the system accepts it: the order is kept, nothing is late,
and a crash loses nothing. Only what the system does not accept waits, for a thread that writes it when there is room
again.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import socket
import stat
import sys
import threading
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from itertools import islice

TYPE_CHECKING = False  # as in `typing`, which must not be imported before a server listens
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BOUND = 1 << 20
"""Most bytes that may wait. A single line may be longer if nothing else waits."""

PATIENCE = 1.0
"""Seconds that a program spends at its end on writing what still waits."""

_PIECE = 64 << 10  # bytes per write
_KEYS = 4096  # most keys for which a line is kept beyond the bound
_PAUSE = 0.05  # seconds to wait if a descriptor is reported writable but accepts nothing

_AGAIN = "/proc/self/fd/{}"
"""Path that opens the file behind a descriptor again, with separate flags (Linux)."""


class LossyWriter:
    """Writes lines to a descriptor, from any thread, and never waits for its reader.

    Args:
        fd: The descriptor.
        tell: Makes a line out of the sentence that says how many lines are missing.
        strict: Raise errors (the reader is gone, the disk is full), by the next `put` at the latest. Otherwise the
            lines whose writing fails are lost.
    """

    def __init__(self, fd: int, tell: Callable[[str], str], *, strict: bool = False) -> None:
        self._sink = _open_sink(fd)
        self._tell = tell
        self._strict = strict
        self._error: OSError | None = None
        # Finalizers and signal handlers may write at any point, even while this code runs. So the lock is reentrant;
        # what they write goes to `_arrived`, for the outer call (`_busy`).
        self._lock = threading.RLock()
        self._busy = False
        self._arrived: deque[_Line] = deque()
        self._queue: deque[_Line] = deque()
        self._queued = 0  # bytes
        self._head_written = 0  # bytes of the first line that have been written
        self._kept: dict[str, _Line] = {}  # lines with keys beyond the bound, in the order in which they came
        self._lost = 0
        self._torn = False  # the beginning of a line was written and its end lost
        self._waiting = False  # a thread waits to write the queue
        self._end: float | None = None  # when the program stops waiting; set when it begins to end

    def put(self, data: bytes, key: str | None = None) -> None:
        """Write a line, or several that belong together.

        Args:
            data: The line, or lines, with their line breaks.
            key: A line with a key is dropped only for a later one with the same key, or if too many keys are kept.
                When the program ends, lines with keys are written first.

        Raises:
            OSError: Writing failed, now or since the last call (only if `strict`).
        """
        if not data or not self._enter():
            return
        try:
            if self._busy:
                self._arrived.append(_Line(data, key))
                return
            if self._queue or self._missing:
                self._arrived.append(_Line(data, key))
            elif (written := self._write_at_once(data)) < len(data):
                self._arrived.appendleft(_Line(data, key))
                self._head_written = written
            if self._arrived:
                self._work()
            error, self._error = self._error, None
        finally:
            self._lock.release()
        if self._end is not None:
            self._write_until(self._end)
        if error is not None and self._strict:
            raise error

    def finish(self, seconds: float) -> None:
        """Spend at most `seconds` on writing what waits, lines with keys first, and what is put in the meantime."""
        self._end = time.monotonic() + seconds
        if self._enter():
            try:
                self._work(self._keys_first)
            finally:
                self._lock.release()
        self._write_until(self._end)
        self._sink.finish(max(0.0, self._end - time.monotonic()))

    def begin_anew(self) -> None:
        """Start afresh in the child of a fork: what waits belongs to the parent, and so does the thread."""
        self._lock = threading.RLock()
        self._arrived.clear()
        self._queue.clear()
        self._kept.clear()
        self._queued = self._head_written = self._lost = 0
        self._torn = self._busy = self._waiting = False

    # -- Queue

    @property
    def _missing(self) -> bool:
        """Whether lines are missing at the end of the queue."""
        return bool(self._lost or self._kept)

    def _line_up(self, line: _Line) -> None:
        if self._missing and self._queued <= BOUND // 2:  # half of it, so that notes are far apart for a slow reader
            self._own_up()
        if not self._missing and (not self._queue or self._queued + len(line.data) <= BOUND):
            self._append(line)
        elif line.key is None:
            self._lost += line.count
        else:
            older = self._kept.pop(line.key, None)
            if older is None and len(self._kept) >= _KEYS:
                older = self._kept.pop(next(iter(self._kept)))
            if older is not None:
                self._lost += older.count
            self._kept[line.key] = line

    def _own_up(self) -> None:
        """Queue a note that says how many lines are missing, and then the lines that were kept."""
        if self._lost:
            lines = "1 line is" if self._lost == 1 else f"{self._lost} lines are"
            note = self._tell(f"{lines} missing here: not written in time")
            start = b"\n" if self._torn else b""
            self._append(_Line(start + note.encode("utf-8", "backslashreplace") + b"\n", count=self._lost))
            self._lost = 0
        for line in self._kept.values():
            self._append(line)
        self._kept.clear()

    def _keys_first(self) -> bool:
        self._own_up()
        partial = [self._queue.popleft()] if self._head_written else []
        keys = [line for line in self._queue if line.key is not None]
        others = [line for line in self._queue if line.key is None]
        self._queue = deque([*partial, *keys, *others])
        return True

    def _append(self, line: _Line) -> None:
        self._queue.append(line)
        self._queued += len(line.data)

    def _remove(self, nbytes: int, *, lost: bool = False) -> None:
        """Remove `nbytes` from the head of the queue: they were written, or are lost."""
        self._torn = lost and (self._torn or self._head_written > 0)
        self._head_written += nbytes
        while self._queue and self._head_written >= len(self._queue[0].data):
            line = self._queue.popleft()
            self._head_written -= len(line.data)
            self._queued -= len(line.data)
            if lost:
                self._lost += line.count

    # -- Output

    def _enter(self) -> bool:
        """Acquire the lock. False if that fails because the interpreter ended a thread that held it."""
        return self._lock.acquire(timeout=-1 if self._end is None else max(0.0, self._end - time.monotonic()))

    def _work(self, act: Callable[[], bool] | None = None) -> bool:
        """Queue what has arrived, then call `act`, or without one write unless a thread does. The lock must be held."""
        done = True
        while True:
            self._busy = True
            try:
                while self._arrived:
                    self._line_up(self._arrived.popleft())
                if act is not None:
                    done = act()
                while act is None and self._queue and not self._waiting and self._write_piece():
                    pass
            finally:
                self._busy = False
            act = None
            if not self._arrived:
                return done

    def _write_at_once(self, data: bytes) -> int:
        """Write a line while nothing waits, and return how many of its bytes were written."""
        self._busy = True
        try:
            return self._sink.write(data)
        except OSError:  # happens again when the line is written from the queue, and is handled there
            return 0
        finally:
            self._busy = False

    def _write_piece(self) -> bool:
        """Write as much of the next piece as the system accepts. False if it accepts nothing now."""
        piece = self._piece()
        try:
            self._remove(self._sink.write(piece))
        except BlockingIOError:
            self._write_when_possible()
            return False
        except OSError as error:
            self._error = error
            self._remove(len(piece), lost=True)
        else:
            if self._missing and self._queued <= BOUND // 2:
                self._own_up()
        return True

    def _piece(self) -> bytes | memoryview:
        """Return the head of the queue: the rest of a line, with as many whole lines as fit in one write."""
        piece = memoryview(self._queue[0].data)[self._head_written :]
        if len(self._queue) == 1 or len(piece) >= _PIECE:
            return piece
        size, pieces = len(piece), [piece]
        for line in islice(self._queue, 1, None):
            size += len(line.data)
            if size > _PIECE:
                break
            pieces.append(memoryview(line.data))
        return b"".join(pieces)

    def _write_when_possible(self) -> None:
        if self._waiting or self._end is not None:
            return
        self._waiting = True
        try:
            # `Thread.start` waits until the thread runs. We hold the lock: if the thread wrote something first, that
            # would be a deadlock.
            start_new_thread(self._write_in_thread, ())
        except RuntimeError:  # the interpreter is ending, or there are too many threads: each line tries again
            self._waiting = False

    def _write_in_thread(self) -> None:
        try:
            while self._end is None:
                self._sink.wait(None)
                if self._end is None and not self._write_more():
                    break
        finally:
            self._waiting = False

    def _write_until(self, end: float) -> None:
        while self._queue and (left := end - time.monotonic()) > 0:
            self._sink.wait(left)
            if not self._write_more():
                break

    def _write_more(self) -> bool:
        """Write a piece of the queue. False if nothing waits any more."""
        if not self._enter():
            return False
        try:
            progress = not self._queue or self._work(self._write_piece)
            if not self._queue:
                self._waiting = False
                return False
        finally:
            self._lock.release()
        if not progress:
            time.sleep(_PAUSE)
        return True


class _Line:
    """Bytes that are lost together. `count` is how many lines are then missing."""

    __slots__ = ("count", "data", "key")

    def __init__(self, data: bytes, key: str | None = None, count: int | None = None) -> None:
        self.data = data
        self.key = key
        self.count = max(1, data.count(b"\n")) if count is None else count


# -- Writing to descriptors without waiting


class _Sink:
    """A descriptor on which writing does not block: it raises BlockingIOError, or writes a part."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: ReadableBuffer) -> int:
        return os.write(self._fd, data)

    def wait(self, seconds: float | None) -> None:
        """Wait until something can be written, or writing fails."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(None if seconds is None else seconds * 1000)

    def finish(self, seconds: float) -> None:
        """Wait at most `seconds` until what was accepted has reached its destination."""


class _Socket(_Sink):
    """A socket. Other processes share its flags, so each call asks not to block."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._sock = socket.socket(fileno=os.dup(fd))

    def write(self, data: ReadableBuffer) -> int:
        return self._sock.send(data, socket.MSG_DONTWAIT)


class _Pump(_Sink):
    """A file that can't be opened again, such as another user's terminal: a thread copies a pipe of ours to it."""

    def __init__(self, fd: int) -> None:
        source, ours = os.pipe()
        os.set_blocking(ours, False)
        super().__init__(ours)
        self._thread = threading.Thread(target=_pump, args=(source, os.dup(fd)), name=f"descriptor {fd}", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> None:
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._thread.join(seconds)


def _pump(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(source, _PIECE):
            while data:
                data = data[os.write(target, data) :]
    os.close(source)  # so that writing to the pipe fails from now on
    os.close(target)


def _open_sink(fd: int) -> _Sink:
    """Return a way to write to a descriptor without blocking, and without changing flags that others share."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) or not os.get_blocking(fd):
        return _Sink(fd)  # a file, which has no reader to wait for, or a descriptor that does not block
    try:
        return _Sink(os.open(_AGAIN.format(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return _Pump(fd)


# -- Standard streams


class _Raw(io.RawIOBase):
    """A `LossyWriter` as a file."""

    def __init__(self, writer: LossyWriter, fd: int, name: str) -> None:
        super().__init__()
        self.name = name
        self._writer = writer
        self._descriptor = fd

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        text = bytes(data)
        self._writer.put(text)
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def never_wait(
    name: str, tell: Callable[[str], str] = lambda sentence: f"({sentence})", *, strict: bool = False
) -> LossyWriter | None:
    """Replace `sys.stderr` or `sys.stdout` by a stream that never waits for its reader.

    Everything that Python writes there goes through it until the process ends: tracebacks, warnings, `print`.

    Args:
        name: "stderr" or "stdout".
        tell: See `LossyWriter`.
        strict: See `LossyWriter`.

    Returns:
        The writer behind the new stream, or None if the old stream has no descriptor: then it stays.
    """
    stream = getattr(sys, name)
    try:
        fd = stream.fileno()
        stream.flush()
        writer = LossyWriter(fd, tell, strict=strict)
    except (AttributeError, OSError, ValueError):  # ValueError: closed, or io.UnsupportedOperation
        return None
    raw = _Raw(writer, fd, f"<{name}>")
    never = io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=True)
    setattr(sys, name, never)
    setattr(sys, f"__{name}__", never)  # the interpreter restores this one as it shuts down
    atexit.register(lambda: writer.finish(PATIENCE))
    os.register_at_fork(after_in_child=writer.begin_anew)
    return writer
