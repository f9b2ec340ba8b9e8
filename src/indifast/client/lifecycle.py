"""Whether a client runs, and how it is stopped, from whatever thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Lifecycle:
    """The state of a client's run, and the tasks that go with its connection."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        """The run is over."""
        self.stopping = False
        """It is over, or is to end."""
        self.on_stop: list[Callable[[], None]] = []
        """Called on the event loop's thread when the client is to stop."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Another run is to begin: what the one before was told is over. A `stop` from now on counts."""
        if self.stopped.is_set():
            self.stopped.clear()
            self.stopping = False

    def begin(self) -> None:
        """The run begins, on the running loop."""
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """The run is over."""
        self.stopping = True
        self.stopped.set()

    def stop(self) -> None:
        """Ask the run to end; from any thread."""
        self.stopping = True
        self.call_soon(self.stop_now)

    def stop_now(self) -> None:
        """The same, from the loop's thread."""
        self.stopping = True
        if self._asked is not None:
            self._asked.set()
        for callback in self.on_stop:
            callback()

    async def stop_asked(self) -> None:
        """Return once the run is to end."""
        assert self._asked is not None
        await self._asked.wait()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not beyond `stop`."""
        stop = asyncio.get_running_loop().create_task(self.stop_asked())
        try:
            await asyncio.wait((stop,), timeout=seconds)
        finally:
            stop.cancel()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Run on the event loop's thread, if the client runs at all."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel_tasks(self) -> None:
        """End these tasks."""
        for task in self._tasks:
            task.cancel()
