"""Which event loop to run on, where the choice is ours."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop that is faster than asyncio's: uvloop's where it is installed, else `own_event_loop`.

    For `asyncio.Runner(loop_factory=…)`, and from Python 3.12 on for `asyncio.run(…, loop_factory=…)`.
    """
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return own_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def own_event_loop() -> asyncio.AbstractEventLoop:
    """That of `indifast.transport.epoll`, or asyncio's where the system has no epoll."""
    if not hasattr(select, "epoll"):
        return asyncio.new_event_loop()
    from indifast.transport.epoll import EventLoop

    return EventLoop()


def end_of_turn(loop: asyncio.AbstractEventLoop) -> Callable[[Callable[[], object]], object]:
    """How to have something called when all whose descriptors are ready now have been called, but no later."""
    return loop.call_at_end if hasattr(loop, "call_at_end") else loop.call_soon
