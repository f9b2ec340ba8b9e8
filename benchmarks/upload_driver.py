"""Receiving end of the upload measurement: a server with a Python driver that compares every byte it receives.

    python benchmarks/upload_driver.py PACKAGE PORT LOOP

PACKAGE is `indifast` or `indipydriver`; PORT may be 0 for indifast; the port is printed. LOOP is `asyncio` or `uvloop`.
The expected frames are the output of `wire print` on standard input, in base64.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from importlib import import_module
from typing import Any

DISTINCT = 4

package = sys.argv[1] if __name__ == "__main__" else "indifast"
indi: Any = import_module(package)
IPyServer: Any = (indi if package == "indifast" else import_module("indipyserver")).IPyServer


class Receiver(indi.IPyDriver):  # type: ignore[misc]  # the base class depends on the package
    """Answers each frame with the number of frames so far, in state Alert once a frame was damaged."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = frames
        self.count, self.state = 0, "Ok"
        number = indi.NumberMember("N", "N", "%.0f", "0", "1e9", "1", "0")
        self.done = indi.NumberVector("DONE", "", "", "ro", "Idle", [number])
        upload = indi.BLOBVector("FRAME", "", "", "rw", "Idle", [indi.BLOBMember("FRAME", blobformat=".bin")])
        super().__init__(indi.Device("Wire", [upload, self.done]))

    async def rxevent(self, event: Any) -> None:
        if event.vectorname == "FRAME":
            if event["FRAME"] != self.frames[self.count % DISTINCT]:
                self.state = "Alert"
            self.count += 1
            self.done["N"] = self.count
            await self.done.send_setVector(state=self.state)


async def main(port: int, frames: list[bytes]) -> None:
    server = IPyServer(Receiver(frames), host="127.0.0.1", port=port)
    running = asyncio.create_task(server.asyncrun())
    if package == "indifast":
        await server.ready()
        port = server.port
    print(port, flush=True)
    await running


if __name__ == "__main__":
    text = sys.stdin.buffer.read()
    length = len(text) // DISTINCT
    expected = [base64.b64decode(text[at : at + length]) for at in range(0, len(text), length)]
    factory = import_module("uvloop").new_event_loop if sys.argv[3] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(int(sys.argv[2]), expected))
