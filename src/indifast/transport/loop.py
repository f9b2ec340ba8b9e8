"""Which event loop to run on, where the choice is ours."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop that passes small messages on sooner than asyncio's.

    For `asyncio.Runner(loop_factory=…)`, and from Python 3.12 on for `asyncio.run(…, loop_factory=…)`. It is the one of
    `indifast.transport.epoll`. Where the system has no epoll it is uvloop's if that is installed, else asyncio's.
    """
    if hasattr(select, "epoll"):
        from indifast.transport.epoll import EventLoop

        return EventLoop()
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def end_of_turn(loop: asyncio.AbstractEventLoop) -> Callable[[Callable[[], object]], object]:
    """How to have something called when all whose descriptors are ready now have been called, but no later."""
    return loop.call_at_end if hasattr(loop, "call_at_end") else loop.call_soon
