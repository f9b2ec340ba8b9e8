"""The receiving end of the full-stack measurement: orders frames, looks at every page of each, prints one line of JSON.

    python benchmarks/stack_receiver.py PACKAGE PORT NBYTES AHEAD SECONDS

PACKAGE is `indifast.client` or `indipyclient`. AHEAD frames are under way at a time: a new one is ordered for each
that has come, so that neither side waits for the other, and no queue runs over.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib import import_module
from typing import Any

PAGE = 4096

package = sys.argv[1] if __name__ == "__main__" else "indifast.client"
indi: Any = import_module(package)


class Receiver(indi.IPyClient):  # type: ignore[misc]  # whichever package it is
    """Counts frames, and those that are not what they should be."""

    def __init__(self, port: int, nbytes: int) -> None:
        super().__init__("127.0.0.1", port)
        self.enableBLOBdefault = "Also"
        self.known, self.arrived = asyncio.Event(), asyncio.Event()
        self.marks = [bytes([number]) * -(-nbytes // PAGE) for number in range(256)]
        self.nbytes = nbytes
        self.count = self.wrong = 0

    async def rxevent(self, event: Any) -> None:
        if isinstance(event, indi.setBLOBVector):
            self.count += 1
            data = memoryview(event["FRAME"])
            if len(data) != self.nbytes or data[::PAGE].tobytes() != self.marks[self.count & 0xFF]:
                self.wrong += 1
            self.arrived.set()
        elif isinstance(event, indi.defBLOBVector):
            self.known.set()

    async def order(self, count: int) -> None:
        await self.send_newVector("Camera", "FRAMES", members={"COUNT": count})

    async def take(self, count: int) -> None:
        """Order frames and wait until they are here."""
        end = self.count + count
        await self.order(count)
        while self.count < end:
            self.arrived.clear()
            await self.arrived.wait()


async def main(port: int, nbytes: int, ahead: int, seconds: float) -> None:
    receiver = Receiver(port, nbytes)
    running = asyncio.create_task(receiver.asyncrun())
    await asyncio.wait_for(receiver.known.wait(), 30)
    await asyncio.wait_for(receiver.take(2), 30)
    await receiver.order(ahead)
    start, first, ordered = time.perf_counter(), receiver.count, receiver.count + ahead
    while time.perf_counter() < start + seconds:
        receiver.arrived.clear()
        await asyncio.wait_for(receiver.arrived.wait(), 30)
        if receiver.count + ahead > ordered:
            await receiver.order(receiver.count + ahead - ordered)
            ordered = receiver.count + ahead
    elapsed, frames = time.perf_counter() - start, receiver.count - first
    print(json.dumps({"frames": frames, "wrong": receiver.wrong, "seconds": elapsed, "raw_bytes": frames * nbytes}))
    receiver.shutdown()
    await running


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
