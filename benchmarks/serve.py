"""An IPyServer with executable drivers, for the measurements; prints its port.

    python -m benchmarks.serve [--uvloop] [--unix NAME] DRIVER ...

A DRIVER is a program, or `[device]@host:port` of another server. The event loop is that of `indifast serve`, or with
`--uvloop` that of uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable

from indifast import IPyServer, new_event_loop


async def serve(drivers: list[str], unix: str | None) -> None:
    server = IPyServer(host="127.0.0.1", port=0, maxconnections=None, unix_socket=unix)
    for program in drivers:
        device, at, address = program.rpartition("@")
        if at:
            host, _, port = address.rpartition(":")
            server.add_remote(host, int(port), blob_enable=True, device=device or None)
        else:
            server.add_exdriver(program)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    print(server.port, flush=True)
    await running


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--unix", metavar="NAME")
    parser.add_argument("drivers", nargs="*")
    given = parser.parse_args()
    factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop
    if given.uvloop:
        import uvloop  # type: ignore[import-not-found,unused-ignore]

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(given.drivers, given.unix))


if __name__ == "__main__":
    main()
