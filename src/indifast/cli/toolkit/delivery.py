"""Waiting until others have taken what was sent, before a program ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

STUCK = 20.0
"""Seconds without progress after which sending has failed."""

_LOOK = 0.02
"""Seconds between two looks at what is still to be sent."""


async def until_taken(unsent: Callable[[], int], sending: asyncio.Future[Any] | None = None) -> int:
    """Wait until everything is sent, however long that takes over a slow link.

    Args:
        unsent: Returns how many bytes are still to be sent.
        sending: A task that sends more, perhaps as soon as there is room for it.

    Returns:
        The bytes that are left after nothing was taken for `STUCK` seconds; 0 if everything was taken.
    """
    left, since = unsent(), time.monotonic()
    while left or not (sending is None or sending.done()):
        await asyncio.sleep(_LOOK)
        before, left = left, unsent()
        if left != before or not left:
            since = time.monotonic()
        elif time.monotonic() - since > STUCK:
            break
    return left
