"""Waiting within an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

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
