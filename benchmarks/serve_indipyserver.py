"""indipyserver around executable drivers, under the interpreter that has it: `serve_indipyserver.py PORT DRIVER …`."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

MOST_CONNECTIONS = 10
"""indipyserver takes no more."""


async def main(port: int, drivers: list[str]) -> None:
    indipyserver: Any = import_module("indipyserver")
    server = indipyserver.IPyServer(host="127.0.0.1", port=port, maxconnections=MOST_CONNECTIONS)
    for program in drivers:
        server.add_exdriver(program)
    await server.asyncrun()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
