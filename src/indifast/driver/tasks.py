"""The coroutines of user code that run with a driver."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger("indifast.driver.ipydriver")

ReportFault = Callable[[Exception, str, str | None], None]
"""Told of an exception of user code: the exception, what it was doing, the device or None."""


class Tasks:
    """Starts coroutines, reports their faults, ends them."""

    def __init__(self, report: ReportFault) -> None:
        self._report = report
        self._waiting: list[tuple[Coroutine[Any, Any, Any], str]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False

    def add(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """See `Port`."""
        if self._open:
            self.start(coro, what)
        else:
            self._waiting.append((coro, what))

    def begin(self) -> None:
        """The driver runs: start what waits for that."""
        self._open = True
        waiting, self._waiting = self._waiting, []
        for coro, what in waiting:
            self.start(coro, what)

    def close(self) -> None:
        """The driver runs no longer: what is added waits for its next run."""
        self._open = False

    def discard(self) -> None:
        """The driver was shut down before it began: what waits for that never runs."""
        waiting, self._waiting = self._waiting, []
        for coro, _ in waiting:
            coro.close()

    def start(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """See `ThreadPort`."""
        task = asyncio.get_running_loop().create_task(self._guard(coro, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: coro.close())  # cancelled before its first step, it was never awaited

    async def _guard(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        try:
            await coro
        except asyncio.CancelledError as error:
            self.cancelled(error, what, None)
        except Exception as error:
            self._report(error, what, None)

    def cancelled(self, error: asyncio.CancelledError, what: str, devicename: str | None) -> None:
        """Raise it again if the running task is being cancelled; else user code has waited for something cancelled,
        and that is a fault like any other.
        """
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
        fault = RuntimeError("it waited for something that was cancelled")
        fault.__cause__ = error
        self._report(fault, what, devicename)

    async def finish(self, grace: float) -> None:
        """Let user code end by itself, then cancel it."""
        if grace and (tasks := set(self._tasks)):
            await asyncio.wait(tasks, timeout=grace)
        deadline = time.monotonic() + max(grace, 1.0)
        while (tasks := set(self._tasks)) and time.monotonic() < deadline:
            for task in tasks:  # more than once: a task may swallow its cancellation
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
        if self._tasks:
            logger.error("%d tasks of the driver ignore their cancellation and are left behind", len(self._tasks))
