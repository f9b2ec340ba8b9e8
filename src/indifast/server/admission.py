"""What a program sees of a connection if it overrides `IPyServer.handle_data`: a reader and a writer as of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from indifast.transport.stream import Stream


class ConnectionWriter:
    """The writing side of a connection that is not served yet, or is being served.

    Args:
        stream: The stream, which nobody has started.
        serve: Serves the connection until it ends.
    """

    def __init__(self, stream: Stream, serve: Callable[[Stream], Awaitable[None]]) -> None:
        self.stream = stream
        self.served = False
        """Whether the connection is served, or was."""
        self._serve = serve
        self._unsent = b""
        transport = getattr(stream, "_transport", None)
        self.plain = transport is None
        self._info: dict[str, Any] = {}
        sock = getattr(stream, "socket", None) or getattr(stream, "_socket", None)
        if sock is not None:
            self._info["socket"] = sock
            with contextlib.suppress(OSError):
                self._info["sockname"] = sock.getsockname()
                self._info["peername"] = sock.getpeername()
        if transport is not None:
            for name in ("ssl_object", "sslcontext", "peercert", "cipher", "compression"):
                self._info[name] = transport.get_extra_info(name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection: `peername`, `sockname`, `socket` and, with TLS, `ssl_object`."""
        value = self._info.get(name)
        return default if value is None else value

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, before the connection is served.

        Raises:
            RuntimeError: The connection is served, or has TLS.
        """
        if self.served or not self.plain:
            raise RuntimeError("a program can write to a connection only before it is served, and without TLS")
        self._unsent += bytes(data)
        self._send()

    def _send(self) -> None:
        if self._unsent and not self.stream.closed:
            sock = self._info["socket"]
            with contextlib.suppress(OSError):
                self._unsent = self._unsent[sock.send(self._unsent, socket.MSG_NOSIGNAL) :]

    def writelines(self, data: Any) -> None:
        """Send several pieces. See `write`."""
        self.write(b"".join(data))

    async def drain(self) -> None:
        """Wait until what was written is sent."""
        if self._unsent and not self.stream.closed:
            data, self._unsent = self._unsent, b""
            await asyncio.get_running_loop().sock_sendall(self._info["socket"], data)

    def close(self) -> None:
        """Close the connection."""
        if self.served:
            self.stream.close()
        else:
            self._send()
            self.stream.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closing or closed."""
        return self.stream.closed

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self.stream.wait_closed()

    async def serve(self) -> None:
        """Serve the connection until it ends."""
        if not (self.served or self.stream.closed):
            self.served = True
            await self._serve(self.stream)


class ConnectionReader:
    """The reading side of a connection that is not served yet. What is read here is not served afterwards."""

    def __init__(self, writer: ConnectionWriter) -> None:
        self._writer = writer
        self._eof = False

    def at_eof(self) -> bool:
        """Return whether the client has sent everything."""
        return self._eof

    async def read(self, n: int = -1) -> bytes:
        """Return up to `n` bytes, or all until the end if `n` is negative; nothing at the end.

        Raises:
            RuntimeError: The connection is served, or has TLS.
        """
        if n < 0:
            pieces = []
            while piece := await self.read(1 << 16):
                pieces.append(piece)
            return b"".join(pieces)
        writer = self._writer
        if writer.served or not isinstance(sock := writer.get_extra_info("socket"), socket.socket) or not writer.plain:
            raise RuntimeError("a program can read from a connection only before it is served, and without TLS")
        if n == 0 or self._eof or writer.is_closing():
            return b""
        data = await asyncio.get_running_loop().sock_recv(sock, n)
        self._eof = not data
        return data
