"""A server that sends what tests tell it to, and a client that keeps its events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable
from typing import Any

from indifast.client import IPyClient
from tests.support.blackbox import LIMIT
from tests.support.waiting import eventually

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
    """Accepts connections, and sends to the last one."""

    def __init__(self, ssl: ssl_module.SSLContext | None = None) -> None:
        self.received = b""
        self.connections = 0
        self.port = 0
        self._ssl = ssl
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.AbstractServer | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

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

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds that depends on what the client does."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def expect(self, text: str) -> None:
        """Wait until the client has sent a text on this connection."""
        await self.until(lambda: text.encode() in self.received)

    async def connected(self, number: int = 1) -> None:
        """Wait until the client has connected so many times."""
        await self.until(lambda: self.connections >= number)

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
        """End the connection with a TCP reset."""
        assert self._writer is not None
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._writer.transport.abort()

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._server is not None:
            self._server.close()


class Recorder(IPyClient):
    """A client that keeps its events."""

    retry_min = 0.05

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[Any] = []
        self._changed = asyncio.Event()

    async def rxevent(self, event: Any) -> None:
        self.note(event)

    def note(self, event: Any) -> None:
        self.seen.append(event)
        self._changed.set()

    def types(self) -> list[str]:
        return [event.eventtype for event in self.seen]

    def of(self, eventtype: str) -> list[Any]:
        return [event for event in self.seen if event.eventtype == eventtype]

    async def until(self, condition: Callable[[], Any], limit: float = LIMIT) -> Any:
        """Wait until a condition holds that depends on events, and return its value."""
        async with asyncio.timeout(limit):
            while not (result := condition()):
                self._changed.clear()
                await self._changed.wait()
            return result

    async def got(self, eventtype: str, count: int = 1) -> Any:
        """Wait for so many events of a type, and return the last of them."""
        await self.until(lambda: len(self.of(eventtype)) >= count)
        return self.of(eventtype)[count - 1]

    async def got_message(self, text: str) -> None:
        """Wait for a message with this text."""
        await self.until(lambda: any(event.message == text for event in self.of("Message")))

    async def reading_pauses(self) -> None:
        """Wait until the client no longer reads, because the program is behind."""
        await eventually(lambda: self._indifast.link.connection is not None and self._indifast.link.connection._paused)


class Slow(Recorder):
    """A client whose `rxevent` waits, at the events that `slow` selects, until `gate` is set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate = asyncio.Event()
        self.slow: Callable[[Any], bool] = lambda event: event.eventtype == "Set"

    async def rxevent(self, event: Any) -> None:
        self.note(event)
        if self.slow(event):
            await self.gate.wait()


@contextlib.asynccontextmanager
async def session(*sends: str, client: type[Any] = Recorder, **keywords: Any) -> AsyncIterator[tuple[Server, Any]]:
    """A server that has sent some messages, and a client that has received them."""
    async with Server() as server:
        recorder = client("127.0.0.1", server.port)
        for name, value in keywords.items():
            setattr(recorder, name, value)
        async with recorder:
            await server.expect("<getProperties")
            if sends:
                await server.send(*sends)
                await recorder.until(lambda: len(recorder.seen) >= 4 + len(sends))
            yield server, recorder
