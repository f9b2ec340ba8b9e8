"""The types of a client that programs rely on.

`make lint` checks this file with mypy and basedpyright; it is not run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

import numpy as np

from indifast import IPyClient
from indifast.client import (
    ConnectionLost,
    Frame,
    INDIAlert,
    Message,
    SyncClient,
    SyncDevice,
    connect,
    defBLOBVector,
    defNumberVector,
    delProperty,
    frame_sizes,
    getfloat,
    setBLOBVector,
    setNumberVector,
    setSwitchVector,
)
from indifast.client.ipyclient import Device
from indifast.client.propertyvectors import SnapVector
from indifast.client.snapshot import Snap, SnapDevice

client = IPyClient("localhost", 7624, observer="me")
assert_type(client.indihost, str)
assert_type(client.connected, bool)
assert_type(client.snapshot(), Snap)
assert_type(getfloat("10:30"), float)

IPyClient(port=7624)
IPyClient(["localhost"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Viewer(IPyClient):
    """Reads events, and takes exposures."""

    async def rxevent(self, event: object) -> None:
        match event:
            case setNumberVector():
                assert_type(event.devicename, str | None)
                assert_type(event.timestamp, datetime)
            case setSwitchVector():
                assert_type(event.message, str)
            case setBLOBVector():
                assert_type(event.sizeformat["CCD1"], tuple[int, str])
            case defNumberVector() | defBLOBVector():
                assert_type(event.perm, str)
                assert_type(event.label, str)
            case delProperty():
                assert_type(event.vectorname, str | None)
            case Message() | ConnectionLost():
                pass
            case _:
                pass

    retry_min = 0.5
    vector_timeout_max = 3600

    async def hardware(self) -> None:
        await self.ready(10.0, "Camera", ("Camera", "CCD1"))
        assert_type(self["Camera"], Device)
        assert_type(await self.wait_for("Camera"), Device)
        assert_type(frame_sizes(self["Camera"]), list[tuple[int, int]])
        await self.send_getProperties("Camera")
        await self.send_newVector("Camera", "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": 1.0})
        assert_type(await self.ping(), float)
        async for frame in self.frames("Camera", newest=True):
            assert_type(frame, Frame)
            assert_type(frame.array(), np.ndarray[Any, Any])
        try:
            assert_type(await self.expose("Camera", 1.0), Frame)
        except INDIAlert as alert:
            assert_type(str(alert), str)
        await self.send_newVector("Camera", members={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def in_a_script() -> None:
    with connect("localhost") as server:
        assert_type(server, SyncClient)
        camera = server["Camera"]
        assert_type(camera, SyncDevice)
        assert_type(camera["CCD_EXPOSURE"], SnapVector)
        assert_type(camera.snapshot(), SnapDevice)
        assert_type(camera.set("CCD_EXPOSURE", {"CCD_EXPOSURE_VALUE": 1.0}), SnapVector | None)
        assert_type(camera.expose(1.0), Frame)
        assert_type(list(server), list[str])
