"""The client receiving from a plain process: updates that reach `rxevent`, and BLOBs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import client as sending
from benchmarks import peers
from indifast.client import IPyClient

UPDATES = 10_000
FRAMES = 4


class Program(IPyClient):
    """Runs until the sender marks its last message."""

    updates = 0

    async def rxevent(self, event: Any) -> None:
        if event.eventtype in ("Set", "SetBLOB"):
            self.updates += 1
            if event.state == "Alert":
                self.shutdown()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def measure(benchmark: Any, runner: asyncio.Runner, port: int, expected: int, rounds: int) -> None:
    def take() -> None:
        program = Program("127.0.0.1", port)
        runner.run(asyncio.wait_for(program.asyncrun(), peers.PATIENCE))
        assert program.updates == expected

    benchmark.pedantic(take, rounds=rounds, warmup_rounds=2)


@pytest.mark.benchmark(group="client")
def test_updates(benchmark: Any, runner: asyncio.Runner) -> None:
    """Number vectors of three members, from connecting to disconnecting."""
    benchmark.extra_info["updates per round"] = UPDATES
    with sending.sender("updates", UPDATES) as port:
        measure(benchmark, runner, port, UPDATES + 1, 100)


@pytest.mark.benchmark(group="client")
def test_wrapped_blobs(benchmark: Any, runner: asyncio.Runner) -> None:
    """Frames in lines of 72 columns, as libindi sends them."""
    benchmark.extra_info["MiB per round"] = (FRAMES + 1) * sending.FRAME >> 20
    with sending.sender("blobs", FRAMES) as port:
        measure(benchmark, runner, port, FRAMES + 1, 100)
