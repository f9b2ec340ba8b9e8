"""A window that opens when it gets warm: a driver that snoops on another.

    python examples/window.py --port 7624
    indi_getprop -t 5 "Window.sash.*"

The window driver knows nothing about the thermostat except its name on the network: the two could just as well run on
different computers (with `server.add_remote(host=…, port=…)` instead of the second driver).
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from thermostat import make_driver as make_thermostat

from indifast import (
    Device,
    IPyDriver,
    IPyServer,
    SwitchMember,
    SwitchVector,
    getfloat,
    setNumberVector,
)

OPEN_ABOVE = 15.3
CLOSE_BELOW = 14.7


class WindowDriver(IPyDriver):
    async def hardware(self) -> None:
        # Ask for the vector, and ask again whenever it has been silent for `timeout` seconds.
        self.snoop(devicename="Thermostat", vectorname="temperature", timeout=30)

    async def snoopevent(self, event: object) -> None:
        match event:
            case setNumberVector(devicename="Thermostat", vectorname="temperature") if "VALUE" in event:
                temperature = getfloat(event["VALUE"])
                if temperature > OPEN_ABOVE:
                    await self.move("OPEN")
                elif temperature < CLOSE_BELOW:
                    await self.move("CLOSED")

    async def move(self, position: str) -> None:
        sash = self["Window"]["sash"]
        sash["OPEN"] = "On" if position == "OPEN" else "Off"
        sash["CLOSED"] = "On" if position == "CLOSED" else "Off"
        await sash.send_setVector(state="Ok", allvalues=False)


def make_driver() -> WindowDriver:
    sash = SwitchVector(
        "sash",
        "Sash",
        "Main",
        "ro",
        "OneOfMany",
        "Idle",
        [SwitchMember("OPEN", "Open"), SwitchMember("CLOSED", "Closed", "On")],
    )
    return WindowDriver(Device("Window", [sash]))


async def main(port: int, period: float) -> None:
    async with IPyServer(make_driver(), make_thermostat(period), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A window that opens when it gets warm.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--period", type=float, default=10.0, help="seconds between reports of the thermostat")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.period))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
