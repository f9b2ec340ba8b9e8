"""The choice of the event loop, where it is ours to choose."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that passes on small messages faster than asyncio's.

    Use it with `asyncio.Runner(loop_factory=…)` or, since Python 3.12, `asyncio.run(…, loop_factory=…)`. It is the loop
    of `indifast.transport.epoll`; on systems without epoll, it is uvloop's if that is installed, otherwise asyncio's.
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
    """Return a function that schedules a callback to run right after the callbacks of all ready descriptors."""
    return loop.call_at_end if hasattr(loop, "call_at_end") else loop.call_soon


def expect_answer(loop: asyncio.AbstractEventLoop) -> Callable[[], object] | None:
    """Return a function to call when a short message has been sent; None if the loop has no use for it."""
    return getattr(loop, "expect_answer", None)
