"""A thermostat in the style of drivers for indipydriver 1.2: everything here still works.

    python examples/thermostat_old_style.py 7624
    indi_getprop -p 7624

In the old style, devices and tasks are keyword arguments of the constructor, `clientevent` handles events from clients,
the program itself sends definitions when a client asks for them, numbers are strings, and the server takes a list of
drivers. New programs should use the style of `thermostat.py`.
"""

import asyncio
import sys

import indifast as indipydriver
from indifast import Device, IPyServer, NumberMember, NumberVector, getProperties, newNumberVector


class Boiler:
    def __init__(self):
        self.celsius = 40.0
        self.target = 55.0

    async def heat(self, pause):
        while True:
            await asyncio.sleep(pause)
            self.celsius += 0.5 if self.celsius < self.target else -0.5


class BoilerDriver(indipydriver.IPyDriver):
    async def clientevent(self, event):
        match event:
            case getProperties():
                await event.vector.send_defVector()
            case newNumberVector(devicename="Boiler", vectorname="target") if "celsius" in event:
                self.driverdata["boiler"].target = self.indi_number_to_float(event["celsius"])
                event.vector["celsius"] = event["celsius"]
                await event.vector.send_setVector(state="Ok")

    async def hardware(self):
        boiler = self.driverdata["boiler"]
        vector = self["Boiler"]["temperature"]
        while True:
            await asyncio.sleep(self.driverdata["pause"])
            vector["celsius"] = f"{boiler.celsius:.1f}"
            await vector.send_setVector(state="Ok")


def number(name, perm, value):
    member = NumberMember(name="celsius", label="Celsius", format="%4.1f", min="0", max="95", membervalue=value)
    return NumberVector(name=name, label=name.title(), group="Main", perm=perm, state="Idle", numbermembers=[member])


def make_driver(pause=10.0):
    boiler = Boiler()
    device = Device(
        devicename="Boiler", properties=[number("temperature", "ro", "40.0"), number("target", "rw", "55.0")]
    )
    return BoilerDriver(devices=[device], tasks=[boiler.heat(pause / 4)], boiler=boiler, pause=pause)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 7624
    pause = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    server = IPyServer([make_driver(pause)], host="localhost", port=port)
    try:
        asyncio.run(server.asyncrun())
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
