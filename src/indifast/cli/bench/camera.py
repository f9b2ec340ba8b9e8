"""The two ends of the full stack that `indifast bench` measures: a camera and its viewer, with NumPy frames.

    python -m indifast.cli.bench.camera                     the driver, on its standard input and output
    python -m indifast.cli.bench.camera view HOST PORT SECONDS    the client, which prints one line of JSON

The camera writes every pixel of every frame anew. The viewer looks at one pixel of each page while the time runs, and
at all of them in the frames behind that. HOST may be the path of a Unix socket.
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
"""Of a frame of 16 bits per pixel: a row is a page of memory."""

SKY = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint32).reshape(SHAPE).astype(np.uint16)

COMPARED = 8
"""Frames that are compared whole."""

PATIENCE = 10.0
"""Seconds that the driver, or a frame, may take to come."""


class Camera(IPyDriver):
    """Sends frame after frame, as fast as they are taken, once it was told to go."""

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
    """Counts frames, those that are not what they should be, and those that did not come."""

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
    """MB of pixels per second; the first frame warms up, time runs from it to the last one."""
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
    """Play the part that the first word names; gives the exit status."""
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
