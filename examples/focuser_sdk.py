"""A focuser whose library calls back in threads of its own, as those of many manufacturers do.

    python examples/focuser_sdk.py --port 7624
    indifast set --wait Ok "Focuser.ABS_FOCUS_POSITION.FOCUS_ABSOLUTE_POSITION=3000"

Two rules keep threads and asyncio apart. Calls into the library may take a while, so they go through
`asyncio.to_thread`. Callbacks run in the library's thread, so they only use `send_threadsafe`, which returns at once
(and `loop.call_soon_threadsafe` for anything else).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable

from indifast import (
    Device,
    IPyDriver,
    IPyServer,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    newNumberVector,
    newSwitchVector,
)

FARTHEST = 10_000


class FocuserLibrary:
    """Stands in for a manufacturer's library: calls that wait for the USB port, and callbacks from a thread."""

    def __init__(self, steps_per_second: float) -> None:
        self.steps_per_second = steps_per_second
        self.position = self.target = 5000
        self.moving = self.closed = False
        self.changed = threading.Condition()

    def open(self, on_step: Callable[[int], None], on_arrival: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=self.run, args=[on_step, on_arrival])
        self.thread.start()

    def move_to(self, target: int) -> None:
        if not 0 <= target <= FARTHEST:
            raise OSError(f"the focuser cannot move to {target}, only to 0 to {FARTHEST}")
        with self.changed:
            self.target, self.moving = target, True
            self.changed.notify()

    def halt(self) -> None:
        with self.changed:
            self.target = self.position

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify()
        self.thread.join()

    def run(self, on_step: Callable[[int], None], on_arrival: Callable[[], None]) -> None:
        step = max(round(self.steps_per_second / 20), 1)
        with self.changed:
            while True:
                self.changed.wait_for(lambda: self.closed or self.moving)
                while self.target != self.position and not self.closed:
                    self.position += min(max(self.target - self.position, -step), step)
                    on_step(self.position)
                    self.changed.wait(1 / 20)
                if self.closed:
                    return
                self.moving = False
                on_arrival()


class FocuserDriver(IPyDriver):
    async def rxevent(self, event: object) -> None:
        library: FocuserLibrary = self.driverdata["library"]
        match event:
            case newNumberVector(vectorname="ABS_FOCUS_POSITION"):
                await event.vector.send_setVector(state="Busy")  # before it can arrive
                try:
                    await asyncio.to_thread(library.move_to, round(event.getfloatvalue("FOCUS_ABSOLUTE_POSITION")))
                except OSError as error:
                    await event.vector.send_setVector(state="Alert", message=str(error))
            case newSwitchVector(vectorname="FOCUS_ABORT_MOTION"):
                await asyncio.to_thread(library.halt)
                await event.vector.send_setVector(state="Ok")

    async def hardware(self) -> None:
        library: FocuserLibrary = self.driverdata["library"]
        position = self["Focuser"]["ABS_FOCUS_POSITION"]

        def on_step(steps: int) -> None:
            # If the focuser is faster than the network, newer positions replace older ones.
            position.send_threadsafe({"FOCUS_ABSOLUTE_POSITION": steps}, state="Busy")

        def on_arrival() -> None:
            position.send_threadsafe({"FOCUS_ABSOLUTE_POSITION": library.position}, state="Ok")

        await asyncio.to_thread(library.open, on_step, on_arrival)
        try:
            await self.shutdownrequested.wait()
        finally:
            await asyncio.to_thread(library.close)


def make_driver(steps_per_second: float = 1000) -> FocuserDriver:
    steps = NumberMember("FOCUS_ABSOLUTE_POSITION", "Steps", "%.f", 0, FARTHEST, 100, 5000)
    position = NumberVector("ABS_FOCUS_POSITION", "Absolute Position", "Main Control", "rw", "Idle", [steps])
    abort = SwitchMember("ABORT", "Abort")
    motion = SwitchVector("FOCUS_ABORT_MOTION", "Abort Motion", "Main Control", "rw", "AtMostOne", "Idle", [abort])
    return FocuserDriver(Device("Focuser", [position, motion]), library=FocuserLibrary(steps_per_second))


async def main(port: int, steps_per_second: float) -> None:
    async with IPyServer(make_driver(steps_per_second), host="localhost", port=port) as server:
        print(f"listening on port {server.port}", flush=True)
        await server.stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A focuser whose library calls back in threads.")
    parser.add_argument("--port", type=int, default=7624)
    parser.add_argument("--steps-per-second", type=float, default=1000)
    options = parser.parse_args()
    try:
        asyncio.run(main(options.port, options.steps_per_second))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
