"""Standard streams that never wait for their reader, and say what was lost.

A pipe that nobody reads stops whoever writes to it, and so does a terminal after Ctrl-S. A server must not stop for
that, and it can't keep everything it has to say. So lines wait in a queue of limited size; those beyond it are counted,
and a line in their place says how many are missing.

A line is written at once, by whoever has it to say, whenever the system takes it: the order is kept, nothing is late,
and a crash loses nothing. Only what the system does not take has to wait, for a thread that writes it when there is
room again.
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

TYPE_CHECKING = False  # as in `typing`, which is not to be imported before a server listens
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BOUND = 1 << 20
"""Bytes that wait. A single line may be longer when nothing else waits."""

PATIENCE = 1.0
"""Seconds that a program takes at its end to write what still waits."""

_PIECE = 64 << 10  # bytes written at once
_KEYS = 4096  # for which a line is kept beyond the bound
_PAUSE = 0.05  # seconds, when the system says that it takes something, and then does not

_AGAIN = "/proc/self/fd/{}"
"""Opens the file behind a descriptor once more, with flags of its own (Linux)."""


class LossyWriter:
    """Writes lines to a descriptor, from any thread, and never waits for its reader.

    `tell` makes a line out of the sentence that says how many are missing. `strict`: an error (the reader has gone,
    the disk is full) is raised, by the next `put` at the latest; otherwise it costs the lines that it comes on.
    """

    def __init__(self, fd: int, tell: Callable[[str], str], *, strict: bool = False) -> None:
        self._sink = _open_sink(fd)
        self._tell = tell
        self._strict = strict
        self._error: OSError | None = None
        # Finalizers and signal handlers write wherever they happen to run, also in the middle of this. The lock lets
        # them in; what they write goes to `_come`, for whoever is at work further out (`_busy`).
        self._lock = threading.RLock()
        self._busy = False
        self._come: deque[_Line] = deque()
        self._queue: deque[_Line] = deque()
        self._queued = 0  # bytes
        self._begun = 0  # bytes of the first line that have been written
        self._kept: dict[str, _Line] = {}  # beyond the bound, in the order in which they came
        self._lost = 0
        self._torn = False  # the end of a line was lost whose beginning has been written
        self._waiting = False  # there is a thread that writes when it can
        self._end: float | None = None  # when the program stops waiting, once it has begun to end

    def put(self, data: bytes, key: str | None = None) -> None:
        """Write a line, or several that belong together.

        A line with a key is dropped for nothing but a later one with the same key, and is written first in the end.
        """
        if not data or not self._enter():
            return
        try:
            if self._busy:
                self._come.append(_Line(data, key))
                return
            if self._queue or self._missing:
                self._come.append(_Line(data, key))
            elif (written := self._write_at_once(data)) < len(data):
                self._come.appendleft(_Line(data, key))
                self._begun = written
            if self._come:
                self._work()
            error, self._error = self._error, None
        finally:
            self._lock.release()
        if self._end is not None:
            self._write_until(self._end)
        if error is not None and self._strict:
            raise error

    def finish(self, seconds: float) -> None:
        """Write what waits, lines with keys first, for so many seconds at most, and what is still put in that time."""
        self._end = time.monotonic() + seconds
        if self._enter():
            try:
                self._work(self._keys_first)
            finally:
                self._lock.release()
        self._write_until(self._end)
        self._sink.finish(max(0.0, self._end - time.monotonic()))

    def begin_anew(self) -> None:
        """For the child of a fork: what waits is the parent's, and so is the thread."""
        self._lock = threading.RLock()
        self._come.clear()
        self._queue.clear()
        self._kept.clear()
        self._queued = self._begun = self._lost = 0
        self._torn = self._busy = self._waiting = False

    # -- what waits

    @property
    def _missing(self) -> bool:
        """The queue lacks lines at its end."""
        return bool(self._lost or self._kept)

    def _line_up(self, line: _Line) -> None:
        if self._missing and self._queued <= BOUND // 2:  # so notes are far apart, however slow the reader is
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
        """Queue a note of how many lines are missing, and those that were kept."""
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
        begun = [self._queue.popleft()] if self._begun else []
        keys = [line for line in self._queue if line.key is not None]
        others = [line for line in self._queue if line.key is None]
        self._queue = deque([*begun, *keys, *others])
        return True

    def _append(self, line: _Line) -> None:
        self._queue.append(line)
        self._queued += len(line.data)

    def _remove(self, nbytes: int, *, lost: bool = False) -> None:
        """So many bytes at the head of the queue have been written, or are lost."""
        self._torn = lost and (self._torn or self._begun > 0)
        self._begun += nbytes
        while self._queue and self._begun >= len(self._queue[0].data):
            line = self._queue.popleft()
            self._begun -= len(line.data)
            self._queued -= len(line.data)
            if lost:
                self._lost += line.count

    # -- writing

    def _enter(self) -> bool:
        """Take the lock. False: it can't be had, as the interpreter has ended a thread that held it."""
        return self._lock.acquire(timeout=-1 if self._end is None else max(0.0, self._end - time.monotonic()))

    def _work(self, act: Callable[[], bool] | None = None) -> bool:
        """Queue what has come, then do `act`, or else write unless a thread does. The lock is held."""
        done = True
        while True:
            self._busy = True
            try:
                while self._come:
                    self._line_up(self._come.popleft())
                if act is not None:
                    done = act()
                while act is None and self._queue and not self._waiting and self._write_piece():
                    pass
            finally:
                self._busy = False
            act = None
            if not self._come:
                return done

    def _write_at_once(self, data: bytes) -> int:
        """Write a line when nothing waits; gives how many bytes of it went."""
        self._busy = True
        try:
            return self._sink.write(data)
        except OSError:  # it comes again when the line is written from the queue
            return 0
        finally:
            self._busy = False

    def _write_piece(self) -> bool:
        """Write what the system takes of the next piece. False: it takes nothing now."""
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
        """The head of the queue: the rest of a line, or as many whole ones as are worth a call."""
        piece = memoryview(self._queue[0].data)[self._begun :]
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
            # A `Thread` would wait until it runs, with our lock: for ever, should it write something first.
            start_new_thread(self._write_in_thread, ())
        except RuntimeError:  # the interpreter ends, or there are too many: each line tries anew
            self._waiting = False

    def _write_in_thread(self) -> None:
        try:
            while self._end is None:
                self._sink.wait(None)
                if self._end is None and not self._go_on():
                    break
        finally:
            self._waiting = False

    def _write_until(self, end: float) -> None:
        while self._queue and (left := end - time.monotonic()) > 0:
            self._sink.wait(left)
            if not self._go_on():
                break

    def _go_on(self) -> bool:
        """Write a piece of what waits. False: nothing waits any more."""
        if not self._enter():
            return False
        try:
            went = not self._queue or self._work(self._write_piece)
            if not self._queue:
                self._waiting = False
                return False
        finally:
            self._lock.release()
        if not went:
            time.sleep(_PAUSE)
        return True


class _Line:
    """Bytes that are written or lost together; `count` is how many lines are missing when they are lost."""

    __slots__ = ("count", "data", "key")

    def __init__(self, data: bytes, key: str | None = None, count: int | None = None) -> None:
        self.data = data
        self.key = key
        self.count = max(1, data.count(b"\n")) if count is None else count


# -- descriptors, written to without waiting


class _Sink:
    """A descriptor on which writing does not wait: it raises BlockingIOError, or writes a part."""

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
        """Wait until what was taken is where it goes."""


class _Socket(_Sink):
    """A socket, whose flags others share: each call says that it does not wait."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._sock = socket.socket(fileno=os.dup(fd))

    def write(self, data: ReadableBuffer) -> int:
        return self._sock.send(data, socket.MSG_DONTWAIT)


class _Pump(_Sink):
    """What can't be opened once more, such as another user's terminal: a thread writes to it what we put in a pipe."""

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
    """The means to write to a descriptor without waiting, and without changing it for others who have it, too."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(fd)
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) or not os.get_blocking(fd):
        return _Sink(fd)  # a file: it has no reader to wait for
    try:
        return _Sink(os.open(_AGAIN.format(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return _Pump(fd)


# -- the standard streams


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
    """Replace `sys.stderr` or `sys.stdout`, whichever is named, by a stream that never waits for its reader.

    It takes all that Python writes there up to the end of the process: tracebacks, warnings, `print`. Where the stream
    has no descriptor it stays, and the result is None. See `LossyWriter` for the other arguments.
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
    setattr(sys, f"__{name}__", never)  # the interpreter goes back to this one in its last moments
    atexit.register(lambda: writer.finish(PATIENCE))
    os.register_at_fork(after_in_child=writer.begin_anew)
    return writer
