"""Threads that write for the streams of a simulated site."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Sequence

from indifast.protocol.message import Buffer
from indifast.routing.bytequeue import ByteQueue
from indifast.transport.stream import SocketStream
from tests.simulation.journal import Journal
from tests.simulation.network import SimulatedSocket


class JournalledStream(SocketStream):
    """A stream whose journal knows whether frames go in pieces."""

    def __init__(self, sock: SimulatedSocket, name: str, journal: Journal) -> None:
        super().__init__(sock, name)  # type: ignore[arg-type]
        self._journal = journal

    @property
    def nearby(self) -> bool:
        """Simulated peers are far from each other, so what came as base64 goes on raw."""
        return False

    def pace(self, queue: ByteQueue, method: Callable[[float], str] | None = None) -> None:
        super().pace(queue, method)
        self._journal.cut()


class ModelledJob:
    """What a modelled thread is writing."""

    def __init__(self, data: bytes, callback: Callable[[int, int], object]) -> None:
        self.data = data
        self.callback = callback
        self.written = 0
        self.withdrawn = False


class ModelledSenders:
    """Threads as those of `Senders`, in virtual time: for a while, nobody knows how much of a job is written."""

    smallest = 0

    def __init__(self, sock: SimulatedSocket, rng: random.Random) -> None:
        self._socket = sock
        self._rng = rng
        self._loop = asyncio.get_running_loop()

    def send(self, fd: int, parts: Sequence[Buffer], callback: Callable[[int, int], object]) -> ModelledJob:
        assert fd == self._socket.fileno()
        job = ModelledJob(b"".join(parts), callback)
        self._loop.call_later(self._rng.choice((0.0, 0.001, 0.01)), self._go_on, job)
        return job

    def withdraw(self, job: ModelledJob) -> None:
        job.withdrawn = True

    def _go_on(self, job: ModelledJob) -> None:
        if job.withdrawn:
            return
        left = job.data[job.written :]
        wanted = left if job.written else left[: self._rng.choice((100, 1000, len(left)))]
        try:
            nbytes = self._socket.send(wanted)
        except BlockingIOError:
            job.callback(job.written, errno.EAGAIN)
            return
        except OSError as error:
            assert error.errno is not None
            job.callback(job.written, error.errno)
            return
        job.written += nbytes
        if nbytes < len(wanted):
            job.callback(job.written, errno.EAGAIN)
        elif job.written == len(job.data):
            job.callback(job.written, 0)
        else:
            self._loop.call_later(0.001, self._go_on, job)
