"""Whether a client runs, and how it is stopped, from whatever thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

_Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Lifecycle:
    """The state of a client's run, and the tasks that go with its connection."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        """The run is over."""
        self.stopping = False
        """It is over, or is to end."""
        self.on_stop: list[Callable[[], None]] = []
        """Called on the event loop's thread when the client is to stop."""
        self.on_end: list[Callable[[], None]] = []
        """Called when the run is over."""
        self._running = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Another run is to begin: what the one before was told is over. A `stop` from now on counts."""
        if self.stopped.is_set():
            self.stopped.clear()
            self.stopping = False

    async def run(self, session: _Work, hardware: _Work, grace: Callable[[], float]) -> None:
        """Run both until `stop`, the end of the session, or an exception, which is raised here.

        They get a time of grace before they are cancelled.
        """
        if self._running:
            raise RuntimeError("this client is running already")
        self.prepare()
        self._asked = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()
        if self.stopping:
            self._end()
            return
        self._running = True
        serving = loop.create_task(session(), name="indifast client")
        working = loop.create_task(hardware(), name="indifast client hardware")
        stop = loop.create_task(self.stop_asked())
        tasks = {serving, working, stop}
        try:
            waited = set(tasks)
            while not (serving.done() or stop.done() or (working.done() and _failed(working))):
                waited = {task for task in waited if not task.done()}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            self.stopping = True
            self._tell_stopping()
            await asyncio.wait((serving, working), timeout=grace())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._running = False
            self._end()
        for task in (working, serving):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _end(self) -> None:
        self.stopping = True
        self.stopped.set()
        for callback in self.on_end:
            callback()

    def stop(self) -> None:
        """Ask the run to end; from any thread."""
        self.stopping = True
        self.call_soon(self._tell_stopping)

    def _tell_stopping(self) -> None:
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


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
