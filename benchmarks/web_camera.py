"""The server of `benchmarks.web`: a camera of 2 Mpixel with 16 bits that sends at a rate, for those who want frames.

    python -m benchmarks.web_camera RATE [WIDTH HEIGHT]

It prints its port. RATE is in frames per second; 0: as fast as they are taken. Another size may be given.
"""

from __future__ import annotations

import asyncio
import sys

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, IPyServer
from indifast.cli.demo.starfield import StarField

WIDTH, HEIGHT = 1920, 1080


class Camera(IPyDriver):
    """A camera that never stops."""

    def __init__(self, rate: float, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.sky = StarField(width, height)
        self.rate = rate
        self.image = BLOBVector("CCD1", "", "", "ro", "Ok", [BLOBMember("CCD1", blobformat=".fits")])
        super().__init__(Device("Camera", [self.image]))

    async def hardware(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self.stop:
            self.image["CCD1"] = self.sky.frame()
            await self.image.send_setVectorMembers(state="Ok", members=["CCD1"])
            due = max(due + 1 / self.rate, loop.time() - 1) if self.rate else loop.time()
            await asyncio.sleep(due - loop.time())


async def main(rate: float, *size: int) -> None:
    server = IPyServer(Camera(rate, *size), host="127.0.0.1", port=0)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), *map(int, sys.argv[2:])))
