"""The thread in which the event loop of a driver runs, as other threads see it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future


class LoopThread:
    """Has the event loop do what other threads ask for, while the driver runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._run = object()
        self._waited_for: set[Future[None]] = set()

    def begin(self) -> None:
        """A run begins, on the event loop of this thread."""
        self._run = object()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def end(self) -> None:
        """The run has ended; threads that wait for something wait no longer."""
        self._loop = None
        for future in list(self._waited_for):
            future.cancel()

    @property
    def run(self) -> object | None:
        """See `ThreadPort`."""
        return None if self._loop is None else self._run

    def elsewhere(self) -> bool:
        """Whether the event loop runs in another thread than this one."""
        return self._loop is not None and threading.get_ident() != self._thread

    def call(self, callback: Callable[[], object]) -> bool:
        """See `ThreadPort`."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop has been closed meanwhile
            return False
        return True

    def wait_for(self, sending: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """See `ThreadPort`."""
        loop = self._loop
        if loop is None:
            return False
        if not self.elsewhere():
            raise RuntimeError("send_threadsafe(block=True) was called in the event loop's own thread")
        coro = sending()
        try:
            future = asyncio.run_coroutine_threadsafe(coro, loop)
        except RuntimeError:  # the loop has been closed meanwhile
            coro.close()
            return False
        self._waited_for.add(future)
        future.add_done_callback(self._waited_for.discard)
        if self._loop is not loop:  # stopped before it could see that this thread waits
            future.cancel()
        try:
            future.result()
        except CancelledError:
            return False
        return True
