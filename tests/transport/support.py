"""Receivers, outboxes and message readers that record what happens."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from indifast._parser import Element
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.transport.incoming import MessageReader
from indifast.transport.shm import DescriptorError
from indifast.transport.stream import Receiver, Stream


class Recorder:
    """A receiver that keeps everything. `eof_received` returns `half_open`."""

    def __init__(self, half_open: bool = False) -> None:
        self.data = bytearray()
        self.chunks: list[bytes] = []
        self.fds: list[int] = []
        self.eof = False
        self.lost: list[Exception | None] = []
        self.half_open = half_open

    def data_received(self, data, start: int, end: int, fds: list[int]) -> None:
        chunk = bytes(memoryview(data)[start:end])
        self.data += chunk
        self.chunks.append(chunk)
        self.fds += fds

    def eof_received(self) -> bool:
        self.eof = True
        return self.half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Pieces:
    """An outbox of byte strings, which may have descriptors."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[memoryview, Sequence[int]]] = deque()
        self.stream: Stream | None = None
        self.written = 0

    def feed(self, stream: Stream, receiver: Receiver) -> None:
        """Start a stream that writes what is put into this outbox, and wake it when there is something to write."""
        self.stream = stream
        stream.start(receiver, self)

    def put(self, data: bytes, fds: Sequence[int] = ()) -> None:
        was_empty = not self.waiting
        self.waiting.append((memoryview(data), fds))
        if was_empty and self.stream is not None:
            self.stream.wake_soon()

    @property
    def pending(self) -> bool:
        return bool(self.waiting)

    @property
    def queued(self) -> int:
        return sum(len(data) for data, _ in self.waiting)

    def take_single(self) -> None:
        return None

    def sent_single(self, now: float) -> None:
        raise AssertionError("nothing was given out")

    def take(self, max_bytes: int, max_parts: int) -> tuple[list[memoryview], Sequence[int]]:
        parts: list[memoryview] = []
        room = max_bytes
        for data, fds in self.waiting:
            if (parts and fds) or len(parts) == max_parts or not room:
                break
            parts.append(data[:room])
            room -= len(parts[-1])
        return parts, self.waiting[0][1]

    def sent(self, nbytes: int, now: float) -> bool:
        self.written += nbytes
        while nbytes:
            data, _ = self.waiting.popleft()
            if nbytes < len(data):
                self.waiting.appendleft((data[nbytes:], ()))
                return True
            nbytes -= len(data)
        return bool(self.waiting)


def read_all(sock: socket.socket) -> int:
    """Read to the end, and return how many bytes there were."""
    total = 0
    with sock:
        while data := sock.recv(1 << 20):
            total += len(data)
    return total


def memory_file(content: bytes) -> int:
    """Return a descriptor of a new file in memory."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


class Timer:
    """A timer as an event loop returns it. The test decides when it fires."""

    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay = delay
        self.fire = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ReaderLog:
    """The owner of a message reader, which records what the reader reports."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, *, relay: bool = True) -> None:
        self.reader = MessageReader(self, limits, self.call_later, relay=relay)
        self.timers: list[Timer] = []
        self.skips: list[str] = []
        self.refusals: list[tuple[str | None, BaseException]] = []
        self.floods: list[DescriptorError] = []
        self.outgrowths: list[tuple[int, int]] = []
        self.stalls: list[int] = []
        self.faults: list[str] = []
        self.violations: list[str] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, callback))
        return self.timers[-1]

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        self.skips.append(reason)

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        self.refusals.append((element.name, error.with_traceback(None)))  # the traceback refers to what was read

    def flooded(self, error: DescriptorError, /) -> None:
        self.floods.append(error)

    def outgrown(self, held: int, most: int, /) -> None:
        self.outgrowths.append((held, most))

    def stalled(self, held: int, /) -> None:
        self.stalls.append(held)

    def missing(self, what: str, /) -> None:
        self.faults.append(what)

    def violated(self, why: str, /) -> None:
        self.violations.append(why)
