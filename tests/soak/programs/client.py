"""A client of indifast that keeps a ledger of what it is told.

python -m tests.soak.programs.client (HOST:PORT | @NAME) [FOLDER FOR BLOBS]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from indifast.client import IPyClient, Message, delProperty, setBLOBVector
from indifast.client.events import ConnectionLost, ConnectionMade, defBLOBVector, defVector, setVector
from tests.soak.ledger import TOKEN, Ledger
from tests.soak.reporting import Commands


class Watcher(IPyClient):
    """See the module's docstring."""

    def __init__(self, *server: Any) -> None:
        super().__init__(*server)
        self.retry_min, self.retry_max = 0.3, 2.0
        self.ledger = Ledger()
        self.sending: set[asyncio.Task[Any]] = set()

    async def hardware(self) -> None:
        commands = Commands(self.report_to_test, self.command, self.shutdown)
        asyncio.get_running_loop().add_reader(0, commands.read)
        while not self.stop:
            await asyncio.sleep(0.2)

    def report_to_test(self) -> dict[str, Any]:
        return self.ledger.report() | {"stats": self.stats()}

    def command(self, device: str, text: str) -> None:
        task = asyncio.ensure_future(self.send_newVector(device, TOKEN, members={"text": text}))
        self.sending.add(task)
        task.add_done_callback(self.sending.discard)

    async def rxevent(self, event: Any) -> None:
        ledger, device, name = self.ledger, event.devicename, event.vectorname
        if text := getattr(event, "message", ""):
            ledger.said(device, text)
        match event:
            case ConnectionMade():
                ledger.made()
            case ConnectionLost():
                ledger.lost()
            case Message():
                pass
            case delProperty():
                ledger.deleted(device, name)
            case defBLOBVector():
                ledger.defined(device, name, {})
                await self.send_enableBLOB("Also", device)
            case defVector():
                ledger.defined(device, name, dict(event))
            case setBLOBVector():
                for member, content in event.items():
                    ledger.frame(device, name, member, event.sizeformat[member][1], content)
                if self.BLOBfolder is not None:
                    self.check_saved(event)
            case setVector():
                ledger.updated(device, name, dict(event))

    def check_saved(self, event: setBLOBVector) -> None:
        """Compare saved files with what was received, and delete them, so that the folder stays small."""
        for member, content in event.items():
            name = event.vector.data[member].filename
            if name and content is not None:
                path = Path(str(self.BLOBfolder)) / name
                with contextlib.suppress(MemoryError):
                    if path.read_bytes() != content:
                        self.ledger.violation(f"{name} does not hold what was received")
                path.unlink()


async def main(address: str, folder: str | None = None) -> None:
    host, _, port = address.rpartition(":")
    client = Watcher(f"unix:{address[1:]}") if address.startswith("@") else Watcher(host, int(port))
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
        client.BLOBfolder = folder
    await client.asyncrun()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
