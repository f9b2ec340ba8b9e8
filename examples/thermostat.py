"""A thermometer with a heater: a driver that sends reports without being asked.

    python examples/thermostat.py --port 7624
    indi_getprop -t 5 "Thermostat.temperature.VALUE"

`hardware()` runs as long as the driver does. It is the place to read an instrument and send the readings. Here, a
second coroutine, started with `add_background`, plays the part of the instrument.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from indifast import (
    Device,
    IPyDriver,
    IPyServer,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
)


class Room:
    """A room that cools down, and a heater with half a degree of hysteresis."""

    def __init__(self, target: float = 15.0) -> None:
        self.temperature = 16.0
        self.target = target
        self.heating = False

    def step(self) -> None:
        self.temperature += 0.1 if self.heating else -0.1
        if self.temperature > self.target + 0.5:
            self.heating = False
        elif self.temperature < self.target - 0.5:
            self.heating = True


class ThermostatDriver(IPyDriver):
    async def hardware(self) -> None:
        room, period = self.driverdata["room"], self.driverdata["period"]
        self.add_background(self.live(room, period / 4))
        temperature = self["Thermostat"]["temperature"]
        heater = self["Thermostat"]["heater"]
        while not self.stop:
            temperature["VALUE"] = round(room.temperature, 2)
            await temperature.send_setVector(state="Ok")
            heater["HEATER"] = "Busy" if room.heating else "Idle"
            # Nothing is sent unless the heater has changed.
            await heater.send_setVector(allvalues=False)
            await asyncio.sleep(period)

    async def live(self, room: Room, period: float) -> None:
        while not self.stop:
            await asyncio.sleep(period)
            room.step()


def make_driver(period: float = 10.0) -> ThermostatDriver:
    temperature = NumberVector(
        name="temperature",
        label="Temperature",
        group="Main",
        perm="ro",
        state="Idle",
        numbermembers=[NumberMember(name="VALUE", label="Celsius", format="%5.1f", min=-50, max=99, membervalue=16.0)],
    )
    heater = LightVector("heater", "Heater", "Main", "Idle", [LightMember("HEATER", "Heater")])
    return ThermostatDriver(Device("Thermostat", [temperature, heater]), room=Room(), period=period)


async def main(port: int, period: float) -> None:
    async with IPyServer(make_driver(period), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A thermometer with a heater.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--period", type=float, default=10.0, help="seconds between reports")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.period))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
