"""Frames from a driver through a server to a client: two processes, TCP, every page looked at."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.stack_receiver import Receiver

NBYTES = 4 << 20
FRAMES = 4


@pytest.fixture
def receiver() -> Iterator[tuple[asyncio.Runner, Receiver]]:
    camera = [sys.executable, str(peers.HERE / "stack_camera.py"), "indifast", "0", str(NBYTES)]
    with peers.process(camera) as child, asyncio.Runner() as runner:
        assert child.stdout is not None
        client = Receiver(int(child.stdout.readline()), NBYTES)
        running = runner.get_loop().create_task(client.asyncrun())
        runner.run(asyncio.wait_for(client.known.wait(), peers.PATIENCE))
        yield runner, client
        client.shutdown()
        runner.run(asyncio.wait_for(running, peers.PATIENCE))


@pytest.mark.benchmark(group="driver to server to client")
def test_frames(benchmark: Any, receiver: tuple[asyncio.Runner, Receiver]) -> None:
    """Many short rounds: the best of a hundred is stable on a machine that others use, too."""
    runner, client = receiver
    benchmark.extra_info["MiB per round"] = FRAMES * NBYTES >> 20

    def take() -> None:
        runner.run(asyncio.wait_for(client.take(FRAMES), peers.PATIENCE))

    benchmark.pedantic(take, rounds=100, warmup_rounds=5)
    assert not client.wrong
