"""A server with a camera that sends as many frames as it is told to; prints its port. For the measurements only.

Every frame is written anew: each page of 4096 bytes carries the number of the frame.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    IPyServer,
    NumberMember,
    NumberVector,
    newNumberVector,
)

PAGE = 4096


class Camera(IPyDriver):
    """`FRAMES.COUNT = n` makes it send n frames, as fast as they are taken."""

    def __init__(self, nbytes: int) -> None:
        self.frame = np.zeros(nbytes, np.uint8)
        self.count = NumberVector(
            "FRAMES", "Frames", "Main", "rw", "Idle", [NumberMember("COUNT", "Count", "%.0f", 0, 1e9, 1, 0)]
        )
        self.image = BLOBVector("FRAME", "Frame", "Main", "ro", "Idle", [BLOBMember("FRAME", blobformat=".bin")])
        self.orders: asyncio.Queue[int] = asyncio.Queue()
        super().__init__(Device("Camera", [self.count, self.image]))

    async def rxevent(self, event: object) -> None:
        match event:
            case newNumberVector(vectorname="FRAMES"):
                self.orders.put_nowait(int(event.getfloatvalue("COUNT")))

    async def hardware(self) -> None:
        marks = self.frame[::PAGE]
        while not self.stop:
            for _ in range(await self.orders.get()):
                marks += 1
                self.image["FRAME"] = self.frame
                await self.image.send_setVectorMembers(state="Ok", members=["FRAME"])


async def main() -> None:
    server = IPyServer(Camera(int(sys.argv[1])), host="127.0.0.1", port=0)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main())
