"""Returning the memory of large frames to the system."""

from __future__ import annotations

import ctypes
import functools
import os

LARGE = 1 << 20
"""Size in bytes from which a block gets separate pages, which go back to the system when the block is freed."""

_M_MMAP_THRESHOLD = -3


@functools.cache
def give_back_large_blocks() -> None:
    """Let glibc return freed blocks of at least `LARGE` bytes, in the whole process. Do nothing with other libraries.

    By default, glibc stops doing so once the first large block is freed. It then keeps the memory of an old frame but
    cannot put the next frame there, because that one has begun to arrive by then: a client would use the memory of one
    frame more than it has. If the environment sets limits for glibc, these are left alone.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):  # another C library
        return
