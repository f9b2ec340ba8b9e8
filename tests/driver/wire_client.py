"""A peer of drivers that sees the bytes: for tests of what comes out on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
)
from indifast._parser import Element, Tokenizer
from tests.support.blackbox import LIMIT

"""Seconds after which something that should happen counts as not happening."""


def fence_device() -> Device:
    """A device to ask for when all answers to earlier messages are awaited: answers come in order."""
    return Device("Fence", [TextVector("fence", "", "", "ro", "Ok", [TextMember("t")])])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


class WireClient:
    """A TCP client that sends text and collects messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.raw = bytearray()
        self.elements: list[Element] = []
        self.eof = False
        self._seen = 0
        self._reader = reader
        self._writer = writer
        self._tokenizer = Tokenizer()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, port: int | None) -> WireClient:
        assert port is not None
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 20):
                self.raw += data
                self.elements += self._tokenizer.feed(data)
                self._changed.set()
        self.eof = True
        self._changed.set()

    def send(self, text: str) -> None:
        self._writer.write(text.encode())

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def send_eof(self) -> None:
        self._writer.write_eof()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def next(self, tag: str | None = None) -> Element:
        """The next message (of this tag); those before it are passed over."""
        found: list[Element] = []

        def there() -> bool:
            while not found and self._seen < len(self.elements):
                element = self.elements[self._seen]
                self._seen += 1
                if tag is None or element.tag == tag:
                    found.append(element)
            return bool(found)

        await self.until(there)
        return found[0]

    async def answers(self, text: str, fences: int = 0) -> list[Element]:
        """What comes back for this, from a driver that has a `fence_device`; `fences` of it belong to the answers."""
        first = len(self.elements)
        self.send(text + '<getProperties version="1.7" device="Fence" name="fence" />')
        await self.until(lambda: sum(element.device == "Fence" for element in self.elements[first:]) > fences)
        return self.elements[first:-1]

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        self._task.cancel()


@contextlib.asynccontextmanager
async def listening(driver: IPyDriver) -> AsyncIterator[WireClient]:
    """A client of a driver that listens on a port of its own."""
    driver.listen("127.0.0.1", 0)
    async with driver:
        client = await WireClient.connect(driver.listening_port)
        try:
            yield client
        finally:
            await client.close()


Send = Callable[[IPyDriver], Awaitable[None]]


def full_driver() -> IPyDriver:
    """A driver with a vector of each kind."""
    switches = [SwitchMember("a", membervalue="On"), SwitchMember("b", "Bee")]
    texts = [TextMember("t", "T", 'a<b>&"c" é'), TextMember("e", None, "")]
    vectors = [
        SwitchVector("sw", "SwL", "G", "rw", "OneOfMany", "Ok", switches),
        NumberVector("nu", "NuL", "G", "wo", "Busy", [NumberMember("n", None, "%9.6m", -5, 10.5, 0, 1.25)]),
        TextVector("tx", "TxL", "G", "ro", "Idle", texts),
        LightVector("li", "LiL", "G", "Alert", [LightMember("l", None, "Busy")]),
        BLOBVector("bl", "BlL", "G", "ro", "Ok", [BLOBMember("b1")]),
    ]
    return IPyDriver(Device("Dev", vectors), fence_device())


def messages(*sends: Send, driver: IPyDriver | None = None) -> list[str]:
    """What a driver (`full_driver` unless given) writes for these calls, split into messages."""
    driver = driver or full_driver()

    async def run() -> str:
        async with listening(driver) as client:
            await client.answers('<enableBLOB device="Dev">Also</enableBLOB>')
            before = len(client.raw)
            for send in sends:
                await send(driver)
            await driver.send_message("the end")
            await client.until(lambda: client.raw.endswith(b'message="the end" />'))
            return client.raw[before:].decode()

    text = asyncio.run(run())
    found = []
    while text:
        match = re.match(r"<(\w+)[^<>]* />|<(\w+)[^<>]*>.*?</\2>", text, re.DOTALL)
        assert match, text
        found.append(match.group())
        text = text[match.end() :]
    return found[:-1]
