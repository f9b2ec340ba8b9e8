"""Answers Prometheus: a web server with one page, for whoever may connect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Sequence

from indifast.protocol.complaints import Complaints
from indifast.transport.hostnames import OwnNames

logger = logging.getLogger(__name__)

PATH = "/metrics"
"""The path of the page."""

CONNECTIONS = 4
"""Connections at once. Further ones wait in the system until one of these has ended."""

TIMEOUT = 5.0
"""Seconds that a connection may take in all."""

LONGEST_REQUEST = 8 << 10
"""Maximum bytes of a request."""

REST = 0.02
"""Seconds from one connection to the next: what is asked again and again must not take the server's time."""

FRESH = 0.25
"""Seconds for which the page is not made anew."""

_ENDS = (b"\r\n\r\n", b"\n\n")
_NOT_OURS = "ask by an address of this machine, or by a name that the server was given: --metrics NAME:PORT\n"
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Scrape:
    """The web server. It reads little, waits for nobody, and holds at most one page for each connection.

    Args:
        sockets: Listening sockets, which it takes ownership of.
        page: Makes the page.
        names: Names of this machine by which it is asked, besides its host name and its addresses.
    """

    def __init__(self, sockets: Sequence[socket.socket], page: Callable[[], str], names: Iterable[str] = ()) -> None:
        self._sockets = sockets
        self._page = page
        self._names = OwnNames(names)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching = False
        self._rest: asyncio.TimerHandle | None = None
        self._made = b""
        self._made_at = float("-inf")
        self._complaints = Complaints(logger)
        for sock in sockets:
            sock.setblocking(False)
        self._watch()

    def close(self) -> None:
        """End all connections, and stop listening."""
        self._unwatch()
        if self._rest is not None:
            self._rest.cancel()
        for task in self._tasks:
            task.cancel()
        for sock in self._sockets:
            sock.close()
        self._sockets = ()

    # -- Connections

    def _watch(self) -> None:
        """Accept the next connection, unless there are enough already."""
        self._rest = None
        if not self._watching and len(self._tasks) < CONNECTIONS:
            self._watching = True
            for sock in self._sockets:
                self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            for sock in self._sockets:
                self._loop.remove_reader(sock.fileno())

    def _accept(self, listening: socket.socket) -> None:
        if not self._watching:
            return  # another socket was ready, too
        self._unwatch()
        self._rest = self._loop.call_later(REST, self._watch)
        try:
            sock, _ = listening.accept()
        except (OSError, MemoryError):  # the connection is gone, or there are too many descriptors: try again later
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complaints.say(logging.ERROR, self._loop.time(), "counters for Prometheus failed", exc_info=error)
        if self._rest is None and self._sockets:
            self._watch()

    async def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            async with asyncio.timeout(TIMEOUT):
                await self._loop.sock_sendall(sock, self._answer(await self._request(sock)))
                sock.shutdown(socket.SHUT_WR)
                for _ in range(16):  # to close before it has been read would take the answer back
                    if not await self._loop.sock_recv(sock, LONGEST_REQUEST):
                        break

    async def _request(self, sock: socket.socket) -> bytes:
        """Return the head of a request, or as much of it as there is or is allowed."""
        data = b""
        while len(data) <= LONGEST_REQUEST and not any(end in data for end in _ENDS):
            more = await self._loop.sock_recv(sock, LONGEST_REQUEST + 1 - len(data))
            if not more:
                break
            data += more
        return data

    # -- Answers

    def _answer(self, request: bytes) -> bytes:
        if len(request) > LONGEST_REQUEST:
            return _response("431 Request Header Fields Too Large", b"the request is too long\n")
        words = request.partition(b"\n")[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"this is not a request by HTTP/1\n")
        method, target, _ = words
        for host in _hosts(request):
            if not self._names.has(host):
                return _response("403 Forbidden", _NOT_OURS.encode())
        if target.partition(b"?")[0] != PATH.encode():
            return _response("404 Not Found", f"the counters are at {PATH}\n".encode())
        if method != b"GET":
            return _response("405 Method Not Allowed", b"only GET is possible\n", "Allow: GET")
        return _response("200 OK", self._fresh())

    def _fresh(self) -> bytes:
        now = self._loop.time()
        if now - self._made_at >= FRESH:
            self._made = self._page().encode("utf-8", "replace")
            self._made_at = now
        return self._made


def _hosts(request: bytes) -> list[str]:
    lines = (line.partition(b":") for line in request.splitlines()[1:])
    return [value.strip().decode("latin-1") for name, _, value in lines if name.strip().lower() == b"host"]


def _response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Cache-Control: no-store",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
