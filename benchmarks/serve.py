"""An IPyServer around executable drivers; prints its port. For the measurements only."""

from __future__ import annotations

import asyncio
import sys

from indifast import IPyServer


async def main() -> None:
    server = IPyServer(host="127.0.0.1", port=0, maxconnections=None)
    for program in sys.argv[1:]:
        server.add_exdriver(program)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main())
