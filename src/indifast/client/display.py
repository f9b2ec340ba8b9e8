"""The client behind what people look at, a terminal or a web page: it passes on what it receives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from indifast.client.ipyclient import IPyClient
from indifast.transport.stream import Stream

TURN = 100
"""Events, of about 15 µs each, handled before everything else gets its turn: keys, viewers."""


class Server(Protocol):
    """The address of a server, whose `str` is for users; creates clients of the server."""

    def client(self, kind: type[IPyClient] | None = None) -> IPyClient:
        """Return a client that is not running yet.

        Raises:
            ValueError: The address cannot be used, because of a missing TLS file for example.
        """


class DisplayClient(IPyClient):
    """A client that passes everything it receives to a function."""

    vector_timeout_max = 3600.0
    receive_event: Callable[[Any], None]
    inside: Callable[[], Stream] | None = None
    """Connects to a server that has started this process, and logs by itself what is to be said about messages."""
    _turn = 0

    @classmethod
    def of(cls, server: Server, receive_event: Callable[[Any], None]) -> DisplayClient:
        """Return a client of a server that passes everything to this function.

        Raises:
            ValueError: The server's address cannot be used; see `Server.client`.
        """
        client = server.client(cls)
        assert isinstance(client, cls)
        client.receive_event = receive_event
        return client

    async def rxevent(self, event: Any) -> None:
        """Only note the event; in a flood, give everything else its turn now and then."""
        self.receive_event(event)
        self._turn += 1
        if self._turn >= TURN:
            self._turn = 0
            await asyncio.sleep(0)

    async def report(self, message: str) -> None:
        """Log a text at INFO and pass it on as a message, unless the server does it by itself."""
        if self.inside is None:
            await super().report(message)

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and pass it on as a message, unless the server does it by itself."""
        if self.inside is None:
            await super().warning(message)

    async def _indifast_open_stream(self) -> Stream:
        return await super()._indifast_open_stream() if self.inside is None else self.inside()
