"""Returning the memory of large frames to the system, or keeping it for the next ones."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Mapping

LARGE = 1 << 20
"""Size in bytes from which a block gets separate pages, which go back to the system when the block is freed."""

KEPT_BLOCK = 32 << 20
"""Size in bytes of the largest blocks that `keep_blocks` keeps; glibc allows no more."""

KEPT = 64 << 20
"""Free bytes that `keep_blocks` keeps."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@functools.cache
def give_back_large_blocks() -> None:
    """Let glibc return freed blocks of at least `LARGE` bytes, in the whole process. Do nothing with other libraries.

    By default, glibc stops doing so once the first large block is freed. It then keeps the memory of an old frame but
    cannot put the next frame there, because that one has begun to arrive by then: a client would use the memory of one
    frame more than it has. If the environment sets limits for glibc, these are left alone.
    """
    _set({_M_MMAP_THRESHOLD: LARGE})


@functools.cache
def keep_blocks() -> None:
    """Let glibc keep freed blocks for the next ones, in the whole process.

    This is for programs that make something of a stream of frames, with clients whose `give_back_memory` is false: the
    system clears the pages of each new block, which for frames of a few megabytes takes longer than all that is done
    with them. Otherwise, this is like `give_back_large_blocks`.
    """
    _set({_M_MMAP_THRESHOLD: KEPT_BLOCK, _M_TRIM_THRESHOLD: KEPT})


def _set(parameters: Mapping[int, int]) -> None:
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in parameters.items():
            mallopt(name, value)
