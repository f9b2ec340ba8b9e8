"""Access from other threads to the event loop of a running driver."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future


class LoopThread:
    """Runs what other threads ask for on the event loop, while the driver runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._run = object()
        self._waited_for: set[Future[None]] = set()

    def begin(self) -> None:
        """Note that a run begins on the event loop of this thread."""
        self._run = object()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def end(self) -> None:
        """Note that the run has ended; release the threads that are waiting for the event loop."""
        self._loop = None
        for future in list(self._waited_for):
            future.cancel()

    @property
    def run(self) -> object | None:
        """Identity of the current run; None while the driver does not run. See `ThreadPort`."""
        return None if self._loop is None else self._run

    def elsewhere(self) -> bool:
        """Return whether the event loop runs in a thread other than the current one."""
        return self._loop is not None and threading.get_ident() != self._thread

    def call(self, callback: Callable[[], object]) -> bool:
        """Have the event loop call `callback`. See `ThreadPort`."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop has just been closed
            return False
        return True

    def wait_for(self, sending: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have the event loop await a coroutine, and wait for its end. See `ThreadPort`."""
        loop = self._loop
        if loop is None:
            return False
        if not self.elsewhere():
            raise RuntimeError("send_threadsafe(block=True) was called from the event loop's own thread")
        coro = sending()
        try:
            future = asyncio.run_coroutine_threadsafe(coro, loop)
        except RuntimeError:  # the loop has just been closed
            coro.close()
            return False
        self._waited_for.add(future)
        future.add_done_callback(self._waited_for.discard)
        if self._loop is not loop:  # the run ended without knowing that this thread is waiting
            future.cancel()
        try:
            future.result()
        except CancelledError:
            return False
        return True
