"""The types of a driver that programs rely on.

`make lint` checks this file with mypy and basedpyright; it is not run.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

import numpy as np

import indifast
from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
    getfloat,
    newBLOBVector,
    newNumberVector,
    newSwitchVector,
    newTextVector,
)
from indifast.driver.propertyvectors import PropertyVector

assert_type(indifast.version, str)
assert_type(getfloat("10:30"), float)

exposure = NumberMember("CCD_EXPOSURE_VALUE", "Seconds", "%5.2f", "0", "3600", "0.01", "1")
exposures = NumberVector("CCD_EXPOSURE", "Expose", "Main", "rw", "Idle", [exposure])
connect = SwitchMember("CONNECT", membervalue="Off")
connection = SwitchVector("CONNECTION", "Connection", "Main", "rw", "OneOfMany", "Idle", [connect])
port = TextVector("DEVICE_PORT", "Port", "Options", "rw", "Idle", [TextMember("PORT", "Port", "/dev/ttyUSB0")])
health = LightVector("HEALTH", "Health", "Main", "Ok", [LightMember("FAN", "Fan", "Ok")])
image = BLOBMember("CCD1", "Image", blobformat=".fits")
images = BLOBVector("CCD1", "Image", "Main", "ro", "Idle", [image])

assert_type(exposures.name, str)
assert_type(exposures.state, str | None)

BLOBMember("CCD1", "Image", blobformat=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
NumberVector("CCD_EXPOSURE", "Expose", "Main", "rw", "Idle", exposure)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Camera(IPyDriver):
    """Answers commands and sends frames."""

    async def rxevent(self, event: object) -> None:
        match event:
            case newNumberVector():
                assert_type(event.devicename, str)
                assert_type(event.vectorname, str)
                assert_type(event.timestamp, datetime | None)
                assert_type(event.getfloatvalue("CCD_EXPOSURE_VALUE"), float)
            case newSwitchVector() | newTextVector():
                assert_type(event.vector, PropertyVector)
                assert_type(event.vector.device.devicename, str)
                if (owner := event.vector.driver) is not None:
                    assert_type(owner[event.devicename].enable, bool)
                    assert_type(owner.stop, bool)
                    await owner.send_message("moved")
            case newBLOBVector():
                assert_type(event.sizeformat["CCD1"], tuple[int, str])
                assert_type(event.buffer("CCD1"), memoryview)
            case _:
                pass

    async def hardware(self) -> None:
        vector = self["Camera"]["CCD_EXPOSURE"]
        await vector.send_setVector(state="Busy", timeout="2")
        await images.send_setVectorMembers(members=["CCD1"])
        await self["Camera"].send_device_message("done")
        assert_type(self.stop, bool)
        images["CCD1"] = np.zeros((8, 8), np.uint16)


device = Device("Camera", [exposures, connection, port, health, images])
driver = Camera(device)
assert_type(driver["Camera"], Device)
assert_type(device.devicename, str)
Device(5, [exposures])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
