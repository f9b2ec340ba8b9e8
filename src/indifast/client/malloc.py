"""Giving the memory of large frames back to the system."""

from __future__ import annotations

import ctypes
import functools
import os

LARGE = 1 << 20
"""Bytes from which on a block gets pages of its own, which go back to the system when it is freed."""

_M_MMAP_THRESHOLD = -3


@functools.cache
def give_back_large_blocks() -> None:
    """Let glibc give freed blocks of `LARGE` bytes and more back, in the whole process. Does nothing elsewhere.

    By itself glibc gives that up after the first large block was freed. It then keeps the memory of an old frame, but
    cannot fit the next one into it, as that has begun to arrive by then: a client would hold the memory of one frame
    more than it has. Whoever has set glibc's limits in the environment knows better.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):  # another C library
        return
