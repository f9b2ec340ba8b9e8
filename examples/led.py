"""A lamp that clients switch: the smallest useful driver.

    python examples/led.py --port 7624
    indi_setprop "Desk lamp.power.ON=On"

There is one device with one switch vector. A client's command arrives as an event. The driver carries it out, stores
the new values in its vector and sends the vector, so that every client knows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from indifast import Device, IPyDriver, IPyServer, SwitchMember, SwitchVector, newSwitchVector


class Lamp:
    """Stands in for the hardware: a pin that is high or low."""

    def __init__(self) -> None:
        self.lit = False

    def set(self, lit: bool) -> None:
        self.lit = lit
        print("lamp is", "on" if lit else "off", flush=True)


class LampDriver(IPyDriver):
    async def rxevent(self, event: object) -> None:
        # `match` is handy here: it selects switch commands for this vector that contain the member we care about.
        match event:
            case newSwitchVector(devicename="Desk lamp", vectorname="power") if "ON" in event:
                self.driverdata["lamp"].set(event["ON"] == "On")
                event.vector["ON"] = event["ON"]
                await event.vector.send_setVector(state="Ok")


def make_driver() -> LampDriver:
    power = SwitchVector(
        name="power",
        label="Power",
        group="Main",
        perm="rw",
        rule="AtMostOne",
        state="Idle",
        switchmembers=[SwitchMember(name="ON", label="Lamp on", membervalue="Off")],
    )
    return LampDriver(Device("Desk lamp", [power]), lamp=Lamp())


async def main(port: int) -> None:
    async with IPyServer(make_driver(), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A lamp that clients switch.")
    parser.add_argument("--port", type=int, default=7624)
    try:
        asyncio.run(main(parser.parse_args().port))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
