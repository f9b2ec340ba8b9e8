"""Waiting within an event loop, and a clock that tests can put forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from tests.support.blackbox import LIMIT

_Result = TypeVar("_Result")


async def eventually(condition: Callable[[], _Result], what: str = "the condition", limit: float = LIMIT) -> _Result:
    """Wait in this event loop until `condition` returns something true, and return that."""
    try:
        async with asyncio.timeout(limit):
            while not (result := condition()):
                await asyncio.sleep(0.005)
            return result
    except TimeoutError:
        raise TimeoutError(f"{what} did not come true within {limit} s") from None


async def turns(count: int = 20) -> None:
    """Let the event loop run everything that is ready, and everything that becomes ready because of that."""
    for _ in range(count):
        await asyncio.sleep(0)


async def no_timer_left(limit: float = LIMIT) -> None:
    """Wait until this event loop has no timer: what was sent is watched for a moment, until it is acknowledged."""
    loop: Any = asyncio.get_running_loop()
    deadline = time.monotonic() + limit
    while timers := [handle for handle in loop._scheduled if not handle.cancelled()]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"still set after {limit} s: {timers}")
        await asyncio.sleep(0.05)


class Clock:
    """Puts `time.monotonic` forward, which event loops use too: a test can let hours pass without waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + self._ahead)

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due then."""
        self._ahead += seconds
        await turns()
