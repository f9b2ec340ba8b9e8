"""The process of the page in the browser, started by the server that it shows; see `website`.

Its arguments are descriptors: of the listening sockets (last those for the requests of INDI Web Manager), of a
connection to the server, and of a socket on which both processes send lines of JSON. The first line comes from the
server: how the page is to be served. The first answer says that it is, or why not. After that, this process asks for
what happens to drivers. It ends with that socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from indifast.cli.serve.log import log_to_stderr, set_verbosity
from indifast.cli.toolkit import webpage
from indifast.client.display import DisplayClient
from indifast.transport.loop import new_event_loop
from indifast.transport.stream import SocketStream, Stream

if TYPE_CHECKING:
    from indifast.client import IPyClient
    from indifast.web.drivers import Driver

logger = logging.getLogger(__name__)

_ENDS = "the server ends"

LONGEST_LINE = 16 << 20
"""Bytes of a line."""


class GivenServer:
    """A server to which this process has been given a connection."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self._name = name
        self._connection: socket.socket | None = connection
        self.gone = asyncio.Event()
        """Set when there is no connection any more."""

    def __str__(self) -> str:
        return self._name

    def client(self, kind: type[IPyClient] | None = None) -> IPyClient:
        """Return a client that is not running yet."""
        client = DisplayClient() if kind is None else kind()
        assert isinstance(client, DisplayClient)
        client.inside = self._stream
        return client

    def _stream(self) -> Stream:
        connection, self._connection = self._connection, None
        if connection is None:
            self.gone.set()
            raise ConnectionError("the connection to the server has ended")
        return SocketStream(connection, "the server")


class RemoteDrivers:
    """Drivers of a list that the server has."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def listed(self) -> Sequence[Driver]:
        """Return all drivers of the list."""
        return [_driver(each) for each in await self._line.ask("list")]

    async def start(self, name: str) -> Driver:
        """Start a driver, unless it runs.

        Raises:
            UnknownDriver: It is not in the list.
            DriverFailed: It cannot be started.
        """
        return _driver(await self._line.ask("start", name))

    async def stop(self, name: str) -> Driver:
        """Stop a driver, unless that is done, and wait for its end.

        Raises:
            UnknownDriver: It is not in the list.
        """
        return _driver(await self._line.ask("stop", name))


class Line:
    """The socket on which questions go to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._over = False

    def tell(self, **content: Any) -> None:
        """Send a line."""
        self._writer.write(json.dumps(content).encode() + b"\n")

    async def hear(self) -> Any:
        """Return the next line.

        Raises:
            EOFError: The server has ended.
        """
        line = await self._reader.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    async def ask(self, do: str, name: str = "") -> Any:
        """Return the answer to a question about a driver.

        Raises:
            UnknownDriver: It is not in the list.
            DriverFailed: It cannot be started.
            ConnectionError: The server ends.
        """
        from indifast.web.drivers import DriverFailed, UnknownDriver

        if self._over:
            raise ConnectionError(_ENDS)
        self._count += 1
        self._asked[self._count] = future = asyncio.get_running_loop().create_future()
        self.tell(id=self._count, do=do, name=name)
        answer = await future
        if "known" in answer:
            raise UnknownDriver(name, answer["known"])
        if "failed" in answer:
            raise DriverFailed(answer["failed"])
        return answer["done"]

    async def answers(self) -> None:
        """Pass answers on, until the server ends."""
        try:
            with contextlib.suppress(EOFError, ConnectionError):
                while True:
                    answer = await self.hear()
                    future = self._asked.pop(answer["id"])
                    if not future.done():
                        future.set_result(answer)
        except ValueError as error:
            logger.error("the server has said what cannot be read: %s", error)
        finally:
            self._over = True
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(ConnectionError(_ENDS))


def _driver(plain: dict[str, Any]) -> Driver:
    from indifast.web.drivers import Driver, State

    return Driver(**plain | {"state": State(plain["state"])})


async def serve(sockets: Sequence[socket.socket], connection: socket.socket, line: socket.socket) -> None:
    """Serve the page until the server ends, or the connection to it."""
    talk = Line(*await asyncio.open_connection(sock=line, limit=LONGEST_LINE))
    options = await talk.hear()
    set_verbosity(options["verbose"])
    server = GivenServer(options["server"], connection)
    try:
        count = len(sockets) - options["manager_sockets"]
        sockets, manager = sockets[:count], sockets[count:]
        rules = webpage.Rules(**options["rules"], prefix="--web-")
        access = rules.access(sock.getsockname()[0] for sock in sockets)
        drivers = RemoteDrivers(talk) if options["drivers"] else None
        page = webpage.Webpage(
            server,
            access,
            options["names"],
            drivers,
            options["manages"] if manager else None,
            options["viewers"],
            options["connections"],
        )
    except webpage.WebpageError as error:
        talk.tell(failed=str(error))
        return
    webpage.limit_warnings(logging.getLogger().handlers)
    if page.lack is not None:
        logger.warning("page in the browser: %s", page.lack)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, page.stop)
    running = asyncio.create_task(page.run(sockets, manager))
    await page.started()
    talk.tell(ready=True)
    ends = [asyncio.create_task(each) for each in (talk.answers(), server.gone.wait())]
    await asyncio.wait([running, *ends], return_when=asyncio.FIRST_COMPLETED)
    page.stop()
    await running


def main() -> None:
    """Run the process."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # the server handles them, and ends this process
        signal.signal(number, signal.SIG_IGN)
    log_to_stderr()
    *listening, connection, line = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(listening, connection, line))


if __name__ == "__main__":
    main()
