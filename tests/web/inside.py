"""The web application in the process of the test: with bounds that need no patience, and turns that can be measured."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from types import ModuleType
from typing import Any

import pytest
from starlette.types import ASGIApp

from indifast.cli.toolkit.address import Address
from indifast.transport.hostnames import OwnNames
from indifast.transport.sockets import tcp_sockets
from indifast.web import serving
from indifast.web.access import Access
from indifast.web.bounds import CONNECTIONS, LIVE_VIEWERS
from indifast.web.frames import Frames
from indifast.web.guard import Guard
from indifast.web.hub import Hub
from indifast.web.serving import Serving
from indifast.web.site import application
from tests.support.blackbox import free_port
from tests.support.waiting import eventually
from tests.web.support import API


@contextlib.asynccontextmanager
async def running(
    hub: Hub | None = None,
    module: ModuleType = serving,
    access: Access | None = None,
    viewers: int = LIVE_VIEWERS,
    connections: int = CONNECTIONS,
    **bounds: Any,
) -> AsyncIterator[int]:
    """The application, for a server that is not there unless a hub is given. Yields its port.

    Args:
        hub: The client behind it, which is run, too.
        module: The module whose bounds are replaced.
        access: Who may do what; by default everybody everything.
        viewers: How many may look at live frames.
        connections: How many other connections there may be.
        bounds: The bounds that take the place of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(module, name, value)
        client = None if hub is None else asyncio.create_task(hub.client.asyncrun())
        hub = hub or Hub(Address("localhost", free_port()))
        frames = Frames(hub.client)
        try:
            app = application(hub, frames, access or Access(), "0", viewers=viewers)
            async with served(app, connections) as port:
                yield port
        finally:
            frames.close()
            if client is not None:
                hub.client.shutdown()
                await client


@contextlib.asynccontextmanager
async def guarding(app: ASGIApp, access: Access | None = None) -> AsyncIterator[int]:
    """Another application behind the guard. Yields its port."""
    async with served(Guard(app, OwnNames(), access or Access())) as port:
        yield port


@contextlib.asynccontextmanager
async def served(app: Guard, connections: int = CONNECTIONS) -> AsyncIterator[int]:
    """An application on a free port, which is yielded."""
    server = Serving(app, connections)
    sockets = tcp_sockets([(socket.AF_INET, "127.0.0.1")], 0, None)
    port = sockets[0].getsockname()[1]
    task = asyncio.create_task(server.run_on(sockets))
    await eventually(lambda: server.started or task.done())
    try:
        yield port
    finally:
        app.stop()
        server.stop()
        await task


@contextlib.asynccontextmanager
async def full_server(devices: int | Sequence[str], properties: int) -> AsyncIterator[Hub]:
    """A server with so many devices and properties in each. Yields a client for it, which knows them once it runs.

    Args:
        devices: How many, or their names.
        properties: How many in each.
    """
    names = [f"D{device}" for device in range(devices)] if isinstance(devices, int) else devices
    definitions = "".join(
        f'<defNumberVector device="{device}" name="P{name}" state="Ok" perm="rw" timeout="0">'
        '<defNumber name="N" format="%g" min="0" max="1" step="0">1</defNumber></defNumberVector>\n'
        for device in names
        for name in range(properties)
    ).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(definitions)
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Hub(Address("127.0.0.1", server.sockets[0].getsockname()[1]))


class Turns:
    """Measures how long the event loop works on one turn: for so long, everybody else waits."""

    longest = 0.0
    """Seconds of processor time."""

    @contextlib.asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Measure the turns during a block."""
        task = asyncio.create_task(self._measure())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _measure(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - before)


async def upgraded(port: int, target: str = f"{API}/events", sock: socket.socket | None = None) -> socket.socket:
    """Return a connection that has become a WebSocket, of which only the answer's status was read."""
    loop = asyncio.get_running_loop()
    if sock is None:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    await loop.sock_sendall(sock, (head + key).encode())
    status = await loop.sock_recv(sock, 12)
    assert status.endswith(b"101"), status
    return sock


def message(text: str) -> bytes:
    """Return a text message as a client sends it, with a mask of zeros."""
    content = text.encode()
    length = bytes([0x80 | len(content)]) if len(content) < 126 else b"\xfe" + len(content).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + content


async def status_of(port: int, target: str = API) -> bytes:
    """Ask for something, and return the status of the answer."""
    return (await answer_of(port, target))[0]


async def answer_of(port: int, target: str) -> tuple[bytes, bytes]:
    """Ask for something, and return the status and the content of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    try:
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0], content
    finally:
        writer.close()
