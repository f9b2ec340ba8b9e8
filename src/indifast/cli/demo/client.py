"""The client of the demonstration."""

from __future__ import annotations

import asyncio

from indifast.cli.demo.names import CAMERA, THERMOSTAT
from indifast.cli.demo.starfield import number_of
from indifast.client import ConnectionLost, IPyClient, defBLOBVector, setBLOBVector, setNumberVector


class Viewer(IPyClient):
    """Receives frames and temperatures, and counts."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.enableBLOBdefault = "Also"
        self.count = self.nbytes = self.missed = self._number = 0
        self.last: bytes | memoryview | None = None
        self.degrees = "- °C"
        self.camera_found = asyncio.Event()
        """The camera is known and its frames have been asked for."""
        self.received = asyncio.Event()
        """At least one frame has come."""
        self.lost_connection = False

    async def stream(self, rate: float) -> None:
        """Have the camera stream: at so many frames per second, or as fast as they are taken (0)."""
        await self.send_newVector(CAMERA, "RATE", members={"FPS": rate})
        await self.send_newVector(CAMERA, "STREAM", members={"ON": "On"})

    async def stop_stream(self) -> None:
        """Have the camera rest."""
        await self.send_newVector(CAMERA, "STREAM", members={"OFF": "On"})

    async def rxevent(self, event: object) -> None:
        match event:
            case setBLOBVector(devicename=device) if device == CAMERA:
                self._count(event["CCD1"])
            case setNumberVector(devicename=device, vectorname="TEMPERATURE") if device == THERMOSTAT:
                self.degrees = f"{float(event['T']):.1f} °C"
            case defBLOBVector(devicename=device) if device == CAMERA:
                self.camera_found.set()
            case ConnectionLost():
                self.lost_connection = True

    def _count(self, frame: bytes | memoryview) -> None:
        number = number_of(frame)
        if self._number:
            self.missed += number - self._number - 1
        self._number = number
        self.last = frame
        self.count += 1
        self.nbytes += len(frame)
        self.received.set()
