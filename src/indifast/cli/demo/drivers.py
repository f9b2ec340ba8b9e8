"""Simulated instruments of the demonstration, and the process that serves them.

`python -m indifast.cli.demo.drivers WIDTH HEIGHT` serves on a free local port, prints the port number, and ends when
its input does: it cannot outlive the process that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys

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
from indifast.cli.demo.names import CAMERA, THERMOSTAT
from indifast.cli.demo.starfield import StarField
from indifast.cli.lossy import never_wait


class CameraDriver(IPyDriver):
    """A camera that streams star fields while its STREAM switch is on, at a set rate or as fast as they are taken."""

    def __init__(self, width: int, height: int) -> None:
        self.sky = StarField(width, height)
        self.switch = SwitchVector(
            "STREAM",
            "Stream",
            "Main",
            "rw",
            "OneOfMany",
            "Ok",
            [SwitchMember("ON", "On", "Off"), SwitchMember("OFF", "Off", "On")],
        )
        self.rate = NumberVector(
            "RATE",
            "Rate (0: as fast as frames are taken)",
            "Main",
            "rw",
            "Ok",
            [NumberMember("FPS", "Frames/s", "%.1f", 0, 1000, 0.1, 0)],
        )
        self.image = BLOBVector("CCD1", "Image", "Main", "ro", "Ok", [BLOBMember("CCD1", "Image", blobformat=".fits")])
        self.changed = asyncio.Event()
        super().__init__(Device(CAMERA, [self.switch, self.rate, self.image]))

    async def rxevent(self, event: object) -> None:
        match event:
            case newSwitchVector(vectorname="STREAM"):
                streaming = "On" if event.get("ON") == "On" else "Off"
                self.switch["ON"], self.switch["OFF"] = streaming, "Off" if streaming == "On" else "On"
                await self.switch.send_setVector(state="Ok")
            case newNumberVector(vectorname="RATE"):
                self.rate["FPS"] = min(max(event.getfloatvalue("FPS"), 0.0), 1000.0)
                await self.rate.send_setVector(state="Ok")
        self.changed.set()

    async def hardware(self) -> None:
        while not self.stop:
            self.changed.clear()
            if self.switch["ON"] != "On":
                await self.changed.wait()
                continue
            self.image["CCD1"] = self.sky.frame()
            await self.image.send_setVectorMembers(state="Ok", members=["CCD1"])
            if rate := float(self.rate["FPS"]):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1 / rate):
                        await self.changed.wait()
            else:
                await asyncio.sleep(0)

    def shutdown(self) -> None:
        super().shutdown()
        self.changed.set()


class ThermostatDriver(IPyDriver):
    """A thermostat: a room that cools, and a heater that keeps it at the target temperature."""

    OUTSIDE = 8.0

    def __init__(self) -> None:
        self.temperature = NumberVector(
            "TEMPERATURE", "Temperature", "Main", "ro", "Ok", [NumberMember("T", "°C", "%.2f", -50, 99, 0, 15)]
        )
        self.target = NumberVector(
            "TARGET", "Wanted temperature", "Main", "rw", "Ok", [NumberMember("T", "°C", "%.1f", 5, 40, 0.5, 20)]
        )
        self.heater = SwitchVector(
            "HEATER", "Heater", "Main", "ro", "AtMostOne", "Ok", [SwitchMember("ON", "Heating", "Off")]
        )
        super().__init__(Device(THERMOSTAT, [self.temperature, self.target, self.heater]))

    async def rxevent(self, event: object) -> None:
        match event:
            case newNumberVector(vectorname="TARGET"):
                self.target["T"] = min(max(event.getfloatvalue("T"), 5.0), 40.0)
                await self.target.send_setVector(state="Ok")

    async def hardware(self) -> None:
        step = 0.25
        degrees = float(self.temperature["T"])
        while not self.stop:
            wanted = float(self.target["T"])
            if abs(degrees - wanted) > 0.2:
                self.heater["ON"] = "On" if degrees < wanted else "Off"
                await self.heater.send_setVector(allvalues=False)
            warming = 2.0 if self.heater["ON"] == "On" else 0.0
            degrees += (warming - 0.05 * (degrees - self.OUTSIDE)) * step
            self.temperature["T"] = f"{degrees:.2f}"
            await self.temperature.send_setVector()
            await asyncio.sleep(step)


async def _serve(width: int, height: int) -> None:
    server = IPyServer(CameraDriver(width, height), ThermostatDriver(), host="127.0.0.1", port=0, maxconnections=None)
    running = asyncio.create_task(server.asyncrun())
    ready = asyncio.create_task(server.ready())
    await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(os.read, 0, 1)  # nothing is ever written: returns when the parent ends
        server.shutdown()
    ready.cancel()
    await asyncio.gather(ready, return_exceptions=True)
    await running


if __name__ == "__main__":
    logging.getLogger("indifast").setLevel(logging.ERROR)
    never_wait("stderr")
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
