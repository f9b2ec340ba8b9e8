"""Descriptors that arrive, and checks that none is left open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator

import uvloop

from indifast._parser import Tokenizer
from indifast.transport.descriptors import DescriptorQueue
from tests.support.waiting import eventually


def open_fds() -> set[str]:
    """Return the descriptors of this process, as "NUMBER FILE"."""
    gc.collect()  # closes those of objects that other tests have left in reference cycles
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


@contextlib.asynccontextmanager
async def no_fd_leak() -> AsyncIterator[None]:
    """Check that all descriptors that the block opens are closed at its end, or a moment later."""
    before = open_fds()
    yield

    def left_open() -> set[str]:
        found = open_fds() - before
        if isinstance(asyncio.get_running_loop(), uvloop.Loop):  # keeps one in reserve after its first connection
            found = {fd for fd in found if not fd.endswith(" /dev/null")}
        return found

    try:
        await eventually(lambda: not left_open())
    except TimeoutError:
        raise AssertionError(f"still open: {left_open()}") from None


def arrived(*fds: int) -> DescriptorQueue:
    """Return a queue of descriptors that have arrived."""
    queue = DescriptorQueue(Tokenizer(), 1 << 30)
    queue.put(fds)
    return queue
