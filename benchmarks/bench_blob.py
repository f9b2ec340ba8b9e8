"""Frames from a driver through a server to a client: two processes, TCP, every frame checked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.camera import PAGE
from indifast.client import IPyClient, defBLOBVector, setBLOBVector

NBYTES = 4 << 20
FRAMES = 4


class Receiver(IPyClient):
    """Orders frames and looks at every page of each."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.enableBLOBdefault = "Also"
        self.known, self.complete = asyncio.Event(), asyncio.Event()
        self.number = self.left = 0

    async def rxevent(self, event: object) -> None:
        match event:
            case setBLOBVector():
                self.number = self.number + 1 & 0xFF
                marks = np.frombuffer(event["FRAME"], np.uint8)[::PAGE]
                assert len(marks) == NBYTES // PAGE
                assert (marks == self.number).all()
                self.left -= 1
                if not self.left:
                    self.complete.set()
            case defBLOBVector():
                self.known.set()

    async def take(self, count: int) -> None:
        self.left = count
        self.complete.clear()
        await self.send_newVector("Camera", "FRAMES", members={"COUNT": count})
        await asyncio.wait_for(self.complete.wait(), peers.PATIENCE)


@pytest.fixture
def receiver() -> Iterator[tuple[asyncio.Runner, Receiver]]:
    with (
        peers.process([sys.executable, "-m", "benchmarks.camera", str(NBYTES)]) as child,
        asyncio.Runner() as runner,
    ):
        assert child.stdout is not None
        client = Receiver(int(child.stdout.readline()))
        running = runner.get_loop().create_task(client.asyncrun())
        runner.run(asyncio.wait_for(client.known.wait(), peers.PATIENCE))
        yield runner, client
        client.shutdown()
        runner.run(asyncio.wait_for(running, peers.PATIENCE))


@pytest.mark.benchmark(group="driver to server to client")
def test_frames(benchmark: Any, receiver: tuple[asyncio.Runner, Receiver]) -> None:
    runner, client = receiver
    benchmark.extra_info["MiB per round"] = FRAMES * NBYTES >> 20
    benchmark.pedantic(lambda: runner.run(client.take(FRAMES)), rounds=100, warmup_rounds=5)
