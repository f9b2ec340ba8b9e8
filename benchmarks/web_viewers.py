"""Viewers of `benchmarks.web`: WebSockets that take live frames as fast as they come, and say what they have seen.

    python -m benchmarks.web_viewers PORT VIEWERS SECONDS

When all of them have received a frame, it prints a line, waits for one, and begins to measure. Ages are between the
time that the driver has given a frame and the arrival of its picture.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from websockets.asyncio.client import connect

PATH = "/api/v1/devices/Camera/properties/CCD1/frames/CCD1/live"
AHEAD = 2


async def watch(port: int, ready: asyncio.Barrier, stop: asyncio.Event, note: Callable[[float], None]) -> None:
    """Take frames, and note the age of each that arrives after all viewers are ready."""
    async with connect(f"ws://127.0.0.1:{port}{PATH}", compression=None, max_size=None, proxy=None) as socket:
        await socket.send(json.dumps({"more": AHEAD, "view": {"size": 640}}))
        await socket.recv()
        await socket.send('{"more": 1}')
        waiting = asyncio.create_task(ready.wait())
        while not stop.is_set():
            message = await socket.recv()
            now = datetime.now(UTC)
            await socket.send('{"more": 1}')
            if waiting.done():
                assert isinstance(message, bytes)
                about = json.loads(message[4 : 4 + int.from_bytes(message[:4], "big")])
                note((now - datetime.fromisoformat(about["frame"]["time"])).total_seconds())


async def main(port: int, viewers: int, seconds: float) -> None:
    ready, stop = asyncio.Barrier(viewers + 1), asyncio.Event()
    ages: list[list[float]] = [[] for _ in range(viewers)]
    async with asyncio.TaskGroup() as group:
        for each in ages:
            group.create_task(watch(port, ready, stop, each.append))
        await ready.wait()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for each in ages:
            each.clear()
        await asyncio.sleep(seconds)
        counts = [len(each) for each in ages]
        every = sorted(age for each in ages for age in each)
        stop.set()
    result = {
        "least": min(counts) / seconds,
        "total": sum(counts) / seconds,
        "median": every[len(every) // 2],
        "p99": every[int(len(every) * 0.99)],
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
