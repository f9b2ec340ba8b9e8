#!/usr/bin/env python3
"""A camera without hardware, which Ekos, PHD2 and other INDI clients take for a real one.

To run it as a driver on standard input and output, for any INDI server (`indiserver ./simulated_camera.py`, or
`IPyServer.add_exdriver`):

    python examples/simulated_camera.py

To run it with its own server:

    python examples/simulated_camera.py --serve --port 7624
    indifast expose --connect "Simulated Camera" 0.5 -o sky.fits

Clients recognize a camera by the names of its properties, which are in `camera_properties.py`. A driver for a real
camera needs the same ones; its `expose` and `hardware` would call the camera's library.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from camera_properties import of_a_camera, of_a_driver
from sky import Sky, fits_file

from indifast import (
    Device,
    IPyDriver,
    IPyServer,
    NumberVector,
    SwitchVector,
    newNumberVector,
    newSwitchVector,
    newTextVector,
)

NAME = "Simulated Camera"
WIDTH, HEIGHT, PIXEL = 1280, 1024, 3.76  # the last one in micrometers
AMBIENT = 15.0  # °C


class CameraDriver(IPyDriver):
    """Handles commands in `rxevent`, exposes in the background, and plays the cooler in `hardware`."""

    def __init__(self) -> None:
        self.connected = of_a_camera(WIDTH, HEIGHT, PIXEL, AMBIENT)
        for vector in self.connected:
            vector.enable = False  # it exists only while the camera is connected
        super().__init__(Device(NAME, [*of_a_driver(NAME, __file__), *self.connected]))
        self.camera = self[NAME]
        self.sky = Sky(WIDTH, HEIGHT)
        self.target = AMBIENT
        self.interrupted = asyncio.Event()  # ends the exposure that is under way

    def chosen(self, name: str) -> str:
        """Return the name of the switch that is On."""
        return next(member for member, value in self.camera[name].items() if value == "On")

    # Commands

    async def rxevent(self, event: object) -> None:
        match event:
            case newNumberVector():
                await self.set_numbers(event.vector, {name: event.getfloatvalue(name) for name in event})
            case newSwitchVector():
                await self.set_switches(event.vector, [name for name, value in event.items() if value == "On"])
            case newTextVector():
                event.vector.update({name: text.strip() for name, text in event.items()})  # servers add line breaks
                await event.vector.send_setVector(state="Ok")

    async def set_numbers(self, vector: NumberVector, values: dict[str, float]) -> None:
        for name, value in values.items():
            low, high = float(vector.data[name].min), float(vector.data[name].max)
            if not low <= value <= high:
                await vector.send_setVector(state="Alert", message=f"{name} must be between {low:g} and {high:g}")
                return
        match vector.name:
            case "CCD_EXPOSURE":
                self.interrupted.set()  # a new exposure replaces the current one
                self.interrupted = asyncio.Event()
                vector["CCD_EXPOSURE_VALUE"] = seconds = values["CCD_EXPOSURE_VALUE"]
                await vector.send_setVector(state="Busy")
                self.add_background(self.expose(seconds, self.interrupted))
            case "CCD_TEMPERATURE":
                self.target = values["CCD_TEMPERATURE_VALUE"]
                await vector.send_setVector(state="Busy")
                await self.set_switches(self.camera["CCD_COOLER"], ["COOLER_ON"])
            case _:
                whole = {name: round(float(value)) for name, value in {**vector, **values}.items()}
                if "X" in whole and (whole["X"] + whole["WIDTH"] > WIDTH or whole["Y"] + whole["HEIGHT"] > HEIGHT):
                    await vector.send_setVector(state="Alert", message="The frame is larger than the sensor")
                    return
                vector.update(whole)
                await vector.send_setVector(state="Ok")

    async def set_switches(self, vector: SwitchVector, on: list[str]) -> None:
        if vector.rule == "OneOfMany" and len(on) != 1:
            await vector.send_setVector(state="Alert", message=f"{vector.label}: choose one")
            return
        if vector.rule == "OneOfMany":
            vector.update({name: "On" if name in on else "Off" for name in vector})
        match vector.name:
            case "CONNECTION" if on == ["CONNECT"]:
                await vector.send_setVector(state="Ok")
                for each in self.connected:
                    if each.name != "CCD_FILE_PATH" or self.chosen("UPLOAD_MODE") != "UPLOAD_CLIENT":
                        each.enable = True
                        await each.send_defVector(state="Idle")
            case "CONNECTION":
                self.interrupted.set()
                await vector.send_setVector(state="Idle")
                for each in self.connected:
                    if each.enable:
                        await each.send_delProperty()
            case "CCD_ABORT_EXPOSURE":
                self.interrupted.set()
                await vector.send_setVector(state="Ok")
                self.camera["CCD_EXPOSURE"]["CCD_EXPOSURE_VALUE"] = 0
                await self.camera["CCD_EXPOSURE"].send_setVector(state="Idle")
            case "CCD_FRAME_RESET":
                self.camera["CCD_BINNING"].update({"HOR_BIN": 1, "VER_BIN": 1})
                self.camera["CCD_FRAME"].update({"X": 0, "Y": 0, "WIDTH": WIDTH, "HEIGHT": HEIGHT})
                for each in (self.camera["CCD_BINNING"], self.camera["CCD_FRAME"], vector):
                    await each.send_setVector(state="Ok")
            case "CCD_COOLER":
                await vector.send_setVector(state="Busy" if on == ["COOLER_ON"] else "Idle")
            case "UPLOAD_MODE":
                path = self.camera["CCD_FILE_PATH"]
                if on == ["UPLOAD_CLIENT"] and path.enable:
                    await path.send_delProperty()
                elif on != ["UPLOAD_CLIENT"] and not path.enable:
                    path.enable = True
                    await path.send_defVector()
                await vector.send_setVector(state="Ok")
            case _:
                await vector.send_setVector(state="Ok")

    # What the camera does

    async def hardware(self) -> None:
        """Let the temperature follow the cooler, half a degree each second."""
        vector = self.camera["CCD_TEMPERATURE"]
        while not self.stop:
            await asyncio.sleep(1)
            now, cooling = vector.getfloatvalue("CCD_TEMPERATURE_VALUE"), self.chosen("CCD_COOLER") == "COOLER_ON"
            goal = self.target if cooling else AMBIENT
            vector["CCD_TEMPERATURE_VALUE"] = now + min(max(goal - now, -0.5), 0.5)
            if now != goal or vector.state == "Busy":
                await vector.send_setVector(state="Idle" if not cooling else "Busy" if now != goal else "Ok")

    async def expose(self, seconds: float, interrupted: asyncio.Event) -> None:
        exposure = self.camera["CCD_EXPOSURE"]
        began, ends = datetime.now(UTC), time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1)):
                    await interrupted.wait()
                    return
            exposure["CCD_EXPOSURE_VALUE"] = max(ends - time.monotonic(), 0)
            await exposure.send_setVector(state="Busy")
        frame = {name: int(float(value)) for name, value in self.camera["CCD_FRAME"].items()}
        rows, columns = slice(frame["Y"], frame["Y"] + frame["HEIGHT"]), slice(frame["X"], frame["X"] + frame["WIDTH"])
        right, down = (int(float(value)) for value in self.camera["CCD_BINNING"].values())
        kind = self.chosen("CCD_FRAME_TYPE").removeprefix("FRAME_").title()
        pixels = await asyncio.to_thread(self.sky.picture, seconds, kind, (rows, columns), (down, right))
        if interrupted.is_set():
            return
        if self.chosen("CCD_TRANSFER_FORMAT") == "FORMAT_NATIVE":
            content, suffix = pixels.tobytes(), ".bin"
        else:
            content, suffix = fits_file(pixels, self.cards(seconds, kind, began, right, down)), ".fits"
        try:
            await self.deliver(content, suffix)
        except OSError as error:
            await exposure.send_setVector(state="Alert", message=f"The picture cannot be saved: {error}")
        else:
            await exposure.send_setVector(state="Ok")

    def cards(self, seconds: float, kind: str, began: datetime, right: int, down: int) -> dict[str, str | float]:
        """Return the header of a picture."""
        return {
            "ROWORDER": "TOP-DOWN",
            "INSTRUME": NAME,
            "OBSERVER": self.camera["FITS_HEADER"]["FITS_OBSERVER"],
            "OBJECT": self.camera["FITS_HEADER"]["FITS_OBJECT"],
            "EXPTIME": seconds,
            "CCD-TEMP": self.camera["CCD_TEMPERATURE"].getfloatvalue("CCD_TEMPERATURE_VALUE"),
            "PIXSIZE1": PIXEL,
            "PIXSIZE2": PIXEL,
            "XBINNING": right,
            "YBINNING": down,
            "XPIXSZ": PIXEL * right,
            "YPIXSZ": PIXEL * down,
            "FRAME": kind,
            "IMAGETYP": f"{kind} Frame",
            "DATE-OBS": f"{began:%Y-%m-%dT%H:%M:%S}.{began.microsecond // 1000:03}",
        }

    async def deliver(self, content: bytes, suffix: str) -> None:
        """Save a picture, send it to clients, or both, as UPLOAD_MODE says."""
        mode, folder = self.chosen("UPLOAD_MODE"), self.camera["UPLOAD_SETTINGS"]
        if mode != "UPLOAD_CLIENT":
            path = await asyncio.to_thread(save, content, folder["UPLOAD_DIR"], folder["UPLOAD_PREFIX"], suffix)
            self.camera["CCD_FILE_PATH"]["FILE_PATH"] = str(path)
            await self.camera["CCD_FILE_PATH"].send_setVector(state="Ok")
        if mode != "UPLOAD_LOCAL":
            picture = self.camera["CCD1"]
            picture.data["CCD1"].blobformat = suffix
            picture["CCD1"] = content
            compress = self.chosen("CCD_COMPRESSION") == "INDI_ENABLED"
            await picture.send_setVectorMembers(state="Ok", members=["CCD1"], compress=compress)


def save(content: bytes, folder: str, prefix: str, suffix: str) -> Path:
    """Save a picture under the next free number, which replaces XXX in the prefix."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    name = Path(prefix if "XXX" in prefix else f"{prefix}_XXX").name  # clients choose the folder, but nothing below it
    for number in range(1, 1000):
        path = Path(folder, name.replace("XXX", f"{number:03}") + suffix)
        with contextlib.suppress(FileExistsError), path.open("xb") as file:
            file.write(content)
            return path
    raise OSError(f"{folder} is full: 999 pictures of this name")


async def main(serve: bool, port: int) -> None:
    driver = CameraDriver()
    if not serve:
        await driver.asyncrun()
        return
    async with IPyServer(driver, host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A camera without hardware.")
    parser.add_argument("--serve", action="store_true", help="run a server around the driver")
    parser.add_argument("--port", type=int, default=7624, help="port of that server (default: 7624)")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.serve, options.port))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
