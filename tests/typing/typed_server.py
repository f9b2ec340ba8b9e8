"""The types of a server that programs rely on.

`make lint` checks this file with mypy and basedpyright; it is not run.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import assert_type

from indifast import Device, IPyDriver, IPyServer, new_event_loop
from indifast.protocol.limits import Limits
from indifast.routing.link import Link
from indifast.server.exdriver import ExDriver
from indifast.server.remote import RemoteConnection
from indifast.transport.stream import Stream

driver = IPyDriver(Device("Camera", []))
server = IPyServer(driver, host="localhost", port=0, maxconnections=None, blob=64 << 20, stall=30.0)
IPyServer([driver], limits=Limits(queue=1 << 20), ssl=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
IPyServer(newest_wins=[("Camera", "CCD1")], unix_socket="@/tmp/indi", port=None)

assert_type(server.port, int | None)
assert_type(server.drivers, list[IPyDriver])
assert_type(server.connectionpool, list[Stream])
assert_type(server.stop, bool)

IPyServer("Camera")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
IPyServer(driver, blob="64 MiB")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
IPyServer(driver, blobs=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def serve() -> None:
    exdriver = server.add_exdriver(
        "indi_simulator_ccd", "-v", pipes=True, max_restarts=3, environment={"INDIDEV": None}
    )
    assert_type(exdriver, ExDriver)
    server.add_exdriver("indi_simulator_ccd", restarts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    remote = server.add_remote("observatory", 7624, False, device="Telescope")
    assert_type(remote, RemoteConnection)
    assert_type(server.open_link("plugin"), Link)
    await server.remove_exdriver(exdriver)
    await server.remove_remote(remote)
    stats = server.stats()
    assert_type(stats["running"], bool)
    assert_type(stats.get("updates"), dict[str, int] | None)
    for peer in stats["peers"]:
        assert_type(peer["name"], str)
        assert_type(peer["devices"], list[str])
        assert_type(peer["dropped"], dict[str, int])
    await server.asyncrun()


assert_type(new_event_loop(), asyncio.AbstractEventLoop)
