"""Frames from a driver through a server to a client: two processes, TCP, every page checked.

Two processes need two cores at once, so the time they take depends much on what else the machine is doing, and the CPU
time less so. The former is guarded against additional waiting, with a wide limit, the latter against additional work.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.blob_receiver import Receiver

NBYTES = 4 << 20
FRAMES = 2


processes: list[int] = []
"""IDs of the two processes of the measurement."""


def cpu_time() -> float:
    """Return the CPU seconds used by both processes (Linux: the clock ID of a process follows from its process ID)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in processes)


@pytest.fixture
def receiver() -> Iterator[tuple[asyncio.Runner, Receiver]]:
    camera = [sys.executable, str(peers.HERE / "blob_camera.py"), str(NBYTES)]
    with peers.process(camera) as child, asyncio.Runner() as runner:
        assert child.stdout is not None
        processes[:] = os.getpid(), child.pid
        client = Receiver(int(child.stdout.readline()), NBYTES)
        running = runner.get_loop().create_task(client.asyncrun())
        runner.run(asyncio.wait_for(client.known.wait(), peers.PATIENCE))
        yield runner, client
        client.shutdown()
        runner.run(asyncio.wait_for(running, peers.PATIENCE))


@pytest.mark.benchmark(group="driver to server to client: time")
@pytest.mark.noisy(6)
def test_frames(benchmark: Any, receiver: tuple[asyncio.Runner, Receiver]) -> None:
    measure(benchmark, *receiver)


@pytest.mark.benchmark(group="driver to server to client: CPU time", timer=cpu_time)
@pytest.mark.noisy(2)
def test_frames_cpu(benchmark: Any, receiver: tuple[asyncio.Runner, Receiver]) -> None:
    measure(benchmark, *receiver)


def measure(benchmark: Any, runner: asyncio.Runner, client: Receiver) -> None:
    """Measure many short rounds, of which the best counts."""
    benchmark.extra_info["MiB per round"] = FRAMES * NBYTES >> 20

    def take() -> None:
        runner.run(asyncio.wait_for(client.take(FRAMES), peers.PATIENCE))

    benchmark.pedantic(take, rounds=300, warmup_rounds=5)
    assert not client.wrong
