"""A driver whose counters and frames can be checked: a program, or part of a server (`module:callable`).

    python -m tests.soak.programs.driver NAME [MIRRORED-DEVICE]

It counts in `beat`, obeys commands in `token`, and sends frames in `frame` (each of them matters), in `pair` (two in
one message) and, from a thread, in `live` (a newer one may replace an older one). If there is a device to be mirrored,
`mirror` repeats its `beat`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    NumberMember,
    NumberVector,
    TextMember,
    TextVector,
    newTextVector,
)
from tests.soak import payload
from tests.soak.ledger import COUNTER, MIRROR, TOKEN
from tests.soak.payload import Identity

BEATS, FRAMES, LIVE, PAIRS = 0.05, 0.4, 0.25, 1.0  # seconds between two


class SoakDriver(IPyDriver):
    """See the module's docstring."""

    async def hardware(self) -> None:
        self.device: str = self.driverdata["device"]
        self.run: int = self.driverdata["run"]
        self.vectors: Any = self[self.device]
        mirrored = self.driverdata["mirrored"]
        if mirrored:
            self.snoop(mirrored, COUNTER, 10)
        ended = threading.Event()
        thread = threading.Thread(target=self.play, args=[ended], daemon=True)
        thread.start()
        for repeated in (self.beat(), self.frames(), self.pairs()):
            self.add_background(repeated)
        try:
            while not self.stop:
                await asyncio.sleep(0.2)
        finally:
            ended.set()

    async def beat(self) -> None:
        beat = self.vectors[COUNTER]

        async def send(number: int) -> None:
            beat["run"], beat["number"] = self.run, number
            await beat.send_setVector(state="Ok", message=f"beat {number}" if number % 40 == 0 else "")

        await self.repeat(send, BEATS)

    async def send_frames(self, name: str, members: tuple[str, ...], pause: float, largest: int) -> None:
        vector = self.vectors[name]

        async def send(number: int) -> None:
            for member in members:
                of = f"{self.device}.{name}.{member}"
                size = payload.size_of(number + ord(member[0]), largest)
                vector[member] = payload.frame(of, Identity(self.run, number), size)
            await vector.send_setVectorMembers(state="Ok", members=list(members))

        await self.repeat(send, pause)

    async def repeat(self, send: Callable[[int], Awaitable[None]], pause: float) -> None:
        """Send one number after the other; one that there is no memory for is sent later."""
        number = 1
        while not self.stop:
            try:
                await send(number)
                number += 1
            except MemoryError:
                print("no memory: trying again", file=sys.stderr)
            await asyncio.sleep(pause)

    async def frames(self) -> None:
        await self.send_frames("frame", ("data",), FRAMES, 4 << 20)

    async def pairs(self) -> None:
        await self.send_frames("pair", ("one", "two"), PAIRS, 400_000)

    def play(self, ended: threading.Event) -> None:
        number = 0
        while not ended.wait(LIVE):
            number += 1
            try:
                content = payload.frame(f"{self.device}.live.data", Identity(self.run, number), 60_000)
                self.vectors["live"].send_threadsafe({"data": content}, state="Ok")
            except MemoryError:
                continue
            except RuntimeError:  # the driver has ended in the meantime
                return

    async def rxevent(self, event: Any) -> None:
        match event:
            case newTextVector(vectorname="token") if "text" in event:
                event.vector["text"] = event["text"]
                await event.vector.send_setVector(state="Ok")

    async def snoopevent(self, event: Any) -> None:
        if event.vectorname == COUNTER and "run" in event and "number" in event:
            mirror = self.vectors[MIRROR]
            mirror["run"], mirror["number"] = event["run"], event["number"]
            await mirror.send_setVector(state="Ok")


def make_driver(device: str, mirrored: str = "") -> SoakDriver:
    run = time.monotonic_ns() // 1_000_000  # of a clock that nobody sets: a later run has a higher number

    def numbers(name: str, run: int = 0) -> NumberVector:
        members = [NumberMember("run", format="%.0f", membervalue=run), NumberMember("number", format="%.0f")]
        return NumberVector(name, "", "Main", "ro", "Idle", members)

    def blobs(name: str, form: str, *members: str) -> BLOBVector:
        return BLOBVector(name, "", "Main", "ro", "Idle", [BLOBMember(member, blobformat=form) for member in members])

    vectors: list[Any] = [
        numbers(COUNTER, run),
        TextVector(TOKEN, "", "Main", "rw", "Idle", [TextMember("text", membervalue="none")]),
        blobs("frame", payload.FORMAT, "data"),
        blobs("pair", payload.FORMAT, "one", "two"),
        blobs("live", payload.STREAM_FORMAT, "data"),
    ]
    if mirrored:
        vectors.append(numbers(MIRROR))
    return SoakDriver(Device(device, vectors), device=device, mirrored=mirrored, run=run)


def make() -> SoakDriver:
    """The driver inside a server."""
    return make_driver(os.environ["SOAK_DEVICE"])


if __name__ == "__main__":
    asyncio.run(make_driver(*sys.argv[1:]).asyncrun())
