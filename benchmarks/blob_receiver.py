"""Receiving end of `bench_blob.py`: requests frames, and checks every page of each."""

from __future__ import annotations

import asyncio

from indifast.client import IPyClient, defBLOBVector, setBLOBVector

PAGE = 4096


class Receiver(IPyClient):
    """Counts frames, and the wrong ones among them."""

    def __init__(self, port: int, nbytes: int) -> None:
        super().__init__("127.0.0.1", port)
        self.enableBLOBdefault = "Also"
        self.known, self.arrived = asyncio.Event(), asyncio.Event()
        self.marks = [bytes([number]) * -(-nbytes // PAGE) for number in range(256)]
        self.nbytes = nbytes
        self.count = self.wrong = 0

    async def rxevent(self, event: object) -> None:
        if isinstance(event, setBLOBVector):
            self.count += 1
            data = memoryview(event["FRAME"])
            if len(data) != self.nbytes or data[::PAGE].tobytes() != self.marks[self.count & 0xFF]:
                self.wrong += 1
            self.arrived.set()
        elif isinstance(event, defBLOBVector):
            self.known.set()

    async def take(self, count: int) -> None:
        """Request frames, and wait until they have arrived."""
        end = self.count + count
        await self.send_newVector("Camera", "FRAMES", members={"COUNT": count})
        while self.count < end:
            self.arrived.clear()
            await self.arrived.wait()
