"""Waiting until others have taken what was sent, before a program ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

STUCK = 20.0
"""Seconds without progress after which sending has failed."""

_LOOK = 0.02
"""Seconds between two looks at what is still to be sent."""


def nothing_taken(who: str, left: int) -> str:
    """Return what to say of peers that `until_taken` has given up: "the server has", and how many bytes are left."""
    return f"{who} taken nothing for {STUCK:g} s: up to {left} bytes were not sent"


async def until_taken(unsent: Callable[[], Mapping[Any, int]], sending: asyncio.Future[Any] | None = None) -> int:
    """Wait until everything is sent, however long that takes over a slow link.

    Args:
        unsent: Returns how many bytes are still to be sent to each peer. One that is not there has nothing to take.
        sending: A task that sends more, perhaps as soon as there is room for it.

    Returns:
        The bytes that are left after none of those who have something to take took anything for `STUCK` seconds,
        whatever others did; 0 if everything was taken.
    """
    left: dict[Any, int] = {}
    since: dict[Any, float] = {}
    while True:
        before, left, now = left, {peer: count for peer, count in unsent().items() if count}, time.monotonic()
        if not left and (sending is None or sending.done()):
            return 0
        # More for a peer is no sign that it takes anything.
        since = {peer: since[peer] if count >= before.get(peer, count + 1) else now for peer, count in left.items()}
        if left and now - max(since.values()) > STUCK:
            return sum(left.values())
        await asyncio.sleep(_LOOK)
