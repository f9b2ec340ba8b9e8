"""Driver of the full-stack measurement: an executable driver whose frames are NumPy arrays.

    python -m benchmarks.stack_camera PACKAGE NBYTES

PACKAGE is `indifast` or `indipydriver`: the program is the same for both, except where one takes other values. Every
byte is rewritten for each frame: frame `n` is `pattern(NBYTES) + n`. BENCHMARK_UVLOOP=1 runs it on uvloop.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint16]


def pattern(nbytes: int) -> Frame:
    """Return frame 0: noise, the same in every process."""
    noise: Frame = np.random.default_rng(7).integers(0, 1 << 16, nbytes // 2, np.uint16)
    return noise


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on asyncio's event loop, or on uvloop's if BENCHMARK_UVLOOP is set."""
    factory = import_module("uvloop").new_event_loop if os.environ.get("BENCHMARK_UVLOOP") else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(coroutine)


def camera(package: str, nbytes: int) -> Any:
    """Return a driver that sends n frames for `FRAMES.COUNT = n`, as fast as they are taken."""
    indi: Any = import_module(package)

    class Camera(indi.IPyDriver):  # type: ignore[misc]  # the base class depends on the package
        def __init__(self) -> None:
            self.pattern, self.frame = pattern(nbytes), pattern(nbytes)
            count = indi.NumberMember("COUNT", "Count", "%.0f", "0", "1e9", "1", "0")
            self.count = indi.NumberVector("FRAMES", "Frames", "Main", "rw", "Idle", [count])
            self.image = indi.BLOBVector("FRAME", "", "", "ro", "Idle", [indi.BLOBMember("FRAME", blobformat=".bin")])
            self.orders: asyncio.Queue[int] = asyncio.Queue()
            super().__init__(indi.Device("Camera", [self.count, self.image]))

        async def rxevent(self, event: Any) -> None:
            if event.vectorname == "FRAMES":
                self.orders.put_nowait(int(float(event["COUNT"])))

        async def hardware(self) -> None:
            number = 0
            while not self.stop:
                for _ in range(await self.orders.get()):
                    number += 1
                    np.add(self.pattern, np.uint16(number & 0xFFFF), out=self.frame)
                    # indipydriver takes only bytes
                    self.image["FRAME"] = self.frame if package == "indifast" else self.frame.tobytes()
                    await self.image.send_setVectorMembers(state="Ok", members=["FRAME"])

    return Camera()


if __name__ == "__main__":
    run(camera(sys.argv[1], int(sys.argv[2])).asyncrun())
