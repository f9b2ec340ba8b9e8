"""Access from other threads to the event loop of a running driver."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

from indifast.handover import Home


class LoopThread(Home):
    """Runs what other threads ask for on the event loop, while the driver runs."""

    @property
    def run(self) -> object | None:
        """Identity of the current run; None while the driver does not run. See `ThreadPort`."""
        return None if self._loop is None else self._run

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
        if self._loop is None:
            return False
        if not self.elsewhere():
            raise RuntimeError("send_threadsafe(block=True) was called from the event loop's own thread")
        future = self.start(sending())
        if future is None:
            return False
        try:
            future.result()
        except CancelledError:
            return False
        return True
