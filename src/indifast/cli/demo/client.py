"""Client of the demonstration."""

from __future__ import annotations

import asyncio

from indifast.cli.demo.names import CAMERA, THERMOSTAT
from indifast.cli.demo.starfield import number_of
from indifast.client import ConnectionLost, IPyClient, defBLOBVector, setBLOBVector, setNumberVector


class Viewer(IPyClient):
    """Receives frames, counts them, and keeps the latest temperature."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.enableBLOBdefault = "Also"
        self.count = self.nbytes = self.missed = self._number = 0
        self.last: bytes | memoryview | None = None
        self.degrees = "- °C"
        self.camera_found = asyncio.Event()
        """Set when the camera is known and its frames have been requested."""
        self.received = asyncio.Event()
        """Set when the first frame has arrived."""
        self.lost_connection = False

    async def stream(self, rate: float) -> None:
        """Start the camera's stream at `rate` frames per second; 0: as fast as they are taken."""
        await self.send_newVector(CAMERA, "RATE", members={"FPS": rate})
        await self.send_newVector(CAMERA, "STREAM", members={"ON": "On"})

    async def stop_stream(self) -> None:
        """Stop the camera's stream."""
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
