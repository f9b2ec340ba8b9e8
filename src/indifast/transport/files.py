"""A stream over descriptors that are not sockets: pipes, terminals, regular files and devices such as /dev/null."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Any

from indifast.protocol.message import Buffer
from indifast.transport.stream import (
    BLOCKED,
    CLOSED,
    CLOSING,
    IOV_MAX,
    OPEN,
    OVER,
    PAUSED,
    READY,
    WATCHED,
    Stream,
)

_CHUNK = 1 << 20
_WRITE_BUDGET = 4 << 20
_PIPE_SIZE = 1 << 20  # the most that an unprivileged process may have

_LAST_WORDS = 1.0
"""Seconds to read what a peer that reads nothing any more has written."""


class _Worker:
    """A thread that makes blocking calls in order.

    It is a daemon, because a call that never returns must not keep the process alive.
    """

    def __init__(self, loop: AbstractEventLoop, name: str) -> None:
        self._loop = loop
        import queue

        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None] | None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `job` in the thread, then call `done` on the loop with its result, or with its OSError or MemoryError."""
        self._jobs.put((job, done))

    def finish(self, job: Callable[[], Any]) -> None:
        """Run a last `job` after all others, then end the thread."""
        self._jobs.put((job, None))

    def _run(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                result = job()
            except (OSError, MemoryError) as exc:
                result = exc
            if done is None:
                return
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(done, result)


class FileStream(Stream):
    """A stream that reads one descriptor and writes another, both of which it owns.

    Descriptors that epoll can watch are non-blocking; others are read and written by a thread. Descriptors that are
    shared with other processes must be made by `private`, so that their flags do not change.
    """

    def __init__(self, source: int, sink: int, name: str) -> None:
        super().__init__(name, False)
        self._source = source
        self._sink = sink
        self._reader = None if _can_poll(source) else _Worker(self._loop, f"read {name}")
        self._writer = None if _can_poll(sink) else _Worker(self._loop, f"write {name}")
        self._readable = self._reading(source, self._read)  # the source may be a socket
        self._read_asked = False
        self._watching_output = False

    def _open_input(self) -> None:
        if self._reader is None:
            self._loop.add_reader(self._source, self._readable)
        else:
            self._ask_reader()

    def _shut_input(self) -> None:
        if self._reader is None:
            self._loop.remove_reader(self._source)

    def _read(self) -> None:
        try:
            block, room = self._buffer.room()
        except MemoryError:
            self._read_later()
            return
        start = self._buffer.start
        try:
            nbytes = os.readv(self._source, [room])
            if nbytes:
                self._deliver(block, start, self._buffer.fill(nbytes), [])
            else:
                self._end_of_input()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._input_failed(exc)
        except MemoryError:  # perhaps after something was read, which is lost then
            self._no_memory("read from it")

    def _input_failed(self, exc: OSError) -> None:
        if os.isatty(self._source):
            self._end_of_input()  # EIO: the terminal was closed
        else:
            self._end(exc, at_once=True)

    # -- Input in a thread: one read at a time, each into a new buffer, because receivers may keep it

    def _ask_reader(self) -> None:
        if self._reader is not None and not self._read_asked:
            self._read_asked = True
            self._reader.submit(lambda: os.read(self._source, _CHUNK), self._was_read)

    def _was_read(self, result: bytes | OSError | MemoryError) -> None:
        self._read_asked = False
        if self._life is CLOSED:
            return
        if isinstance(result, MemoryError):
            self._buffer.relieve()
            self._read_later()
        elif isinstance(result, OSError):
            self._input_failed(result)
        elif not result:
            self._end_of_input()
        else:
            self._deliver(result, 0, len(result), [])
            if self._input is WATCHED:
                self._ask_reader()

    # -- Output

    def _write(self) -> None:
        if self._writer is not None:
            self._ask_writer()
            return
        outbox = self._outbox
        assert outbox is not None
        budget = _WRITE_BUDGET
        while outbox.pending:
            nbytes = 0
            try:
                parts, _ = outbox.take(_CHUNK, IOV_MAX)
                nbytes = os.writev(self._sink, parts) if parts else 0
            except (BlockingIOError, InterruptedError):
                self._output = BLOCKED
            except OSError as exc:
                outbox.sent(0, time.monotonic())
                self._write_failed(exc)
                return
            outbox.sent(nbytes, time.monotonic())
            budget -= nbytes
            if budget <= 0:
                self._output = BLOCKED
            if not parts:
                break
            if self._output is BLOCKED:
                self._watch_output()
                return
        if self._life is CLOSING:
            self._finish_if_flushed()

    def _watch_output(self) -> None:
        if not self._watching_output:
            self._watching_output = True
            self._loop.add_writer(self._sink, self._writable)

    def _unwatch_output(self) -> None:
        if self._watching_output:
            self._watching_output = False
            self._loop.remove_writer(self._sink)

    def _ask_writer(self) -> None:
        outbox = self._outbox
        assert outbox is not None
        assert self._writer is not None
        if outbox.pending:
            parts, _ = outbox.take(_CHUNK, IOV_MAX)
            if parts:
                self._output = BLOCKED
                self._writer.submit(lambda: _write_whole(self._sink, parts), self._was_written)
                return
            outbox.sent(0, time.monotonic())
        if self._life is CLOSING:
            self._finish_if_flushed()

    def _was_written(self, result: int | OSError | MemoryError) -> None:
        if self._life is CLOSED:
            return
        self._output = READY
        assert self._outbox is not None
        if not isinstance(result, int):
            self._outbox.sent(0, time.monotonic())
            self._write_failed(result)
            return
        self._outbox.sent(result, time.monotonic())
        self.wake()

    def _write_failed(self, exc: Exception) -> None:
        """End the stream, but if there is no reader any more, not before everything that it has written is read."""
        if isinstance(exc, BrokenPipeError) and self._input is not OVER and self._life is OPEN:
            self._failure = exc
            self._output_failed()
            self._unwatch_output()
            self._loop.call_later(_LAST_WORDS, self._end_unless_paused)
        else:
            self._end(exc)

    def _end_unless_paused(self) -> None:
        if self._input is PAUSED:
            self._loop.call_later(_LAST_WORDS, self._end_unless_paused)
        else:
            self._end(self._failure)

    def _release(self) -> None:
        self._unwatch_output()
        for worker, fd in ((self._reader, self._source), (self._writer, self._sink)):
            if worker is None:
                os.close(fd)
            else:  # the thread may be using it: once closed, its number could belong to another file
                worker.finish(lambda fd=fd: os.close(fd))  # type: ignore[misc]


def _write_whole(fd: int, parts: Sequence[Buffer]) -> int:
    total = 0
    for part in parts:
        view = memoryview(part)
        while view:
            written = os.write(fd, view)
            view = view[written:]
            total += written
    return total


def _can_poll(fd: int) -> bool:
    """Return whether calls do not block and epoll can watch the descriptor, unlike regular files or /dev/null."""
    if os.get_blocking(fd):
        return False
    with select.epoll() as probe:
        try:
            probe.register(fd)
        except PermissionError:
            return False
    return True


def private(fd: int) -> int:
    """Return a new descriptor for what `fd` reads or writes.

    Pipes and terminals are reopened, so that O_NONBLOCK does not affect other processes that have them open (a shell
    would get errors from its terminal). A descriptor that can't be reopened is duplicated: it keeps its flags and is
    used by a thread.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.dup(fd)


def enlarge_pipe(fd: int) -> None:
    """Give a pipe more room, so that writer and reader take fewer turns to pass a BLOB."""
    with contextlib.suppress(OSError, AttributeError):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)  # type: ignore[attr-defined,unused-ignore]
