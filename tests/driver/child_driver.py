"""A driver program for tests, on stdin and stdout. Its arguments select what its `hardware` does."""

from __future__ import annotations

import asyncio
import sys

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    newSwitchVector,
)

SWITCHES = ("raise", "frame", "stop")
FRAME = bytes(range(256)) * 4096  # 1 MiB


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Child(IPyDriver):
    async def rxevent(self, event) -> None:  # type: ignore[no-untyped-def]
        vector = event.vector
        if isinstance(event, newSwitchVector):
            if "raise" in event:
                raise ValueError("a fault in user code")
            if "frame" in event:
                self["Child"]["blob"]["data"] = FRAME
                await self["Child"]["blob"].send_setVectorMembers(members=["data"])
            if "stop" in event:
                self.shutdown()
        else:
            vector.update(event)
        await vector.send_setVector(state="Ok")

    async def hardware(self) -> None:
        for job in sys.argv[1:]:
            self.add_background(getattr(self, job)())

    async def forever(self) -> None:
        """Ignore `stop`."""
        await asyncio.Event().wait()

    async def stubborn(self) -> None:
        """Ignore `stop`, and cancellation too, for a while."""
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("cancelled")

    async def flood(self) -> None:
        """Send more than fits into a pipe, then say so on stderr."""
        for number in range(3000):
            self["Child"]["number"]["value"] = number
            await self["Child"]["number"].send_setVector(message="x" * 1000)
        say("flooded")

    async def frames(self) -> None:
        """Send far more than may wait for a reader, then write the peak memory to stderr."""
        for number in range(40):
            self["Child"]["blob"]["data"] = bytes([number]) * (8 << 20)
            await self["Child"]["blob"].send_setVectorMembers(members=["data"])
        say(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))  # noqa: ASYNC230, SIM115
        await self.send_message("end")

    async def reuse(self) -> None:
        """Overwrite the buffer as soon as it has been sent."""
        buffer = bytearray(len(FRAME))
        self["Child"]["blob"]["data"] = buffer
        for number in range(5):
            buffer[:] = bytes([number]) * len(buffer)
            await self["Child"]["blob"].send_setVectorMembers(members=["data"])
            buffer[:] = b"\xff" * len(buffer)
        await self.send_message("end")

    async def mixed(self) -> None:
        """Send BLOBs while other coroutines send as well."""
        self["Child"]["blob"]["data"] = FRAME

        async def blobs() -> None:
            for _ in range(10):
                await self["Child"]["blob"].send_setVectorMembers(members=["data"])

        async def numbers() -> None:
            for number in range(200):
                self["Child"]["number"]["value"] = number
                await self["Child"]["number"].send_setVector()
                await asyncio.sleep(0)

        await asyncio.gather(blobs(), numbers(), numbers())
        await self.send_message("mixed")

    async def fail(self) -> None:
        raise ValueError("a fault in user code")


driver = Child(
    Device(
        "Child",
        [
            NumberVector("number", "Number", "Main", "rw", "Idle", [NumberMember("value", format="%g", max=1e9)]),
            SwitchVector("switch", "Switch", "Main", "rw", "AtMostOne", "Idle", map(SwitchMember, SWITCHES)),
            BLOBVector("blob", "BLOB", "Main", "ro", "Ok", [BLOBMember("data", blobformat=".bin")]),
        ],
    )
)

if __name__ == "__main__":
    asyncio.run(driver.asyncrun())
