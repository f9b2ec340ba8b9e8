"""`flood.py RATE`: a server with a device of 50 properties, which are updated RATE times a second in total.

It prints its port, and ends with its input.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from indifast import Device, IPyDriver, IPyServer, NumberMember, NumberVector

PROPERTIES = 50


class Flood(IPyDriver):
    """Sends updates at a fixed rate, whatever else happens. OFFSET takes commands meanwhile."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.vectors = [
            NumberVector(
                f"N{index:02}",
                f"Number {index}",
                "Main",
                "ro",
                "Ok",
                [NumberMember(m, m, "%.0f", 0, 0, 0, 0) for m in "AB"],
            )
            for index in range(PROPERTIES)
        ]
        self.offset = NumberVector(
            "OFFSET", "Offset", "Other", "rw", "Ok", [NumberMember("O", "O", "%.0f", 0, 0, 0, 0)]
        )
        super().__init__(Device("Flood", [*self.vectors, self.offset]))

    async def rxevent(self, event: object) -> None:
        self.offset["O"] = event["O"]
        await self.offset.send_setVector(state="Ok")

    async def hardware(self) -> None:
        sent, began = 0, time.monotonic()
        while not self.stop:
            due = int((time.monotonic() - began) * self.rate)
            for number in range(sent, min(due, sent + self.rate)):
                vector = self.vectors[number % PROPERTIES]
                vector["A"] = vector["B"] = number
                await vector.send_setVector(state="Ok")
            sent = due
            await asyncio.sleep(0.01)  # paces the updates


async def main() -> None:
    server = IPyServer(Flood(int(sys.argv[1])), host="127.0.0.1", port=0)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await asyncio.to_thread(os.read, 0, 1)
    server.shutdown()
    await running


asyncio.run(main())
