"""Server that `indifast bench` measures: `python -m indifast.cli.bench.server DRIVER [UNIX_SOCKET]`.

It serves an executable driver on a free local port, prints the port, and ends when its input does: it cannot outlive
the process that started it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from indifast import IPyServer, new_event_loop


async def _serve(driver: str, unix_socket: str | None = None) -> None:
    server = IPyServer(host="127.0.0.1", port=0, unix_socket=unix_socket)
    server.add_exdriver(driver)
    async with server:
        print(server.port, flush=True)
        await asyncio.to_thread(os.read, 0, 1)  # nothing is ever written: returns when the parent ends


if __name__ == "__main__":
    logging.getLogger("indifast").setLevel(logging.ERROR)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(*sys.argv[1:]))
