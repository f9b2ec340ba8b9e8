"""Servers of another make: they know no owners, and repeat to their clients whatever comes by their links.

This is a model of what libindi's server does with messages, as far as its neighbours notice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from indifast.protocol import wire
from indifast.protocol.limits import DEFAULT_LIMITS
from indifast.protocol.message import Buffer, Routable, Wire
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.queuelistener import QueueListener
from indifast.transport.incoming import MessageReader
from indifast.transport.stream import SocketStream
from tests.simulation.ledger import mark_of
from tests.simulation.network import Connection
from tests.simulation.nodes import is_frame
from tests.simulation.rules import LINK_DEVICE, Wish, Wishes

if TYPE_CHECKING:
    from tests.simulation.site import Site

RETRY = 2.0
"""Seconds between attempts to connect."""

FIRST_WORDS = Wire("getProperties", LINK_DEVICE, None, b'<getProperties device="*" version="1.7"/>')
"""What such a server says first to one that it reads from."""


class ForeignServer:
    """One such server. It has no drivers of its own."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.clients: dict[Line, None] = {}
        self.remotes: dict[Line, None] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<foreign server {self.name}>"

    @property
    def up(self) -> bool:
        return True

    def accept(self, connection: Connection) -> None:
        """A client, or a server of ours, has connected."""
        line = Line(self, connection, 1)
        self.clients[line] = None

    def link(self, title: str, blobs: bool, device: str | None) -> None:
        """Read from another server, again and again."""
        self._tasks.append(self.site.loop.create_task(self._read_from(title)))

    async def _read_from(self, title: str) -> None:
        while True:
            try:
                connection = await self.site.connect_link(title)
            except OSError:
                await asyncio.sleep(RETRY)
                continue
            line = Line(self, connection, 0)
            self.remotes[line] = None
            line.send(FIRST_WORDS)
            await line.over
            await asyncio.sleep(RETRY)

    def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        for line in (*self.clients, *self.remotes):
            line.stream.abort()

    def lost(self, line: Line) -> None:
        """A connection is over: what came by it is gone."""
        self.clients.pop(line, None)
        if self.remotes.pop(line, line) is None:
            for device in line.devices:
                self._to_clients(line, wire.del_property(device))

    def take(self, line: Line, message: Routable) -> None:
        """Take a message, by which of the two sides it comes."""
        if message.tag == "pingRequest":
            line.send(wire.ping_reply(message.element().attrs.get("uid", "")))
        elif line in self.remotes:
            self._from_remote(line, message)
        else:
            self._from_client(line, message)

    def _from_remote(self, line: Line, message: Routable) -> None:
        if message.tag == "getProperties":
            for other in self.remotes:
                if other is not line and other.has(message.device):
                    other.send(message)
        elif message.tag.startswith(("def", "set", "del", "message")):
            if message.device and message.tag.startswith("def"):
                line.devices[message.device] = None
            self._to_clients(line, message)

    def _to_clients(self, line: Line, message: Routable) -> None:
        for client in list(self.clients):
            if message.device is None or client.wishes.want(
                message.tag, message.device, message.name, is_frame(message)
            ):
                client.send(message)

    def _from_client(self, line: Line, message: Routable) -> None:
        device, name = message.device, message.name
        if message.tag == "getProperties":
            if device is not None and device.startswith(LINK_DEVICE):
                device = name = None
            line.wishes.add(Wish("getProperties", device, name))
        elif message.tag == "enableBLOB":
            if device is not None:
                line.wishes.add(Wish("enableBLOB", device, name, message.element().text))
        elif message.tag.startswith("new"):
            for other in self.clients:
                if other is not line and device is not None and other.wishes.covers(device, name):
                    other.send(message)
        else:
            return
        for remote in self.remotes:
            if remote.has(device):
                remote.send(message)


class Line(QueueListener):
    """One connection of such a server."""

    def __init__(self, server: ForeignServer, connection: Connection, side: int) -> None:
        site = server.site
        self.server = server
        self.devices: dict[str, None] = {}
        self.wishes = Wishes(driver=False)
        self.over: asyncio.Future[None] = site.loop.create_future()
        self.stream = SocketStream(connection.sockets[side], connection.name)  # type: ignore[arg-type]
        self._reader = MessageReader(_Nobody(), DEFAULT_LIMITS, site.loop.call_later, relay=True)
        self._queue = ByteQueue(listener=self)
        self._said, self._heard = connection.journals[side], connection.journals[1 - side]
        self._said.plain = True
        self._said.title = f"{server.name} by {connection.name}"
        self.stream.start(self, self._queue)

    def has(self, device: str | None) -> bool:
        """Whether a device is behind this line, as far as is known."""
        return device is None or device in self.devices

    def send(self, message: Routable) -> None:
        if not self.over.done():
            self._said.tell(mark_of(message))
            self._queue.append(message, self.server.site.now)

    def on_pending(self) -> None:
        self.stream.wake_soon()

    def data_received(self, data: Buffer, start: int, end: int, fds: list[int]) -> None:
        for message in self._reader.read(data, start, end, fds):
            site = self.server.site
            site.arrive(self._heard, self.server, site.mark(message), message, is_frame(message))
            self.server.take(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._said.broken = True
        self._reader.close()
        self._queue.clear()
        if not self.over.done():
            self.over.set_result(None)
        self.server.lost(self)


class _Nobody:
    """Listens to what a reader leaves out, and does nothing about it."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None
