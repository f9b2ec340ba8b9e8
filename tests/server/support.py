"""Small drivers, and clients that send XML over a socket and collect elements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from indifast._parser import Tokenizer
from indifast.driver.device import Device
from indifast.driver.ipydriver import IPyDriver
from indifast.driver.propertymembers import BLOBMember, NumberMember
from indifast.driver.propertyvectors import BLOBVector, NumberVector
from indifast.server import IPyServer
from tests.support.blackbox import LIMIT

GET = "<getProperties version='1.7'/>"
NEW = "<newNumberVector device='{}' name='P'><oneNumber name='m'>7</oneNumber></newNumberVector>"
"""A command for the device of an `Echo`."""


def peers(server: IPyServer, kind: str = "client") -> list[dict[str, Any]]:
    """Return the statistics of all peers of this kind."""
    return [peer for peer in server.stats()["peers"] if peer["kind"] == kind]


def number_vector(name: str = "P") -> NumberVector:
    return NumberVector(name, name, "group", "rw", "Ok", [NumberMember("m", "m", "%g", 0, 0, 0, 1)])


def blob_vector(name: str = "B") -> BLOBVector:
    return BLOBVector(name, name, "group", "ro", "Ok", [BLOBMember("m", "m")])


class Echo(IPyDriver):
    """A driver that accepts any number: its vector becomes Busy, then Ok."""

    def __init__(self, *names: str) -> None:
        super().__init__(*(Device(name, [number_vector(), blob_vector()]) for name in names or ("Echo",)))
        self.events: list[Any] = []
        self.snooped: list[Any] = []

    async def rxevent(self, event: Any) -> None:
        self.events.append(event)
        if event.vector.name == "P" and hasattr(event, "items"):
            for member, value in event.items():
                event.vector[member] = value
            await event.vector.send_setVector(state="Busy")
            await event.vector.send_setVector(state="Ok")

    async def snoopevent(self, event: Any) -> None:
        self.snooped.append(event)


class Client:
    """A raw connection to a server. `heard` has the elements received and not yet taken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heard: list[Any] = []
        self.closed = asyncio.Event()
        self._tokenizer = Tokenizer()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def to(cls, server: IPyServer | int, *, asks: bool = True) -> Client:
        port = server if isinstance(server, int) else server.port
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        if asks:
            client.say(GET)
        return client

    @property
    def name(self) -> str:
        """The name of this client in the statistics of the server."""
        return "Client {}:{}".format(*self.writer.get_extra_info("sockname")[:2])

    def say(self, xml: str | bytes) -> None:
        self.writer.write(xml.encode() if isinstance(xml, str) else xml)

    async def _read(self) -> None:
        try:
            while data := await self.reader.read(1 << 20):
                self.heard += self._tokenizer.feed(data)
                self._changed.set()
        except OSError:
            pass
        self.closed.set()
        self._changed.set()

    async def until(self, found: Callable[[Client], Any]) -> Any:
        """Wait until `found` returns something true, and return that."""
        async with asyncio.timeout(LIMIT):
            while not (result := found(self)):
                assert not self.closed.is_set(), self.heard
                self._changed.clear()
                await self._changed.wait()
        return result

    async def hears(self, tag: str, device: str | None = None, name: str | None = None, **attrs: str) -> Any:
        """Wait for such an element. Return it, and discard all those before it."""

        def find(client: Client) -> Any:
            for index, element in enumerate(client.heard):
                if element.tag != tag or (device is not None and element.device != device):
                    continue
                if name is not None and element.name != name:
                    continue
                if all(value in element.attrs.get(key, "") for key, value in attrs.items()):
                    del client.heard[: index + 1]
                    return element
            return None

        return await self.until(find)

    async def settle(self) -> list[Any]:
        """Return everything up to the answer to a ping, which the server sends after it has handled earlier input."""
        mark = f"ping{time.monotonic()}"
        self.say(f"<pingRequest uid='{mark}'/>")
        await self.until(lambda client: any(e.attrs.get("uid") == mark for e in client.heard if e.tag == "pingReply"))
        heard = [element for element in self.heard if element.tag != "pingReply"]
        self.heard.clear()
        return heard

    async def close(self) -> None:
        self.writer.close()
        async with asyncio.timeout(LIMIT):
            await self.closed.wait()
        self._task.cancel()
