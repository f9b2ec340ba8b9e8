"""Coroutines of user code that run with a driver."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger("indifast.driver.ipydriver")

ReportFault = Callable[[Exception, str, str | None], None]
"""Called with an exception in user code: the exception, what the code was doing, and the device or None."""


class Tasks:
    """Starts coroutines, reports their faults and ends them."""

    def __init__(self, report: ReportFault) -> None:
        self._report = report
        self._waiting: list[tuple[Coroutine[Any, Any, Any], str]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False

    def add(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine with the driver: now, or from its start. See `Port`."""
        if self._open:
            self.start(coro, what)
        else:
            self._waiting.append((coro, what))

    def begin(self) -> None:
        """Note that the driver runs, and start the waiting coroutines."""
        self._open = True
        waiting, self._waiting = self._waiting, []
        for coro, what in waiting:
            self.start(coro, what)

    def close(self) -> None:
        """Note that the driver no longer runs: coroutines added from now on wait for its next run."""
        self._open = False

    def discard(self) -> None:
        """Discard the waiting coroutines: the driver was shut down before it began."""
        waiting, self._waiting = self._waiting, []
        for coro, _ in waiting:
            coro.close()

    def start(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine now. See `ThreadPort`."""
        task = asyncio.get_running_loop().create_task(self._guard(coro, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: coro.close())  # if cancelled before its first step, it was never awaited

    async def _guard(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        try:
            await coro
        except asyncio.CancelledError as error:
            self.cancelled(error, what, None)
        except Exception as error:
            self._report(error, what, None)

    def cancelled(self, error: asyncio.CancelledError, what: str, devicename: str | None) -> None:
        """Raise `error` again if the current task is being cancelled; otherwise report a fault.

        In the latter case, user code has awaited something that was cancelled, which is a fault like any other.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
        fault = RuntimeError("user code awaited something that was cancelled")
        fault.__cause__ = error
        self._report(fault, what, devicename)

    async def finish(self, grace: float) -> None:
        """Give user code `grace` seconds to end by itself, then cancel it."""
        if grace and (tasks := set(self._tasks)):
            await asyncio.wait(tasks, timeout=grace)
        deadline = time.monotonic() + max(grace, 1.0)
        while (tasks := set(self._tasks)) and time.monotonic() < deadline:
            for task in tasks:  # more than once: a task may swallow its cancellation
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
        if self._tasks:
            logger.error("%d tasks of the driver ignored their cancellation and were left running", len(self._tasks))
