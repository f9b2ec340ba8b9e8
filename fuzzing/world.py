"""A world without kernel and clock for targets that need an event loop: everything in it happens when it is told to."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy  # noqa: F401  # otherwise a thread would load it, and have files open meanwhile, see `no_descriptor_left`

from indifast.protocol.escape import UNSAFE
from indifast.protocol.message import Buffer
from indifast.routing.bytequeue import ByteQueue
from indifast.transport.stream import Queue, Receiver

BEGINNING = 1000.0
"""Seconds on the clock of each new loop."""


class _Selector:
    """Waiting takes no time but moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        self._loop.now += timeout or 0.0
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop with a clock of its own, which moves only when it is told to.

    What is to be done in a thread is done by the loop itself, in its next turn. What a callback raises is kept in
    `errors`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINNING
        self.errors: list[dict[str, Any]] = []
        self._selector = _Selector(self)
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody waits in another thread."""

    def time(self) -> float:
        """Return the seconds on the clock."""
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call a function in the next turn."""
        future = self.create_future()

        def call() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except BaseException as error:
                future.set_exception(error)

        self.call_soon(call)
        return future

    def settle(self) -> None:
        """Run until there is nothing to be done at this moment."""
        ready = self._ready  # type: ignore[attr-defined]
        while ready:
            self._run_once()  # type: ignore[attr-defined]

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what becomes due."""
        end = self.now + seconds
        while True:
            self.settle()
            due = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            self._run_once()  # type: ignore[attr-defined]
        self.now = end


@contextmanager
def running() -> Iterator[VirtualLoop]:
    """Make a loop and let everything believe that it runs, and that its clock is the one of the system.

    Exceptions in callbacks, and faults in the log, fail the block.
    """
    loop = VirtualLoop()
    real, asleep = time.monotonic, asyncio._get_running_loop()
    log = LogCheck()
    logger = logging.getLogger("indifast")
    level, propagate = logger.level, logger.propagate
    asyncio._set_running_loop(loop)
    time.monotonic = loop.time
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield loop
        loop.settle()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.settle()
    finally:
        time.monotonic = real
        asyncio._set_running_loop(asleep)
        logger.removeHandler(log)
        logger.setLevel(level)
        logger.propagate = propagate
        loop.close()
    assert not loop.errors, f"a callback failed: {loop.errors}"
    log.check()


def file_of(content: bytes) -> int:
    """Return a descriptor of a file in memory, as those that carry BLOBs."""
    fd = os.memfd_create("fuzzing", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Fail if more descriptors are open after the block than before."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    if len(os.listdir("/proc/self/fd")) > before:
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before, "a descriptor was left open"


class LogCheck(logging.Handler):
    """Checks that what strangers say neither fails nor breaks the lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one line."""
        text = record.getMessage()
        if UNSAFE.search(text):
            self.problems.append(f"not safe: {text!r}")
        if record.exc_info:
            self.problems.append(f"{text}: {logging.Formatter().formatException(record.exc_info)}")

    def check(self) -> None:
        """Fail if there was a problem."""
        assert not self.problems, "\n".join(self.problems)


class MemoryStream:
    """A stream whose other end is the target: what is written is kept, what is to be read is handed in.

    Args:
        loop: The event loop.
        peername: The name of the peer.
        local: Whether descriptors can travel.
        window: Bytes that the peer takes before it stops reading; None for any number.
    """

    def __init__(self, loop: VirtualLoop, peername: str, *, local: bool = False, window: int | None = None) -> None:
        self.peername = peername
        self.local = local
        self.window = window
        self.read_limit = 1 << 30
        self.written = bytearray()
        self.descriptors = 0
        """Descriptors that were sent."""
        self.paused = False
        self.closed = False
        self._loop = loop
        self._receiver: Receiver | None = None
        self._outbox: Queue | None = None
        self._due = False

    # -- for the owner, see `indifast.transport.stream.Stream`

    @property
    def nearby(self) -> bool:
        """The peer seems to be far away, so that compression is agreed on."""
        return self.local

    def pace(self, queue: ByteQueue, method: Callable[[float], str] | None = None) -> None:
        """Cut the frames in the queue into small pieces."""
        queue.cut_frames(1000, 3000)

    def start(self, receiver: Receiver, outbox: Queue) -> None:
        """Begin to read and write."""
        self._receiver, self._outbox = receiver, outbox
        if outbox.pending:
            self.wake()

    def wake(self) -> None:
        """Write what the peer takes."""
        self._due = False
        outbox = self._outbox
        while outbox is not None and not self.closed and outbox.pending and self.window != 0:
            most = 1 << 16 if self.window is None else min(self.window, 1 << 16)
            parts, fds = outbox.take(most, 64)
            data = b"".join(bytes(part) for part in parts)[:most]
            outbox.sent(len(data), self._loop.now)
            if not data:
                return
            self.descriptors += len(fds)
            self.written += data
            if self.window is not None:
                self.window -= len(data)

    def wake_soon(self) -> None:
        """Write in the next turn."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self.wake)

    def pause_reading(self) -> None:
        """Take nothing in."""
        self.paused = True

    def resume_reading(self) -> None:
        """Take something in again."""
        self.paused = False

    def close(self, grace: float = 2.0) -> None:
        """Write what is queued, then end."""
        self.window = None
        self.wake()
        self.abort()

    def abort(self) -> None:
        """End."""
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._tell_lost)

    async def wait_closed(self) -> None:
        """It is closed at once."""

    def _tell_lost(self) -> None:
        if self._receiver is not None:
            self._receiver.connection_lost(None)

    # -- for the target

    @property
    def drained(self) -> bool:
        """Whether all that was to be written is written."""
        return self._outbox is None or not self._outbox.queued

    def deliver(self, data: Buffer, fds: Sequence[int] = ()) -> bool:
        """Hand bytes and descriptors to the reader; False if it takes none, and the descriptors are closed."""
        if self.closed or self.paused or self._receiver is None:
            for fd in fds:
                os.close(fd)
            return False
        self._receiver.data_received(data, 0, len(data), list(fds))
        return True

    def grant(self, nbytes: int) -> None:
        """Let the peer read so many bytes more."""
        if self.window is not None:
            self.window += nbytes
        self.wake()
