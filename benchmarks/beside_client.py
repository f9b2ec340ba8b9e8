"""Client of the measurement of commands beside frames: prints one line of JSON.

    python -m benchmarks.beside_client HOST PORT RAW SECONDS DEVICE

It receives frames of the device Wire all the time, and sends commands to DEVICE (a driver of `csrc/small.c`), one after
the other, each 10 ms after the answer to the last one. RAW is 1 if it offers raw frames, 0 for base64.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from indifast.client import IPyClient, setBLOBVector, setNumberVector

PATIENCE = 60.0
PAUSE = 0.01


class Client(IPyClient):
    """Counts frames, and hears answers."""

    def __init__(self, host: str, port: int, device: str) -> None:
        super().__init__(host, port)
        self.enableBLOBdefault = "Also"
        self.device = device
        self.received = 0
        self.answered = asyncio.Event()
        self.heard = asyncio.Event()

    async def rxevent(self, event: Any) -> None:
        self.heard.set()
        if isinstance(event, setBLOBVector):
            self.received += 1
        elif isinstance(event, setNumberVector) and event.devicename == self.device:
            self.answered.set()

    async def ask(self) -> float:
        """Send one command, and return the seconds until its answer."""
        self.answered.clear()
        begin = time.perf_counter()
        await self.send_newVector(self.device, "N", members={"n": 1})
        await asyncio.wait_for(self.answered.wait(), PATIENCE)
        return time.perf_counter() - begin

    def knows(self) -> bool:
        return "FRAME" in self.get("Wire", {}) and "N" in self.get(self.device, {})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that is heard makes the condition true."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.heard.clear()
                await self.heard.wait()


async def main(host: str, port: int, raw: bool, seconds: float, device: str) -> None:
    client = Client(host, port, device)
    client.raw_frames = raw
    async with client:
        await client.until(client.knows)
        await client.ask()
        await client.send_newVector("Wire", "GO", members={"GO": "On"})
        await client.until(lambda: client.received > 0)
        start, before, times = time.perf_counter(), client.received, []
        while time.perf_counter() < start + seconds:
            times.append(await client.ask())
            await asyncio.sleep(PAUSE)
        elapsed = time.perf_counter() - start
        times.sort()
        result = {
            "p50": times[len(times) // 2],
            "p99": times[len(times) * 99 // 100],
            "slowest": times[-1],
            "commands": len(times),
            "rate": (client.received - before) / elapsed,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    given = sys.argv
    asyncio.run(main(given[1], int(given[2]), given[3] == "1", float(given[4]), given[5]))
