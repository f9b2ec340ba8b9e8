"""Viewers of a page, for `benchmarks.browser`: each asks for the newest preview again and again.

    python -m benchmarks.browser_viewers PORT COUNT

It prints a line when all of them have seen a preview, and a JSON object with the number of previews seen by all since
then when its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

PATH = "/api/v1/devices/Exposer/properties/FRAME/frames/F/preview"


class Viewer:
    """One viewer, on a connection of its own."""

    def __init__(self) -> None:
        self.seen = 0
        self.first = asyncio.Event()

    async def view(self, port: int) -> None:
        """Look until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        newest = "0"
        while True:
            writer.write(f"GET {PATH}?after={newest}&wait=5&size=1280 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
            status = lines[0].split()[1]
            headers = dict(line.split(": ", 1) for line in lines[1:] if line)
            await reader.readexactly(int(headers.get("content-length", "0")))
            if status == "200":
                newest = headers["indifast-frame"]
                self.seen += 1
                self.first.set()
            else:
                await asyncio.sleep(0.2)


async def main(port: int, count: int) -> None:
    viewers = [Viewer() for _ in range(count)]
    tasks = [asyncio.create_task(viewer.view(port)) for viewer in viewers]
    await asyncio.gather(*(viewer.first.wait() for viewer in viewers))
    before = sum(viewer.seen for viewer in viewers)
    print("seen", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"seen": sum(viewer.seen for viewer in viewers) - before}), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
