"""Serving end of `bench_blob.py`: a server with a camera that sends as many frames as requested; prints its port.

    python benchmarks/blob_camera.py NBYTES

Each page of 4096 bytes is marked with the number of its frame.
"""

from __future__ import annotations

import asyncio
import sys

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, IPyServer, NumberMember, NumberVector
from indifast.driver.events import newNumberVector

PAGE = 4096


class Camera(IPyDriver):
    """A camera that sends n frames for `FRAMES.COUNT = n`, as fast as they are taken."""

    def __init__(self, nbytes: int) -> None:
        self.frame = bytearray(nbytes)
        count = NumberMember("COUNT", "Count", "%.0f", "0", "1e9", "1", "0")
        self.count = NumberVector("FRAMES", "Frames", "Main", "rw", "Idle", [count])
        self.image = BLOBVector("FRAME", "", "", "ro", "Idle", [BLOBMember("FRAME", blobformat=".bin")])
        self.orders: asyncio.Queue[int] = asyncio.Queue()
        super().__init__(Device("Camera", [self.count, self.image]))

    async def rxevent(self, event: object) -> None:
        if isinstance(event, newNumberVector):
            self.orders.put_nowait(int(float(event["COUNT"])))

    async def hardware(self) -> None:
        number, pages = 0, len(self.frame[::PAGE])
        while not self.stop:
            for _ in range(await self.orders.get()):
                number = number + 1 & 0xFF
                self.frame[::PAGE] = bytes([number]) * pages
                self.image["FRAME"] = self.frame
                await self.image.send_setVectorMembers(state="Ok", members=["FRAME"])


async def main(nbytes: int) -> None:
    server = IPyServer(Camera(nbytes), host="127.0.0.1", port=0)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
