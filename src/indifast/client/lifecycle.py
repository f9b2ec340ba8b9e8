"""Running and stopping a client, from any thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from indifast.handover import Home
from indifast.protocol.callbacks import call_all

_Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Lifecycle:
    """The state of a client's run, and the tasks that belong to its connection."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        """Set when the run is over."""
        self.stopping = False
        """True if the run is over or has been told to end."""
        self.on_stop: list[Callable[[], None]] = []
        """Functions called on the event loop's thread when the client is told to stop."""
        self.on_end: list[Callable[[], None]] = []
        """Functions called when the run is over."""
        self.home = Home()
        """Where the client runs, for those who send from other threads."""
        self._running = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: asyncio.Event | None = None
        self._told = False  # `stop` was called
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Prepare for another run: forget a `stop` of the previous one. From now on, `stop` applies to the new run."""
        if self.stopped.is_set():
            self.stopped.clear()
            self.stopping = self._told = False

    async def run(
        self, session: _Work, hardware: _Work, shutdown: Callable[[], None], grace: Callable[[], float]
    ) -> None:
        """Run `session` and `hardware` until `stop`, the end of the session, or an exception.

        Args:
            session: Serves the connections.
            hardware: The task of the program.
            shutdown: Called if the run ends for another reason than `stop`.
            grace: Returns the seconds that both have to end before they are cancelled.

        Raises:
            Exception: `session` or `hardware` raised it.
            RuntimeError: The client is already running.
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
        self.home.begin()
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
            self._notify_stop()
            await asyncio.wait((serving, working), timeout=grace())
        finally:
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:  # also if this is cancelled a second time
                self._running = False
                try:
                    if not self._told:
                        shutdown()
                finally:
                    self._end()
        for task in (working, serving):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _end(self) -> None:
        self.stopping = True
        self.home.end()
        self.stopped.set()
        call_all(self.on_end, time.monotonic())

    def stop(self) -> None:
        """Ask the run to end. May be called from any thread."""
        self.stopping = self._told = True
        if self._running:
            self.call_soon(self._notify_stop)

    def _notify_stop(self) -> None:
        if not self._running:  # the run has ended in the meantime
            return
        assert self._asked is not None
        self._asked.set()
        call_all(self.on_stop, time.monotonic())

    async def stop_asked(self) -> None:
        """Wait until the run is told to end."""
        assert self._asked is not None
        await self._asked.wait()

    async def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, or until `stop` is called."""
        stop = asyncio.get_running_loop().create_task(self.stop_asked())
        try:
            await asyncio.wait((stop,), timeout=seconds)
        finally:
            stop.cancel()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the event loop's thread; do nothing if there is no event loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection, if not before."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel_tasks(self) -> None:
        """Cancel the tasks that `spawn` started."""
        for task in self._tasks:
            task.cancel()


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
