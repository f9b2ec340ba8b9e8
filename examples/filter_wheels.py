"""Two filter wheels in one driver: devices that handle their own events.

    python examples/filter_wheels.py --port 7624
    indi_setprop "Wheel 1.slot.B=On"

With many devices of the same kind, the driver only passes events on. The behavior of a device belongs in a subclass of
`Device`, which can have its own data and background coroutines.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from indifast import Device, IPyDriver, IPyServer, SwitchMember, SwitchVector, newSwitchVector

FILTERS = {"L": "Luminance", "R": "Red", "G": "Green", "B": "Blue"}


class Wheel(Device):
    def __init__(self, name: str, seconds_per_slot: float) -> None:
        slot = SwitchVector(
            "slot",
            "Filter",
            "Main",
            "rw",
            "OneOfMany",
            "Idle",
            [SwitchMember(key, label, "On" if key == "L" else "Off") for key, label in FILTERS.items()],
        )
        super().__init__(name, [slot], seconds_per_slot=seconds_per_slot)

    async def devrxevent(self, event: object, *_args: object, **_kwargs: object) -> None:
        if not isinstance(event, newSwitchVector) or event.vectorname != "slot":
            return
        if event.vector.state == "Busy":
            await event.vector.send_setVector(message="Wait until the wheel has stopped")
            return
        wanted = [name for name, value in event.items() if value == "On"]
        if len(wanted) != 1:
            await event.vector.send_setVector(state="Alert", message="Choose one filter")
            return
        # The move takes a while: tell the client at once that it has begun, and again when it is done.
        await event.vector.send_setVector(state="Busy")
        self.add_background(self.turn_to(wanted[0]))

    async def turn_to(self, wanted: str) -> None:
        slot = self["slot"]
        names = list(FILTERS)
        now = next(name for name, value in slot.items() if value == "On")
        while now != wanted and not self.stop:
            await asyncio.sleep(self.devicedata["seconds_per_slot"])
            now = names[(names.index(now) + 1) % len(names)]
            for name in names:
                slot[name] = "On" if name == now else "Off"
        await slot.send_setVector(state="Ok")


class WheelsDriver(IPyDriver):
    async def rxevent(self, event: object) -> None:
        device = self.get(event.devicename)
        if device is not None:
            await device.devrxevent(event)


def make_driver(seconds_per_slot: float = 1.0) -> WheelsDriver:
    return WheelsDriver(Wheel("Wheel 1", seconds_per_slot), Wheel("Wheel 2", seconds_per_slot))


async def main(port: int, seconds_per_slot: float) -> None:
    async with IPyServer(make_driver(seconds_per_slot), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two filter wheels in one driver.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--seconds-per-slot", type=float, default=1.0)
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.seconds_per_slot))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
