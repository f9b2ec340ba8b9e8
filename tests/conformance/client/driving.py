"""Plays a scenario to both client libraries, and records what a program sees of each."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.blackbox import LIMIT

PROBE = Path(__file__).with_name("probe.py")
STAMP = re.compile(r'timestamp="\d{4}-\d\d-\d\dT[^"]*"')


class Play:
    """A scripted server, and a probe that runs one of the libraries against it."""

    def __init__(self, ours: bool) -> None:
        self.ours = ours
        self.lines: list[dict[str, Any]] = []
        self.wire: list[str] = []
        self._markers = 0
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._received = b""
        self.connections = 0

    async def start(self, python: Path, port: int | None = None) -> None:
        """Start the probe against the scripted server, or a real one at `port`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = port or self._server.sockets[0].getsockname()[1]
        module = "indifast.client" if self.ours else "indipyclient"
        self._process = await asyncio.create_subprocess_exec(
            str(python), str(PROBE), module, "127.0.0.1", str(port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} if self.ours else None,
        )  # fmt: skip
        self._reading = asyncio.ensure_future(self._read())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        try:
            while data := await reader.read(1 << 16):
                self._received += data
                self._changed.set()
        except ConnectionError:
            pass

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(json.loads(line))
            self._changed.set()
        self._changed.set()

    async def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        try:
            async with asyncio.timeout(LIMIT):
                while not (result := condition()):
                    self._changed.clear()
                    await self._changed.wait()
                return result
        except TimeoutError:
            raise AssertionError(f"no {what} within {LIMIT} s; the last lines: {self.lines[-5:]}") from None

    # -- For scenarios

    async def command(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Let the client do something. Return the result."""
        before = sum(line.get("done") == name for line in self.lines)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, arguments, keywords]).encode() + b"\n")
        if name == "run":
            return None
        done = await self.until(
            lambda: [line for line in self.lines if line.get("done") == name][before:], f"the end of {name}"
        )
        return done[0]["result"]

    async def connect(self) -> None:
        """Run the client until it has asked for definitions."""
        await self.command("run")
        await self.until(lambda: b"<getProperties" in self._received, "getProperties")

    async def say(self, *texts: str) -> None:
        """Let the server send something, and wait until the client has handled it."""
        assert self._writer is not None
        self._markers += 1
        marker = f"marker {self._markers}"
        self._writer.write("".join(texts).encode() + f'<message message="{marker}"/>'.encode())
        await self.until(
            lambda: any(line.get("event") and line["fields"].get("message") == marker for line in self.lines), marker
        )

    async def say_bytes(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    async def flush(self) -> None:
        """Wait until the server has received everything that the client was told to send."""
        self._markers += 1
        name = f"marker{self._markers}"
        await self.command("send_getProperties", name)
        await self.until(lambda: f'device="{name}" />'.encode() in self._received, name)

    async def event(self, eventtype: str, count: int = 1) -> None:
        await self.until(lambda: sum(line.get("event") == eventtype for line in self.lines) >= count, eventtype)

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.close()

    async def finish(self) -> None:
        await self.command("shutdown")
        await self._process.wait()
        await self._reading
        self._server.close()
        self.wire.append(STAMP.sub('timestamp="…"', self._received.decode()))

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def events(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "event" in line]


Scenario = Callable[[Play], Awaitable[None]]


def play(scenario: Scenario, peer: Path, ports: Sequence[int] | None = None) -> tuple[Play, Play]:
    """Play a scenario to the peer and to us, each with a scripted server, or with the real servers at two ports."""

    async def one(ours: bool) -> Play:
        stage = Play(ours)
        await stage.start(Path(sys.executable) if ours else peer, ports and ports[ours])
        try:
            await scenario(stage)
            await stage.finish()
        finally:
            await stage.kill()
        return stage

    async def both() -> tuple[Play, Play]:
        theirs, ours = await asyncio.gather(one(False), one(True))
        return theirs, ours

    return asyncio.run(both())
