"""The page in the browser, in a process of its own that the server starts, and starts again if it ends.

Drawing previews takes so much of the interpreter that the server would pass on fewer frames meanwhile, and what
browsers send is read where it can do the least harm. The process is given a connection to the server, which nobody else
can use.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indifast.cli.serve.options import ConfigError
from indifast.protocol.backoff import pause_after
from indifast.protocol.loglevels import NOTICE

if TYPE_CHECKING:
    from indifast.cli.serve.listed import ListedDrivers
    from indifast.cli.serve.options import Options, Program
    from indifast.cli.serve.server import TappedServer
    from indifast.server.exdriver import ExDriver

logger = logging.getLogger(__name__)

MODULE = "indifast.cli.serve.pageprocess"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0  # seconds until the process is started again
_HEALTHY = 60.0  # seconds after which its former ends are forgotten
_START = 60.0  # seconds that it has to start
_END = 5.0  # seconds that it has to end
_LINE = 1 << 20  # bytes
_MOST_TOLD = 8 << 20  # bytes about drivers: the process reads longer lines, but not all that drivers can write


class Website:
    """The page, on sockets that already listen.

    Args:
        server: The server that is shown.
        options: Who may do what, among other things.
        sockets: The sockets.
        manager: Those for the requests of INDI Web Manager.
        start: Starts a program as a driver of the server.

    Attributes:
        drivers: Drivers that may be started and stopped from a browser; None without a list of them.

    Raises:
        ConfigError: The list of drivers cannot be used.
    """

    def __init__(
        self,
        server: TappedServer,
        options: Options,
        sockets: Sequence[socket.socket],
        manager: Sequence[socket.socket],
        start: Callable[[Program], ExDriver],
    ) -> None:
        self._server = server
        self._options = options
        self._sockets = sockets
        self._manager = manager
        for file in filter(None, (options.web.token_file, options.web.users)):
            if Path(file).is_fifo():  # of this process, perhaps: /dev/fd/63 is something else in that of the page
                raise ConfigError(f"{file} is not a file: it is read again whenever the page is started")
        self.drivers: ListedDrivers | None = None
        if options.web.drivers is not None:
            from indifast.cli.serve.listed import ListedDrivers, read_list

            self.drivers = ListedDrivers(read_list(options.web.drivers), server, start)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to serve; return when browsers can connect.

        Raises:
            ConfigError: The page cannot be served as the options say it.
        """
        page = self._spawn()
        first = asyncio.create_task(page.hear())
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((first, stop), timeout=_START, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not first.done():
            problem: str | None = f"the page in the browser has not started within {_START:g} s"
        elif (heard := first.result()) is None:  # the process has ended
            problem = "the page in the browser could not be started"
        else:
            problem = heard.get("failed")
        if problem is not None:
            first.cancel()
            await page.end()
            if not self._stopping.is_set():
                raise ConfigError(problem)
            return
        from indifast.cli.toolkit.webpage import address_of

        logger.log(NOTICE, "page in the browser: %s", address_of(self._sockets))
        if self._manager:
            logger.log(NOTICE, "in place of INDI Web Manager: %s", address_of(self._manager))
        self._task = asyncio.create_task(self._supervise(page))

    def stop(self) -> None:
        """Begin to end all connections of browsers, and the one to the server."""
        self._stopping.set()

    async def end(self) -> None:
        """End them, and wait until that is done."""
        self.stop()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _supervise(self, page: _Process) -> None:
        """Answer what the process asks, and start it again if it ends, until the page is stopped."""
        failures = 0
        while True:
            began = time.monotonic()
            serving = asyncio.create_task(self._serve(page))
            stop = asyncio.create_task(self._stopping.wait())
            await asyncio.wait((serving, stop), return_when=asyncio.FIRST_COMPLETED)
            serving.cancel()
            await page.end()
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - began > _HEALTHY else failures + 1
            started = await self._spawn_again(failures, stop)
            if started is None:
                return
            page = started

    async def _spawn_again(self, failures: int, stop: asyncio.Task[bool]) -> _Process | None:
        """Start the process again after a while, as soon as that is possible; None if the page is stopped first."""
        while True:
            pause = pause_after(failures, _FIRST_PAUSE, _LONGEST_PAUSE)
            logger.warning("the page in the browser has ended: starting it again in %g s", pause)
            if (await asyncio.wait((stop,), timeout=pause))[0]:
                return None
            try:
                return self._spawn()
            except OSError as error:
                logger.warning("the page in the browser cannot be started: %s", error)
                failures += 1

    async def _serve(self, page: _Process) -> None:
        while (heard := await page.hear()) is not None:
            if "failed" in heard:  # only the first process had to succeed
                logger.error("the page in the browser cannot be served: %s", heard["failed"])
            if "do" in heard:
                task = asyncio.create_task(self._answer(page, heard))
                self._work.add(task)
                task.add_done_callback(self._work.discard)

    async def _answer(self, page: _Process, asked: Any) -> None:
        from indifast.web.drivers import DriverFailed, UnknownDriver

        answer: dict[str, Any]
        try:
            answer = {"done": await self._do(asked["do"], asked["name"])}
        except UnknownDriver as error:
            answer = {"known": error.known}
        except DriverFailed as error:
            answer = {"failed": str(error)}
        except Exception:
            logger.exception("a driver was not started or stopped")
            answer = {"failed": "a fault of the server; its log says more"}
        page.tell(id=asked["id"], **answer)

    async def _do(self, what: str, name: str) -> Any:
        assert self.drivers is not None
        if what == "list":
            return _bounded([_plain(each) for each in await self.drivers.listed()])
        return _plain(await (self.drivers.start if what == "start" else self.drivers.stop)(name))

    def _spawn(self) -> _Process:
        """Start the process.

        Raises:
            OSError: That is not possible.
        """
        web, page = self._options.web, _Process([*self._sockets, *self._manager], self._server.connect_inside())
        page.tell(
            server=f"{socket.gethostname()}:{self._server.port}",
            rules={"token_file": web.token_file, "users": web.users, "read_only": web.read_only, "public": web.public},
            names=[*web.names, *([web.listen[0]] if web.listen else [])],
            drivers=self.drivers is not None,
            manages=self._server.port,
            manager_sockets=len(self._manager),
            viewers=web.viewers,
            connections=web.connections,
            verbose=self._options.verbose,
        )
        return page


class _Process:
    """A running process of the page, and the socket on which both talk."""

    def __init__(self, sockets: Sequence[socket.socket], connection: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        with connection, theirs:
            passed = [sock.fileno() for sock in (*sockets, connection, theirs)]
            # -P: no module comes from the current directory, where others may be able to write.
            words = [sys.executable, "-P", "-m", MODULE, *map(str, passed)]
            try:  # in a session of its own: Ctrl-C is for the server, which ends it
                self._child = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=passed, start_new_session=True)
            except BaseException:
                ours.close()
                raise
        self._connecting = asyncio.ensure_future(asyncio.open_connection(sock=ours, limit=_LINE))
        self._told: list[bytes] = []

    def tell(self, **content: Any) -> None:
        """Send a line."""
        self._told.append(json.dumps(content).encode() + b"\n")
        if self._connecting.done():
            self._flush()

    async def hear(self) -> Any:
        """Return the next line; None if the process has ended."""
        reader, _ = await asyncio.shield(self._connecting)
        self._flush()
        try:
            line = await reader.readline()
        except (OSError, ValueError):  # ValueError: longer than any that this process sends
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def _flush(self) -> None:
        _, writer = self._connecting.result()
        told, self._told = self._told, []
        writer.writelines(told)

    async def end(self) -> None:
        """End the process."""
        _, writer = await self._connecting
        writer.close()
        waiting = asyncio.get_running_loop().run_in_executor(None, self._child.wait)
        done, _ = await asyncio.wait((waiting,), timeout=_END)
        if not done:
            self._child.kill()
            await waiting


def _bounded(drivers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return drivers without what makes a line too long: what they have written, and if need be their devices."""
    for key in ("lines", "devices"):
        if len(json.dumps(drivers)) <= _MOST_TOLD:
            break
        drivers = [each | {key: ()} for each in drivers]
    return drivers


def _plain(driver: Any) -> dict[str, Any]:
    return dataclasses.asdict(driver) | {"state": driver.state.value}
