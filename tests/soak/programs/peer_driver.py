"""A driver of indipydriver that counts and obeys commands like those of indifast. Run by that package's interpreter."""

from __future__ import annotations

import asyncio
import sys
import time

import indipydriver as ipd


class PeerDriver(ipd.IPyDriver):
    async def hardware(self) -> None:
        beat = self[self.driverdata["device"]]["beat"]
        number = 0
        while not self.stop:
            number += 1
            beat["number"] = number
            await beat.send_setVector(state="Ok")
            await asyncio.sleep(0.5)

    async def rxevent(self, event) -> None:
        if isinstance(event, ipd.newTextVector) and "text" in event:
            event.vector["text"] = event["text"]
            await event.vector.send_setVector(state="Ok")


def make_driver(device: str) -> PeerDriver:
    run = time.monotonic_ns() // 1_000_000
    members = [
        ipd.NumberMember("run", "Run", "%.0f", 0, 0, 0, run),
        ipd.NumberMember("number", "Number", "%.0f", 0, 0, 0, 0),
    ]
    beat = ipd.NumberVector("beat", "Beat", "Main", "ro", "Idle", members)
    token = ipd.TextVector("token", "Token", "Main", "rw", "Idle", [ipd.TextMember("text", "Text", "none")])
    return PeerDriver(ipd.Device(device, [beat, token]), device=device)


if __name__ == "__main__":
    asyncio.run(make_driver(sys.argv[1]).asyncrun())
