"""A server that says what a test tells it to, and a client that remembers what it was told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl as ssl_module
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from indifast.client import IPyClient
from tests.support.blackbox import LIMIT, free_port

NUMBERS = (
    '<defNumberVector device="D" name="N" label="Numbers" group="G" state="Idle" perm="rw" timeout="5"'
    ' timestamp="2024-01-02T03:04:05">'
    '<defNumber name="a" label="A" format="%5.2f" min="0" max="10" step="1">1</defNumber>'
    '<defNumber name="b" label="B" format="%9.6m" min="0" max="0" step="0">-0:30:15</defNumber>'
    "</defNumberVector>"
)
TEXTS = (
    '<defTextVector device="D" name="T" group="G" state="Ok" perm="rw" timeout="0" timestamp="2024-01-02T03:04:05.5">'
    '<defText name="x" label="X">hello</defText><defText name="y"></defText></defTextVector>'
)
SWITCHES = (
    '<defSwitchVector device="D" name="S" state="Idle" perm="rw" rule="OneOfMany" timeout="0">'
    '<defSwitch name="on">Off</defSwitch><defSwitch name="off">On</defSwitch></defSwitchVector>'
)
LIGHTS = '<defLightVector device="D" name="L" state="Idle"><defLight name="l">Ok</defLight></defLightVector>'
BLOBS = (
    '<defBLOBVector device="D" name="B" state="Idle" perm="ro" timeout="60"><defBLOB name="img" label="Image"/>'
    "</defBLOBVector>"
)


def blob(content: bytes, form: str = ".bin", name: str = "img", vector: str = "B", size: int | None = None) -> str:
    """A setBLOBVector with one member."""
    text = base64.b64encode(content).decode()
    return (
        f'<setBLOBVector device="D" name="{vector}" state="Ok" timestamp="2024-01-02T03:04:05">'
        f'<oneBLOB name="{name}" size="{len(content) if size is None else size}" format="{form}">{text}</oneBLOB>'
        "</setBLOBVector>"
    )


class Server:
    """Accepts connections; the last one is talked to."""

    def __init__(self) -> None:
        self.received = b""
        self.connections = 0
        self.port = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.AbstractServer | None = None
        self._changed = asyncio.Event()

    async def start(self, ssl: ssl_module.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=ssl)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        self.received = b""
        self._changed.set()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.received += data
                self._changed.set()
        writer.close()

    async def expect(self, text: str) -> None:
        """Wait until the client has said this."""
        async with asyncio.timeout(LIMIT):
            while text.encode() not in self.received:
                self._changed.clear()
                await self._changed.wait()

    async def connected(self, number: int = 1) -> None:
        async with asyncio.timeout(LIMIT):
            while self.connections < number:
                self._changed.clear()
                await self._changed.wait()

    async def send(self, *texts: str | bytes) -> None:
        assert self._writer is not None
        for text in texts:
            self._writer.write(text if isinstance(text, bytes) else text.encode())
        await self._writer.drain()

    def stop_reading(self) -> None:
        assert self._writer is not None
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.close()

    def reset(self) -> None:
        """End the connection with an RST."""
        assert self._writer is not None
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._writer.transport.abort()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._server is not None:
            self._server.close()


class Recorder(IPyClient):
    """Keeps its events."""

    retry_min = 0.05

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[Any] = []
        self._news = asyncio.Event()

    async def rxevent(self, event: Any) -> None:
        self.note(event)

    def note(self, event: Any) -> None:
        self.seen.append(event)
        self._news.set()

    def types(self) -> list[str]:
        return [event.eventtype for event in self.seen]

    def of(self, eventtype: str) -> list[Any]:
        return [event for event in self.seen if event.eventtype == eventtype]

    async def until(self, condition: Callable[[], Any], limit: float = LIMIT) -> Any:
        """Wait, event by event, until something holds."""
        async with asyncio.timeout(limit):
            while not (result := condition()):
                self._news.clear()
                await self._news.wait()
            return result

    async def got(self, eventtype: str, count: int = 1) -> Any:
        """Wait for so many events of a type; returns the last of them."""
        await self.until(lambda: len(self.of(eventtype)) >= count)
        return self.of(eventtype)[count - 1]


@contextlib.asynccontextmanager
async def session(*sends: str, client: type[Any] = Recorder, **keywords: Any) -> AsyncIterator[tuple[Server, Any]]:
    """A server, a client of it, and what the server says first."""
    server = Server()
    await server.start()
    try:
        recorder = client("127.0.0.1", server.port)
        for name, value in keywords.items():
            setattr(recorder, name, value)
        async with recorder:
            await server.expect("<getProperties")
            if sends:
                await server.send(*sends)
                await recorder.until(lambda: len(recorder.seen) >= 4 + len(sends))
            yield server, recorder
    finally:
        await server.close()


@contextlib.contextmanager
def indiserver(program: Callable[[str], str], *drivers: str) -> Iterator[tuple[int, str]]:
    """A C++ server with drivers; gives its port and the name of its local socket."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        local = os.path.join(home, "socket")
        process = subprocess.Popen(
            [program("indiserver"), "-p", str(port), "-u", local, *map(program, drivers)],
            env={**os.environ, "HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            limit = time.monotonic() + LIMIT
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > limit or process.poll() is not None:
                        raise
                    time.sleep(0.02)
            yield port, local
        finally:
            process.terminate()
            process.wait(LIMIT)
