"""Both ends of the full stack that `indifast bench` measures: a camera and its viewer, with NumPy frames.

    python -m indifast.cli.bench.camera                     the driver, on its standard input and output
    python -m indifast.cli.bench.camera view HOST PORT SECONDS    the client, which prints one line of JSON

The camera rewrites every pixel for each frame. The viewer checks one pixel of each memory page during the measurement,
and every pixel of some frames after it. HOST may be the path of a Unix socket.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

import numpy as np

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, SwitchMember, SwitchVector, newSwitchVector
from indifast.cli.bench.wire import faults
from indifast.client import IPyClient

SHAPE = 1024, 2048
"""Rows and columns of a frame with 16 bits per pixel: a row is one memory page."""

SKY = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint32).reshape(SHAPE).astype(np.uint16)

COMPARED = 8
"""Number of frames that are compared completely."""

PATIENCE = 10.0
"""Seconds to wait for the driver, or for a frame."""


class Camera(IPyDriver):
    """Sends frames as fast as they are taken, once its GO switch is on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        switch = SwitchVector("GO", "", "", "rw", "AnyOfMany", "Idle", [SwitchMember("GO")])
        self.image = BLOBVector("FRAME", "", "", "ro", "Idle", [BLOBMember("FRAME", blobformat=".bin")])
        super().__init__(Device("Camera", [switch, self.image]))

    async def rxevent(self, event: object) -> None:
        if isinstance(event, newSwitchVector):
            self.go.set()

    async def hardware(self) -> None:
        frame = np.empty(SHAPE, np.uint16)
        self.image["FRAME"] = frame
        number = 0
        await self.go.wait()
        while not self.stop:
            np.add(SKY, number & 0xFFFF, out=frame, casting="unsafe")
            await self.image.send_setVectorMembers(state="Ok", members=["FRAME"])
            number += 1


class Viewer:
    """Counts the frames received, the wrong ones among them, and the missing ones."""

    def __init__(self) -> None:
        self.count = self.wrong = self.missed = 0
        self._next = 0

    def look(self, data: memoryview, whole: bool) -> None:
        self.count += 1
        picture = np.frombuffer(data, np.uint16)
        if picture.size != SKY.size:
            self.wrong += 1
            return
        picture = picture.reshape(SHAPE)
        number = int(picture[0, 0]) - int(SKY[0, 0]) & 0xFFFF
        seen, made = (picture, SKY) if whole else (picture[:, 0], SKY[:, 0])
        self.wrong += not np.array_equal(seen, made + np.uint16(number))
        self.missed += number - self._next & 0xFFFF
        self._next = number + 1


async def view(host: str, port: int, seconds: float) -> dict[str, object]:
    """Measure MB of pixels per second, from the first frame, which only warms up, to the last one."""
    viewer = Viewer()
    async with IPyClient(host, port) as client:
        await client.ready(PATIENCE, ("Camera", "GO"), ("Camera", "FRAME"))
        frames = client.frames("Camera", "FRAME")
        await client.send_newVector("Camera", "GO", members={"GO": "On"})
        async with asyncio.timeout(PATIENCE):
            viewer.look((await anext(frames)).data, whole=False)
        begin, elapsed = time.perf_counter(), 0.0
        while elapsed < seconds:
            async with asyncio.timeout(PATIENCE):
                viewer.look((await anext(frames)).data, whole=False)
            elapsed = time.perf_counter() - begin
        rate = (viewer.count - 1) * SKY.nbytes / elapsed / 1e6
        async with asyncio.timeout(PATIENCE):
            for _ in range(COMPARED):
                viewer.look((await anext(frames)).data, whole=True)
    return {"figures": [rate], "faults": faults(viewer.count, viewer.wrong, viewer.missed)}


def main(words: list[str]) -> int:
    """Run the role that the first word names, and return the exit status."""
    logging.getLogger("indifast").setLevel(logging.CRITICAL)
    if not words:
        asyncio.run(Camera().asyncrun())
        return 0
    try:
        result = asyncio.run(view(words[1], int(words[2]), float(words[3])))
    except (OSError, StopAsyncIteration) as error:  # TimeoutError is one
        result = {"figures": [], "faults": [str(error) or f"no frame for {PATIENCE:g} s"]}
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
