"""A thermostat with a target set by clients: numbers from the network, and what to do with bad ones.

    python examples/thermostat_target.py --port 7624
    indi_setprop -n "Thermostat.target.VALUE=18.5"

A number arrives as the text that the client sent, in one of the forms that the protocol allows (`18.5`, `18:30`,
`18 30 0`); anything that is not a number has already been refused. `getfloatvalue` converts the text; whether the value
makes sense is for the driver to decide.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from indifast import Device, IPyDriver, IPyServer, NumberMember, NumberVector, newNumberVector

LOWEST, HIGHEST = 5.0, 30.0


class ThermostatDriver(IPyDriver):
    async def rxevent(self, event: object) -> None:
        match event:
            case newNumberVector(devicename="Thermostat", vectorname="target") if "VALUE" in event:
                await self.aim_at(event.vector, event.getfloatvalue("VALUE"))

    async def aim_at(self, vector: NumberVector, value: float) -> None:
        if not LOWEST <= value <= HIGHEST:
            await vector.send_setVector(state="Alert", message=f"The target must be between {LOWEST} and {HIGHEST}")
            return
        self.driverdata["target"] = value
        vector["VALUE"] = value
        await vector.send_setVector(state="Ok")

    async def hardware(self) -> None:
        vector = self["Thermostat"]["temperature"]
        temperature = 16.0
        while not self.stop:
            temperature += 0.2 * (self.driverdata["target"] - temperature)
            vector["VALUE"] = f"{temperature:.2f}"
            await vector.send_setVector(state="Ok")
            await asyncio.sleep(self.driverdata["period"])


def make_driver(period: float = 10.0) -> ThermostatDriver:
    temperature = NumberVector(
        "temperature",
        "Temperature",
        "Main",
        "ro",
        "Idle",
        [NumberMember("VALUE", "Celsius", "%5.1f", -50, 99, 0, 16.0)],
    )
    target = NumberVector(
        "target",
        "Target",
        "Main",
        "rw",
        "Idle",
        [NumberMember("VALUE", "Celsius", "%5.1f", LOWEST, HIGHEST, 0.5, 15.0)],
    )
    return ThermostatDriver(Device("Thermostat", [temperature, target]), target=15.0, period=period)


async def main(port: int, period: float) -> None:
    async with IPyServer(make_driver(period), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A thermostat with a target set by clients.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--period", type=float, default=10.0, help="seconds between reports")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.period))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
