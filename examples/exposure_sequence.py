"""A sequence of exposures: connect a camera, cool it, and save its frames one after another.

    python examples/simulated_camera.py --serve
    python examples/exposure_sequence.py --seconds 0.5 --count 10 --temperature 10 --folder night

The first line runs in another terminal; any other camera will do as well (`--camera "CCD Simulator"`). Ctrl-C aborts
the exposure that is under way before the program ends. The exit status is 0 if all frames were saved, 1 if something
went wrong, and 130 after Ctrl-C, so that a shell script can tell.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from datetime import datetime
from pathlib import Path

from indifast.client import INDIAlert, IPyClient


async def prepare(client: IPyClient, camera: str, temperature: float | None) -> None:
    """Connect the camera to its hardware, and wait until it is cold enough."""
    await client.ready(10, (camera, "CONNECTION"))
    await client.send_newVector(camera, "CONNECTION", members={"CONNECT": "On"}, wait=True, timeout=30)
    await client.ready(10, (camera, "CCD_EXPOSURE"), (camera, "CCD1"))
    if temperature is not None:
        print(f"cooling to {temperature:g} °C")
        await client.send_newVector(
            camera,
            "CCD_TEMPERATURE",
            members={"CCD_TEMPERATURE_VALUE": temperature},
            wait=True,
            timeout=600,
            until={"CCD_TEMPERATURE_VALUE": (temperature, 0.5)},
        )


async def take(client: IPyClient, camera: str, seconds: float, path: Path) -> None:
    """Take one exposure, and save the frame. Abort the exposure if this task is cancelled."""
    try:
        frame = await client.expose(camera, seconds)
    except asyncio.CancelledError:
        await client.send_newVector(camera, "CCD_ABORT_EXPOSURE", members={"ABORT": "On"}, wait=True, timeout=5)
        raise
    path = path.with_suffix(frame.format)
    await asyncio.to_thread(path.write_bytes, frame.data)
    print(path, flush=True)


async def main(options: argparse.Namespace) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now():%Y%m%d-%H%M%S}"
    async with IPyClient(options.host, options.port) as client:
        await prepare(client, options.camera, options.temperature)
        for number in range(1, options.count + 1):
            await take(client, options.camera, options.seconds, options.folder / f"{name}-{number:03}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take a sequence of exposures.")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--camera", default="Simulated Camera")
    parser.add_argument("--seconds", type=float, default=1.0, help="exposure time")
    parser.add_argument("--count", type=int, default=3, help="number of exposures")
    parser.add_argument("--temperature", type=float, help="cool the camera to this, in °C, and wait")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to save frames")
    logging.getLogger("indifast").setLevel(logging.ERROR)  # not each connection
    try:
        asyncio.run(main(parser.parse_args()))
    except (INDIAlert, OSError) as error:  # the camera refuses; no connection, no answer in time, no room on the disk
        sys.exit(f"exposure_sequence: {error}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
