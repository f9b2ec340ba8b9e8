"""A guider that snoops on a camera: it follows a star from frame to frame, and says how to correct the mount.

    python examples/snooping_guider.py --port 7624
    indifast expose --connect "Simulated Camera" 0.5 -n 20 -o frames/
    indifast watch "Guider.*"

A driver cannot command the driver of a camera, only watch it: a client takes the exposures. The camera may also be on
another server (`--camera-at telescope.local:7624`), and does not know that it is watched. The guider gets its frames
because it runs in the server's process; a driver that runs as a program sends an `enableBLOB` to ask for them.

Reading compressed FITS (.fits.fz) needs astropy: pip install '.[fits]'
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import numpy as np
from simulated_camera import CameraDriver

from indifast import (
    Device,
    IPyDriver,
    IPyServer,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    delProperty,
    newSwitchVector,
    setBLOBVector,
)
from indifast.client import frame_array

BOX = 10  # pixels from the center of a star to the edge of what is measured
MILLISECONDS_PER_PIXEL = 250  # how long a correction has to last


def find_star(pixels: np.ndarray, near: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the place of the brightest star (x, y), or of the one near a place; None if there is none."""
    left, top = (0, 0) if near is None else (max(round(place) - BOX, 0) for place in near)
    area = pixels[top : None if near is None else top + 2 * BOX, left : None if near is None else left + 2 * BOX]
    row, column = np.unravel_index(np.argmax(area), area.shape)
    top, left = max(top + row - BOX, 0), max(left + column - BOX, 0)
    light = pixels[top : top + 2 * BOX, left : left + 2 * BOX].astype(float)
    light = (light - np.median(light) - 5 * np.std(pixels[::16, ::16])).clip(0)
    if not light.any():
        return None
    rows, columns = np.indices(light.shape)
    return float(left + (columns * light).sum() / light.sum()), float(top + (rows * light).sum() / light.sum())


class GuiderDriver(IPyDriver):
    async def hardware(self) -> None:
        self.star: tuple[float, float] | None = None
        # Ask for the frames, and ask again whenever there has been none for a minute.
        self.snoop(self.driverdata["camera"], "CCD1", timeout=60)
        self.snoop(self.driverdata["camera"], "CCD_EXPOSURE", timeout=60)

    async def rxevent(self, event: object) -> None:
        match event:
            case newSwitchVector(vectorname="GUIDING"):
                self.star = None
                on = event.get("ON") == "On"
                event.vector.update({"ON": "On" if on else "Off", "OFF": "Off" if on else "On"})
                await event.vector.send_setVector(state="Busy" if on else "Idle")

    async def snoopevent(self, event: object) -> None:
        camera, guiding = self.driverdata["camera"], self["Guider"]["GUIDING"]
        match event:
            case setBLOBVector(devicename=device, vectorname="CCD1") if device == camera and guiding["ON"] == "On":
                # In a thread, because a large frame takes a while. The next one waits meanwhile.
                content, (_, form) = event.buffer("CCD1"), event.sizeformat["CCD1"]
                pixels = await asyncio.to_thread(frame_array, content, form)
                await self.follow(pixels)
            case delProperty(devicename=device) if device == camera and guiding["ON"] == "On":
                self.star = None
                await guiding.send_setVector(state="Alert", message="The camera is gone; waiting for it")

    async def follow(self, pixels: np.ndarray) -> None:
        """Measure where the star is, and correct by the difference to where it was at first."""
        guiding, error, pulse = (self["Guider"][name] for name in ("GUIDING", "ERROR", "PULSE"))
        place = find_star(pixels, self.star)
        if place is None:
            await guiding.send_setVector(state="Alert", message="There is no star")
            return
        if self.star is None:
            self.star = place
        x, y = place[0] - self.star[0], place[1] - self.star[1]
        error.update({"X": f"{x:z.2f}", "Y": f"{y:z.2f}"})
        await error.send_setVector(state="Ok")
        # This is where a real guider would close the relays of its guide port.
        pulse.update({"WE": round(-x * MILLISECONDS_PER_PIXEL), "NS": round(-y * MILLISECONDS_PER_PIXEL)})
        await pulse.send_setVector(state="Ok")
        if guiding.state != "Ok":
            await guiding.send_setVector(state="Ok", message=f"Following the star at {place[0]:.0f}, {place[1]:.0f}")


def make_driver(camera: str) -> GuiderDriver:
    switch = [SwitchMember("ON", "On", "On"), SwitchMember("OFF", "Off")]
    guiding = SwitchVector("GUIDING", "Guiding", "Main", "rw", "OneOfMany", "Busy", switch)
    shifts = [NumberMember("X", "X (pixels)", "%.2f"), NumberMember("Y", "Y (pixels)", "%.2f")]
    error = NumberVector("ERROR", "Guiding error", "Main", "ro", "Idle", shifts)
    pulses = [NumberMember("WE", "West, or -East (ms)", "%.f"), NumberMember("NS", "North, or -South (ms)", "%.f")]
    pulse = NumberVector("PULSE", "Correction", "Main", "ro", "Idle", pulses)
    return GuiderDriver(Device("Guider", [guiding, error, pulse]), camera=camera)


async def main(port: int, camera: str, elsewhere: str) -> None:
    guider = make_driver(camera)
    if elsewhere:
        server = IPyServer(guider, host="localhost", port=port)
        host, _, number = elsewhere.rpartition(":")
        server.add_remote(host, int(number), blob_enable=True)
    else:
        server = IPyServer(guider, CameraDriver(), host="localhost", port=port)
    async with server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A guider that snoops on a camera.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--camera", default="Simulated Camera")
    parser.add_argument("--camera-at", default="", metavar="HOST:PORT", help="the server that has the camera")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.camera, options.camera_at))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
