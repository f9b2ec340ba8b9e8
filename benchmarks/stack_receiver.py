"""Client of the full-stack measurement: requests frames, checks them as NumPy arrays, prints one line of JSON.

    python -m benchmarks.stack_receiver PACKAGE HOST PORT NBYTES LOOK AHEAD SECONDS [on]

PACKAGE is `indifast.client` or `indipyclient`; HOST may be a Unix socket for indifast. LOOK is what the client does
with a frame:

    map       check the number in its first value
    read      check every page
    compare   compare every byte, until SECONDS frames (not seconds) have arrived

AHEAD frames are in flight at a time: a new one is requested for each that arrives. 0: the driver sends as fast as
frames are taken. -1: another client requests the frames; this one prints "ready" when it is ready.

With `on`, it goes on requesting frames after it has printed its line, until its stdin ends: others still count them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.stack_camera import Frame, pattern, run

PATIENCE = 60.0
PAGE = 4096
WARM_UP = 2
"""Number of frames before the clock starts."""


def receiver(package: str, host: str, port: int, nbytes: int, look: str) -> Any:
    """Return a client that counts frames, and those among them that are wrong or out of turn."""
    indi: Any = import_module(package)
    step = {"map": 0, "read": PAGE // 2, "compare": 1}[look]
    expected = pattern(nbytes)[::step].copy() if step else pattern(nbytes)[:1]

    class Receiver(indi.IPyClient):  # type: ignore[misc]  # the base class depends on the package
        def __init__(self) -> None:
            super().__init__(host, port)
            self.enableBLOBdefault = "Also"
            self.known, self.arrived = asyncio.Event(), asyncio.Event()
            self.count = self.wrong = 0

        async def rxevent(self, event: Any) -> None:
            if isinstance(event, indi.setBLOBVector):
                self.count += 1
                self.wrong += not self.right(np.frombuffer(event["FRAME"], np.uint16))
                self.arrived.set()
            elif isinstance(event, indi.defBLOBVector):
                self.known.set()

        def right(self, frame: Frame) -> bool:
            if frame.nbytes != nbytes:
                return False
            shown = frame[::step] if step else frame[:1]
            return np.array_equal(shown, expected + np.uint16(self.count & 0xFFFF))

        async def order(self, count: int) -> None:
            await self.send_newVector("Camera", "FRAMES", members={"COUNT": count})

        async def next_frame(self) -> None:
            seen = self.count
            while self.count == seen:
                self.arrived.clear()
                await asyncio.wait_for(self.arrived.wait(), PATIENCE)

    return Receiver()


async def main(
    package: str, host: str, port: int, nbytes: int, look: str, ahead: int, seconds: float, go_on: bool
) -> None:
    client = receiver(package, host, port, nbytes, look)
    running = asyncio.create_task(client.asyncrun())
    await asyncio.wait_for(client.known.wait(), PATIENCE)
    if ahead < 0:
        print("ready", flush=True)
    else:
        await client.order(ahead or 1_000_000_000)
    ordered = max(ahead, 0)

    async def take() -> None:
        nonlocal ordered
        await client.next_frame()
        if ahead > 0 and (wanted := client.count + ahead - ordered) > 0:
            await client.order(wanted)
            ordered += wanted

    while client.count < WARM_UP:
        await take()
    start, first = time.perf_counter(), client.count
    while client.count == first or (
        client.count - first < seconds if look == "compare" else time.perf_counter() < start + seconds
    ):
        await take()
    elapsed, frames = time.perf_counter() - start, client.count - first
    print(
        json.dumps({"frames": frames, "wrong": client.wrong, "seconds": elapsed, "raw_bytes": frames * nbytes}),
        flush=True,
    )
    if go_on:

        async def take_all() -> None:
            while True:
                await take()

        taking = asyncio.create_task(take_all())
        await asyncio.to_thread(sys.stdin.read)
        taking.cancel()
    client.shutdown()
    await running


if __name__ == "__main__":
    given = sys.argv
    go_on = given[8:] == ["on"]
    run(main(given[1], given[2], int(given[3]), int(given[4]), given[5], int(given[6]), float(given[7]), go_on))
