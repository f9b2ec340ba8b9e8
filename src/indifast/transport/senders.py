"""Threads that write what is large to sockets: the copies into the kernel then run on several cores at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol.limits import MOST_SENDERS
from indifast.protocol.message import Buffer
from indifast.transport.cores import usable_cores

if TYPE_CHECKING:
    from indifast._senders import Job, Pool

MOST = 4
"""Threads that are worth starting if nobody asks for more: memory is the limit from about there on."""

SMALLEST = 128 << 10
"""Bytes from which on writing takes longer than handing it to another thread, and hearing that it is done."""


SUPPORTED = hasattr(os, "eventfd")
"""Whether this system has what the threads need: only Linux does."""


def default_count() -> int:
    """Return how many threads pay off here: none if they would only take turns with the event loop."""
    if not SUPPORTED:
        return 0
    cores = usable_cores()
    return min(cores, MOST) if cores > 1 else 0


def check_count(count: int) -> None:
    """Check a number of threads that somebody asks for.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is out of range.
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"senders must be an integer, not {count!r}")
    if not 0 <= count <= MOST_SENDERS:
        raise ValueError(f"senders must be between 0 and {MOST_SENDERS}, not {count}")


def make_senders(count: int | None) -> Senders | None:
    """Return senders for the running event loop, or None where there are to be none.

    Args:
        count: The maximum number of threads; 0 for none, None for what pays off here.
    """
    count = default_count() if count is None else count
    return Senders(count) if count and SUPPORTED else None


class Senders:
    """The threads for the streams of one event loop. They are started when they are first needed.

    The threads are in the extension module `_senders`: they run no Python code. This class tells the event loop when
    they are done with something. All methods must be called in the event loop's thread.

    Args:
        count: The maximum number of threads, at least 1.
    """

    def __init__(self, count: int) -> None:
        self.smallest = SMALLEST
        """Bytes below which the streams write by themselves."""
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._pool: Pool | None = None
        self._closed = False

    @property
    def threads(self) -> int:
        """How many threads have been started."""
        return 0 if self._pool is None else self._pool.threads

    def send(self, fd: int, parts: Sequence[Buffer], callback: Callable[[int, int], object]) -> Job | None:
        """Begin to write, unless this is better done by the caller.

        Args:
            fd: The socket, which must stay open until the job is done or withdrawn.
            parts: What to write.
            callback: Called from the loop when the threads are done with it. Its arguments are the number of bytes that
                were written, and an error number: 0 if all were, EAGAIN if the kernel takes no more for now, ECANCELED
                after `close`. It must not raise exceptions.

        Returns:
            The job, for `withdraw`; None if the caller has to write.
        """
        if self._closed or sum(map(len, parts)) < self.smallest:
            return None
        try:
            return (self._pool or self._open()).submit(fd, parts, callback)
        except (MemoryError, OSError):  # OSError: no descriptor is free
            return None

    def withdraw(self, job: Job) -> None:
        """Take a job back, because its socket is to be closed. Its callback is not called anymore."""
        if self._pool is not None:
            self._pool.withdraw(job)

    def close(self) -> None:
        """End the threads. What they have not written, streams that are still open write by themselves."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is None or self._loop.is_closed():
            return  # a pool that nobody refers to ends its threads, and tells nobody
        self._loop.remove_reader(pool.event)
        pool.close()

    def _open(self) -> Pool:
        from indifast._senders import Pool  # not before frames are sent, as the start should not wait for it

        pool = Pool(self._count)
        self._loop.add_reader(pool.event, pool.reap)
        self._pool = pool
        return pool
