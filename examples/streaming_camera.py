"""A camera whose frames come from a thread, as they do with camera libraries.

    python examples/streaming_camera.py --port 7624

The thread calls `send_threadsafe` for every frame. The call never waits for the network: if frames arrive faster than
they can be sent, each new one replaces the oldest frame that is still waiting. The buffer may be reused as soon as the
call returns. A client that wants frames sends `<enableBLOB device="Video" name="stream">Also</enableBLOB>`; until one
does, nothing is encoded.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading

import numpy as np

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, IPyServer, NumberMember, NumberVector


class Sensor:
    """Stands in for a camera library: a thread that fills one buffer again and again."""

    def __init__(self, width: int, height: int, rate: float) -> None:
        self.buffer = np.zeros((height, width), dtype=np.uint16)
        self.rate = rate
        self.frames = 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, callback) -> None:  # type: ignore[no-untyped-def]
        self._thread = threading.Thread(target=self._run, args=[callback], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, callback) -> None:  # type: ignore[no-untyped-def]
        gradient = np.add.outer(np.arange(self.buffer.shape[0]), np.arange(self.buffer.shape[1]))
        while not self._end.wait(1 / self.rate):
            self.frames += 1
            self.buffer[:] = gradient + self.frames
            callback(self.buffer)


class VideoDriver(IPyDriver):
    async def hardware(self) -> None:
        sensor: Sensor = self.driverdata["sensor"]
        stream = self["Video"]["stream"]
        count = self["Video"]["count"]
        sensor.start(lambda frame: stream.send_threadsafe({"FRAME": frame}, state="Ok"))
        try:
            while not self.stop:
                count["FRAMES"] = sensor.frames
                await count.send_setVector(state="Ok", allvalues=False)
                await asyncio.sleep(1)
        finally:
            sensor.stop()


def make_driver(width: int = 640, height: int = 480, rate: float = 25.0) -> VideoDriver:
    stream = BLOBVector("stream", "Frames", "Main", "ro", "Idle", [BLOBMember("FRAME", "Frame", blobformat=".stream")])
    count = NumberVector("count", "Frames taken", "Main", "ro", "Idle", [NumberMember("FRAMES", format="%.0f")])
    return VideoDriver(Device("Video", [stream, count]), sensor=Sensor(width, height, rate))


async def main(port: int, size: str, rate: float) -> None:
    width, height = map(int, size.split("x"))
    async with IPyServer(make_driver(width, height, rate), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A camera whose frames come from a thread.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--size", default="640x480", metavar="WIDTHxHEIGHT")
    parser.add_argument("--rate", type=float, default=25.0, help="frames per second")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.size, options.rate))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
