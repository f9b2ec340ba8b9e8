"""indipyserver with executable drivers, under an interpreter that has it: `serve_indipyserver.py HOST:PORT DRIVER …`.

A DRIVER is a program, or `[device]@host:port` of another server, of which all devices are taken.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

MOST_CONNECTIONS = 10
"""Most connections that indipyserver takes."""


async def main(host: str, port: int, drivers: list[str]) -> None:
    indipyserver: Any = import_module("indipyserver")
    server = indipyserver.IPyServer(host=host, port=port, maxconnections=MOST_CONNECTIONS)
    for program in drivers:
        _, at, address = program.rpartition("@")
        if at:
            remote, _, remote_port = address.rpartition(":")
            server.add_remote(remote, int(remote_port), blob_enable=True)
        else:
            server.add_exdriver(program)
    await server.asyncrun()


if __name__ == "__main__":
    own_host, _, own_port = sys.argv[1].rpartition(":")
    asyncio.run(main(own_host, int(own_port), sys.argv[2:]))
