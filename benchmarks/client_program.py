"""A client in a separate process, with either library: `client_program.py MODULE TASK PORT LOOP SECONDS`.

It prints figures as JSON. It also runs under the peer's interpreter, so it imports nothing of the project except the
library MODULE.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import random
import statistics
import sys
import threading
import time
from collections import deque
from typing import Any

MODULE, TASK, PORT, LOOP, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
library = importlib.import_module(MODULE)
queclient = importlib.import_module(MODULE + ".queclient")
logging.disable(logging.CRITICAL)
FRAME = 4 << 20
FRAMES = [random.Random(number).randbytes(FRAME) for number in range(4)]
"""The frames that the sender sends, in turn."""


def memory(line: str) -> float:
    """Return the MiB that this process uses: VmRSS, or VmHWM for the peak since `forget_peak`."""
    with open("/proc/self/status") as status:
        return int(next(text for text in status if text.startswith(line)).split()[1]) / 1024


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Counter(library.IPyClient):  # type: ignore[misc, name-defined]
    """Counts updates until one with the state Alert ends the measurement."""

    count = nbytes = wrong = 0
    began: float | None = None

    async def rxevent(self, event: Any) -> None:
        kind = event.eventtype
        if kind == "DefineBLOB":
            self.idle = memory("VmRSS")
            forget_peak()
        if kind not in ("Set", "SetBLOB"):
            return
        if self.began is None:
            self.began, self.began_cpu = time.perf_counter(), time.process_time()
        self.count += 1
        if kind == "SetBLOB":
            self.nbytes += len(event["img"])
            self.wrong += event["img"] != FRAMES[(self.count - 1) % len(FRAMES)]
        if event.state == "Alert":
            seconds, cpu = time.perf_counter() - self.began, time.process_time() - self.began_cpu
            print(
                json.dumps(
                    {
                        "rate": self.count / seconds,
                        "mb": self.nbytes / seconds / 1e6,
                        "cpu_us": cpu / self.count * 1e6,
                        "above_idle": (memory("VmHWM") - self.idle) * (1 << 20) / FRAME if self.nbytes else 0.0,
                        "wrong": self.wrong,
                        **({"frames": self.count} if self.nbytes else {}),
                    }
                )
            )
            self.shutdown()


async def borrow() -> None:
    """Receive frames without keeping them, to measure the peak of memory."""
    async with Counter("127.0.0.1", PORT) as client:
        async for frame in client.frames("D", keep=False):
            len(frame.data)


async def queued() -> None:
    """Measure the microseconds for an event of a QueClient that knows 400 vectors."""
    taken: deque[Any] = deque(maxlen=1)
    client = queclient.QueClient(deque(), taken, "127.0.0.1", PORT)
    running = asyncio.ensure_future(client.asyncrun())
    while sum(len(device) for device in client.values()) < 400:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    vectors = [vector for device in client.values() for vector in device.values()]
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end or not times:
        for vector in vectors[:20]:
            vector.state = "Busy" if vector.state == "Ok" else "Ok"
            await client.rxevent(library.VectorTimeOut(vector.device, vector))
        times.append((time.perf_counter() - began) / 20)
    print(json.dumps({"event_us": statistics.median(times) * 1e6}))
    client.shutdown()
    await running


if TASK == "count":
    assert threading.active_count() == 1
task = {"borrow": borrow, "queued": queued, "count": Counter("127.0.0.1", PORT).asyncrun}[TASK]
with asyncio.Runner(
    loop_factory=importlib.import_module("uvloop").new_event_loop if LOOP == "uvloop" else None
) as runner:
    runner.run(task())
