"""Runs the application on sockets that already listen, within the bounds of `bounds`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from indifast.web.bounds import (
    BODY,
    CONNECTIONS,
    HEAD,
    REQUEST_TIME,
    UNREAD_BYTES,
    UNREAD_TIME,
    UNSENT,
    UPLOAD_RATE,
)
from indifast.web.endpoints import HAND_OVER
from indifast.web.shares import Busy, Shares, share_in, share_of

_END = 2
"""Seconds that connections have to end when the program ends."""


class _Unread:
    """Part of a protocol: ends the connection of a peer that reads nothing."""

    transport: Any
    _unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        if self._unread is None:
            self._unread = asyncio.get_running_loop().call_later(UNREAD_TIME, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._written()

    def connection_lost(self, exc: Exception | None) -> None:
        self._written()
        super().connection_lost(exc)  # type: ignore[misc]

    def _written(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class _WebSocket(_Unread, WebSocketsSansIOProtocol):
    """A WebSocket within the bounds: answers to pings do not pile up, either.

    The application may take its connection.
    """

    def __init__(self, room: Shares, **given: Any) -> None:
        super().__init__(**given)
        self._room = room

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.give_back(share_of({"client": self.client}))  # taken before it was a WebSocket
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()
            return
        super().data_received(data)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions: Any = self.scope["extensions"]
            extensions[HAND_OVER] = self._hand_over
            # What a peer sends before it is accepted stays with the system: whoever is given the connection finds it.
            self.read_paused = True  # until the application receives that somebody wants to connect
            self.transport.pause_reading()

    def _hand_over(self) -> int:
        """Give away the connection, after it was accepted; return a descriptor for it.

        Raises:
            WebSocketDisconnect: The peer has gone, or there is no descriptor.
        """
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            raise WebSocketDisconnect(1006)
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(AttributeError, OSError):  # where the system does not know it, more waits there
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        try:
            fd = os.dup(sock.fileno())
        except OSError:
            raise WebSocketDisconnect(1006) from None
        self.transport.abort()  # its own descriptor is closed, the connection is not
        return fd


class _Http(_Unread, H11Protocol):
    """A connection within the bounds: there are not too many, and a request must arrive in time."""

    _refused = False
    _late: asyncio.TimerHandle | None = None
    _since = 0.0
    _received = 0

    def __init__(self, room: Shares, **given: Any) -> None:
        super().__init__(**given)
        self._room = room

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        try:
            self._room.take(share_of({"client": self.client}))
        except Busy:
            self._refused = True
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        if not self._refused:
            self._room.give_back(share_of({"client": self.client}))
        super().connection_lost(exc)

    def _watch(self) -> None:
        """End the connection later, unless all of the request has arrived by then, or it has become a WebSocket."""
        waiting = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if not waiting or self.transport.get_protocol() not in (self, None):
            self._stop_watch()
        elif self._late is None:
            loop = asyncio.get_running_loop()
            self._since, self._received = loop.time(), 0
            self._late = loop.call_later(REQUEST_TIME, self._end_if_late)

    def _end_if_late(self) -> None:
        """End the connection, unless somebody reads a body that arrives fast enough: it may be long."""
        wanted = self.cycle is not None and not self.cycle.response_complete
        loop = asyncio.get_running_loop()
        left = self._since + REQUEST_TIME + self._received / UPLOAD_RATE - loop.time() if wanted else 0
        if left > 0:
            self._late = loop.call_later(left, self._end_if_late)
        else:
            self.transport.abort()

    def _stop_watch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Serving(uvicorn.Server):
    """The web server. Whoever runs it handles signals, and ends it by `stop`.

    Args:
        app: The application.
        connections: How many connections there may be, besides those that are handed over.
    """

    def __init__(self, app: ASGIApp, connections: int = CONNECTIONS) -> None:
        room = Shares(connections, share_in(connections), "connections")
        config = uvicorn.Config(
            app,
            http=partial(_Http, room),  # type: ignore[arg-type] # what it is used for is what a class is called for
            ws=partial(_WebSocket, room),  # type: ignore[arg-type] # the same
            ws_max_size=BODY,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEAD,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_END,
        )
        super().__init__(config)
        self.answering = asyncio.Event()
        """Set when browsers can connect, and when that is over."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def run_on(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until `stop` is called. The sockets are closed then."""
        try:
            await self.serve(list(sockets))
        finally:
            self.answering.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.answering.set()

    def stop(self) -> None:
        """End all connections, and return from `run_on`."""
        self.should_exit = True
