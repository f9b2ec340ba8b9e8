"""Drivers for tests, clients that see what drivers write, and a driver that runs as a separate program."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from xml.etree import ElementTree

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    IPyServer,
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
from indifast.driver.portlink import PortLink
from indifast.protocol.limits import Limits
from tests.support.blackbox import LIMIT, PYTHON, Channel, Child, python_environment

CHILD = Path(__file__).with_name("child_driver.py")
GET = b'<getProperties version="1.7" />'

Send = Callable[[IPyDriver], Awaitable[None]]


def fence_device() -> Device:
    """A device whose definition shows that everything before it has been answered: answers keep their order."""
    return Device("Fence", [TextVector("fence", "", "", "ro", "Ok", [TextMember("t")])])


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


class WireClient:
    """A TCP client that sends text and collects what it receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.raw = bytearray()
        self.elements: list[Element] = []
        self.eof = False
        self._next = 0
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
        """Wait until a condition holds that depends on what is received."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_eof(self) -> None:
        """Wait until the driver has closed the connection."""
        await self.until(lambda: self.eof)

    async def next(self, tag: str | None = None) -> Element:
        """Return the next message (with this tag), skipping those before it."""
        found: list[Element] = []

        def arrived() -> bool:
            while not found and self._next < len(self.elements):
                element = self.elements[self._next]
                self._next += 1
                if tag is None or element.tag == tag:
                    found.append(element)
            return bool(found)

        await self.until(arrived)
        return found[0]

    async def answers(self, text: str, fences: int = 0) -> list[Element]:
        """Send a text and return what a driver with a `fence_device` answers.

        `fences` says how many definitions of the fence are part of the answers.
        """
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
async def connected(port: int | None) -> AsyncIterator[WireClient]:
    """Connect a client to a port."""
    client = await WireClient.connect(port)
    try:
        yield client
    finally:
        await client.close()


def listen(driver: IPyDriver, limits: Limits | None = None) -> None:
    """Let a driver listen on a port that the kernel chooses."""
    driver.listen("127.0.0.1", 0)
    if limits is not None:
        driver._indifast_runtime.open_link = lambda refuse: PortLink.open("127.0.0.1", 0, refuse, limits)


@contextlib.asynccontextmanager
async def listening(driver: IPyDriver, limits: Limits | None = None) -> AsyncIterator[WireClient]:
    """Run a driver on its own port, and yield a client of it."""
    listen(driver, limits)
    async with driver, connected(driver.listening_port) as client:
        yield client


@contextlib.asynccontextmanager
async def served(*drivers: IPyDriver) -> AsyncIterator[WireClient]:
    """Run drivers under a server, and yield a client of it."""
    async with IPyServer(*drivers, host="127.0.0.1", port=0) as server, connected(server.port) as client:
        yield client


def messages(*sends: Send, driver: IPyDriver | None = None) -> list[str]:
    """Return what a driver (by default `full_driver`) writes for these calls, split into messages."""
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


class PipedDriver(Child):
    """`child_driver.py` with a pipe on stdin and another one on stdout; `jobs` select what it does."""

    def __init__(self, folder: Path, *jobs: str) -> None:
        super().__init__([PYTHON, CHILD, *jobs], folder, env=python_environment(), stdio=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.pipes = Channel(self.process.stdout.fileno(), self.process.stdin.fileno())

    def send(self, data: bytes) -> None:
        self.pipes.send(data)

    def until_text(self, text: str) -> list[bytes]:
        """Return the next messages, up to and including the first that contains `text`."""
        return self.pipes.until_text(text)

    def finish(self) -> list[bytes]:
        """Close its stdin, wait for it to end without an error, and return what it still wrote."""
        self.close_stdin()
        rest = self.pipes.until_end()
        assert self.wait() == 0, self.stderr
        return rest


def press(switch: str) -> bytes:
    """The command that turns on a switch of `child_driver.py`."""
    text = f'<newSwitchVector device="Child" name="switch"><oneSwitch name="{switch}">On</oneSwitch></newSwitchVector>'
    return text.encode()


def parsed(data: bytes) -> list[ElementTree.Element]:
    """Parse messages with the XML parser of the standard library."""
    return list(ElementTree.fromstring(b"<all>" + data + b"</all>"))
