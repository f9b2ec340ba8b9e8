"""A driver with its library's server, for the measurements: `driver_program.py LIBRARY PORT VECTORS LOOP`.

LIBRARY is `indifast` or `indipydriver` (with `indipyserver`), LOOP is `asyncio` or `uvloop`. A number sent to the
vector `control` makes the driver send that many updates of the vector `v0`.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

LIBRARY, PORT, VECTORS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ipd: Any = import_module(LIBRARY)
server_module: Any = ipd if LIBRARY == "indifast" else import_module("indipyserver")


def numbers(name: str) -> Any:
    members = [ipd.NumberMember(member, format="%g", max=1000, membervalue=0) for member in ("x", "y", "z")]
    return ipd.NumberVector(name, name, "Main", "rw", "Ok", members)


class Driver(ipd.IPyDriver):  # type: ignore[misc]
    async def rxevent(self, event: Any) -> None:
        if event.vectorname == "control":
            vector = self["Device"]["v0"]
            for number in range(int(event["x"])):
                vector["x"] = number
                vector["y"] = number / 2
                vector["z"] = -number
                await vector.send_setVector()


async def main() -> None:
    driver = Driver(ipd.Device("Device", [numbers("control"), *(numbers(f"v{n}") for n in range(VECTORS - 1))]))
    await server_module.IPyServer(driver, host="127.0.0.1", port=PORT).asyncrun()


if __name__ == "__main__":
    factory = import_module("uvloop").new_event_loop if sys.argv[4] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
