#!/usr/bin/env python3
"""A camera without hardware that takes pictures of a made-up sky on command.

To run it as a driver on standard input and output, for any INDI server (`indiserver ./simulated_camera.py`, or
`IPyServer.add_exdriver`):

    python examples/simulated_camera.py

To run it with its own server, on port 7624 of this machine:

    python examples/simulated_camera.py --serve

Then, for example, `indi_setprop 'Simulated Camera.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=0.5'` takes an exposure of half a
second, and every client that has enabled BLOBs for this device receives it as a FITS file.
"""

from __future__ import annotations

import argparse
import asyncio

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    IPyServer,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    newNumberVector,
    newSwitchVector,
)
from indifast.cli.demo.starfield import StarField

WIDTH, HEIGHT = 1280, 1024


class CameraDriver(IPyDriver):
    """Handles commands in `rxevent`, and makes the exposures themselves, one after another, in `hardware`."""

    def __init__(self) -> None:
        self.sky = StarField(WIDTH, HEIGHT)
        self.wanted: asyncio.Queue[float] = asyncio.Queue()
        self.aborted = asyncio.Event()

        # INDI clients expect these names and members of a camera.
        self.info = NumberVector(
            name="CCD_INFO",
            label="Sensor",
            group="Sensor",
            perm="ro",
            state="Ok",
            numbermembers=[
                NumberMember("CCD_MAX_X", "Width", "%.0f", 1, 16384, 1, WIDTH),
                NumberMember("CCD_MAX_Y", "Height", "%.0f", 1, 16384, 1, HEIGHT),
                NumberMember("CCD_PIXEL_SIZE", "Pixel size (um)", "%.2f", 1, 40, 0, 3.76),
                NumberMember("CCD_BITSPERPIXEL", "Bits per pixel", "%.0f", 8, 64, 0, 16),
            ],
        )
        self.exposure = NumberVector(
            name="CCD_EXPOSURE",
            label="Expose",
            group="Main Control",
            perm="rw",
            state="Idle",
            numbermembers=[NumberMember("CCD_EXPOSURE_VALUE", "Duration (s)", "%.2f", 0.001, 3600, 0.1, 1)],
        )
        self.abort = SwitchVector(
            name="CCD_ABORT_EXPOSURE",
            label="Abort",
            group="Main Control",
            perm="rw",
            rule="AtMostOne",
            state="Idle",
            switchmembers=[SwitchMember("ABORT", "Abort")],
        )
        self.image = BLOBVector(
            name="CCD1",
            label="Image",
            group="Main Control",
            perm="ro",
            state="Idle",
            blobmembers=[BLOBMember("CCD1", "Image", blobformat=".fits")],
        )
        super().__init__(Device("Simulated Camera", [self.exposure, self.abort, self.image, self.info]))

    async def rxevent(self, event: object) -> None:
        """Handle a command from a client."""
        match event:
            case newNumberVector(vectorname="CCD_EXPOSURE"):
                seconds = event.getfloatvalue("CCD_EXPOSURE_VALUE")
                if not 0.001 <= seconds <= 3600:
                    await self.exposure.send_setVector(state="Alert", message="An exposure can take 1 ms to 1 hour")
                    return
                self.exposure["CCD_EXPOSURE_VALUE"] = seconds
                await self.exposure.send_setVector(state="Busy")
                self.aborted.clear()
                self.wanted.put_nowait(seconds)
            case newSwitchVector(vectorname="CCD_ABORT_EXPOSURE"):
                self.aborted.set()
                await self.abort.send_setVector(state="Ok")

    async def hardware(self) -> None:
        """Make exposures as long as the driver runs. A real driver would talk to its camera here."""
        while not self.stop:
            seconds = await self.wanted.get()
            try:
                async with asyncio.timeout(seconds):
                    await self.aborted.wait()
            except TimeoutError:
                self.image["CCD1"] = self.sky.frame()
                await self.image.send_setVectorMembers(state="Ok", members=["CCD1"])
                self.exposure["CCD_EXPOSURE_VALUE"] = 0
                await self.exposure.send_setVector(state="Ok")
            else:
                await self.exposure.send_setVector(state="Alert", message="Exposure aborted")


async def main() -> None:
    parser = argparse.ArgumentParser(description="A camera without hardware.")
    parser.add_argument("--serve", action="store_true", help="run a server around the driver")
    parser.add_argument("--port", type=int, default=7624, help="port of that server (default: 7624)")
    options = parser.parse_args()

    driver = CameraDriver()
    await (IPyServer(driver, port=options.port) if options.serve else driver).asyncrun()


if __name__ == "__main__":
    asyncio.run(main())
