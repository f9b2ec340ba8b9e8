"""The serving end of the full-stack measurement: a server with a camera that sends as many frames as it is told to.

    python benchmarks/stack_camera.py PACKAGE PORT NBYTES

PACKAGE is `indifast` or `indipydriver`; PORT may be 0 for indifast; the port is printed. The program is the same for
both, as far as they take the same values. Every frame is written anew: each page of 4096 bytes carries its number.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

PAGE = 4096

package = sys.argv[1] if __name__ == "__main__" else "indifast"
indi: Any = import_module(package)
IPyServer: Any = (indi if package == "indifast" else import_module("indipyserver")).IPyServer


class Camera(indi.IPyDriver):  # type: ignore[misc]  # whichever package it is
    """`FRAMES.COUNT = n` makes it send n frames, as fast as they are taken."""

    def __init__(self, nbytes: int) -> None:
        self.frame = bytearray(nbytes)
        count = indi.NumberMember("COUNT", "Count", "%.0f", "0", "1e9", "1", "0")
        self.count = indi.NumberVector("FRAMES", "Frames", "Main", "rw", "Idle", [count])
        self.image = indi.BLOBVector("FRAME", "", "", "ro", "Idle", [indi.BLOBMember("FRAME", blobformat=".bin")])
        self.orders: asyncio.Queue[int] = asyncio.Queue()
        super().__init__(indi.Device("Camera", [self.count, self.image]))

    async def rxevent(self, event: Any) -> None:
        if event.vectorname == "FRAMES":
            self.orders.put_nowait(int(float(event["COUNT"])))

    async def hardware(self) -> None:
        number, pages = 0, len(self.frame[::PAGE])
        while not self.stop:
            for _ in range(await self.orders.get()):
                number = number + 1 & 0xFF
                self.frame[::PAGE] = bytes([number]) * pages
                # indipydriver takes bytes alone
                self.image["FRAME"] = self.frame if package == "indifast" else bytes(self.frame)
                await self.image.send_setVectorMembers(state="Ok", members=["FRAME"])


async def main(port: int, nbytes: int) -> None:
    server = IPyServer(Camera(nbytes), host="127.0.0.1", port=port)
    running = asyncio.create_task(server.asyncrun())
    if package == "indifast":
        await server.ready()
        port = server.port
    print(port, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2]), int(sys.argv[3])))
