"""Receive buffers return to their pool when the last view of them is gone, and not before."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import pytest

from indifast._parser import BlockPool


def address(buffer: object) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]


def test_a_block_is_reused() -> None:
    pool = BlockPool(size=4096, keep=2)
    block = pool.get()
    assert len(block) == block.size == 4096
    first = address(block)
    del block
    assert address(pool.get()) == first


def test_blocks_that_were_not_needed_are_freed() -> None:
    pool = BlockPool(size=4096, keep=100)
    blocks = [pool.get() for _ in range(10)]
    assert pool.blocks == 10
    blocks.clear()
    pool.trim(2)
    assert pool.blocks == 10  # all of them have been in use since the start
    blocks = [pool.get() for _ in range(6)]
    del blocks[:3]
    pool.trim(2)
    assert pool.blocks == 6  # four have been unused since the last call
    pool.trim(2)
    assert pool.blocks == 5  # three are in use, two are kept
    blocks.clear()
    pool.trim(2)
    pool.trim(2)
    assert pool.blocks == 2


def test_blocks_beyond_those_that_a_pool_keeps_are_freed() -> None:
    pool = BlockPool(size=4096, keep=2)
    blocks = [pool.get() for _ in range(5)]
    assert pool.blocks == 5
    blocks.clear()
    assert pool.blocks == 2


def test_a_view_keeps_its_block_in_use() -> None:
    pool = BlockPool(size=4096)
    block = pool.get()
    memoryview(block)[:5] = b"hello"
    view = memoryview(block)[:5].toreadonly()
    del block
    others = [pool.get() for _ in range(20)]
    for other in others:
        memoryview(other)[:5] = b"xxxxx"
    assert bytes(view) == b"hello"


def test_a_block_outlives_its_pool() -> None:
    block = BlockPool(size=100).get()
    memoryview(block)[:] = b"a" * 100
    assert bytes(block) == b"a" * 100


@pytest.mark.parametrize("arguments", [(0, 1), (-1, 1), (10, -1)])
def test_wrong_arguments(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        BlockPool(*arguments)


def own_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) << 10


def test_freed_blocks_go_back_to_the_system_whatever_lies_between_them() -> None:
    pool = BlockPool(size=256 << 10, keep=4)
    gc.collect()  # so that nothing of other tests is freed meanwhile
    small, before = [], own_memory()
    for _ in range(2):  # glibc treats such blocks in another way once it has freed one
        blocks = []
        for _ in range(200):
            blocks.append(pool.get())
            view = memoryview(blocks[-1])
            view[::4096] = bytes(len(view[::4096]))
            small.append(bytes(600))
        assert own_memory() - before > 40 << 20
        blocks.clear()
        del view
        assert own_memory() - before < 10 << 20
