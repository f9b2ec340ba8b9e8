"""Drivers that are programs: the server starts them, restarts them when they die, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from indifast.protocol.backoff import pause_after
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.transport.process import Child, spawn

if TYPE_CHECKING:
    from indifast.server.host import Host

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
"""Seconds before the first restart. Each further restart doubles the pause."""

LONGEST_PAUSE = 30.0
"""Maximum seconds between restarts."""

HEALTHY = 60.0
"""Seconds that a driver has to run for its earlier restarts to be forgotten."""

STOP_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

LAST_LINES = 20
"""Lines of a driver's standard error that are kept."""

LONGEST_LINE = 500
"""Characters that are kept of each."""

_NEEDS_PIPES = (
    "Driver %s: it seems to make asyncio pipes of its standard input and output, which fails because both are the same"
    " socket. Give it two pipes: `--pipes` for serve and its FIFO, `pipes = true` in a configuration file,"
    " `pipes=True` in Python"
)

_FAREWELL = 0.25  # seconds that a driver has to end by itself once its connection is closed
_LAST_WORDS = 1.0  # seconds to read the last data of a dead driver if something still holds its socket open
_PAUSED_AT_MOST = 60.0  # seconds for which this data may have to wait for slow readers


class ExDriverOptions(TypedDict, total=False):
    """The keyword arguments of `ExDriver` that `IPyServer.add_exdriver` passes on."""

    pipes: bool
    forgiving: bool
    max_restarts: int | None
    environment: Mapping[str, str | None] | None
    name: str | None
    grace: float


class ExDriver:
    """An executable driver of a server.

    The driver communicates over its standard input and output, which are one AF_UNIX socket, so that libindi's drivers
    send their BLOBs as descriptors. Its standard error is logged, at most 200 lines per second. If the driver dies, it
    is restarted after a pause that grows with each restart.

    Args:
        program: The name or path of the program.
        *args: Its arguments.
        debug_enable: Has no effect; kept for programs that set it.
        pipes: Connect the driver by two pipes instead, so that BLOBs arrive inline. Drivers based on indipydriver 3
            need this: they set O_NONBLOCK on their input, and lose bytes of large BLOBs if their output is the same
            socket.
        forgiving: If a BLOB arrives without its descriptor, drop the message instead of restarting the driver.
            (libindi's drivers lose all but one of the descriptors of a vector with several BLOBs.)
        max_restarts: How often to restart the driver in a row; None for no limit.
        environment: Variables added to our environment for the driver, such as INDIDEV, INDICONFIG, INDISKEL and
            INDIPREFIX. A variable that is None is removed.
        name: The name of the driver in logs, by default `program`.
        grace: Seconds between SIGTERM and SIGKILL when the driver is stopped.
    """

    def __init__(
        self,
        program: str,
        *args: str,
        debug_enable: bool = False,
        pipes: bool = False,
        forgiving: bool = False,
        max_restarts: int | None = None,
        environment: Mapping[str, str | None] | None = None,
        name: str | None = None,
        grace: float = STOP_GRACE,
    ) -> None:
        self.program = program
        self.args = args
        self.debug_enable = debug_enable
        self.environment = dict(environment or {})
        self.max_restarts = max_restarts
        self.restarts = 0
        """The number of restarts in a row."""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        """The last lines that the program has written to standard error, each cut after `LONGEST_LINE` characters."""
        self.on_terminated: Callable[[ExDriver], None] | None = None
        """Called when the driver has died and is not restarted. Its devices are gone, its counters still there."""
        self.on_restart: Callable[[ExDriver], None] | None = None
        """Called when the driver has died and will be started again."""
        self.name = program if name is None else name
        self.peer = Peer(Kind.DRIVER, f"Driver {self.name}", DriverOutbox(terminator=b"\n"))
        self._pipes = pipes
        self._forgiving = forgiving
        self._grace = grace
        self._host: Host | None = None
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Event | None = None
        self._hints = _PipeHints()

    def __repr__(self) -> str:
        return f"<ExDriver {' '.join((self.program, *self.args))}>"

    @property
    def pid(self) -> int | None:
        """The process ID of the running program; None if it is not running."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    def start(self, host: Host) -> None:
        """Start the program, and restart it as needed until `stop` is called.

        Raises:
            FileNotFoundError: There is no such program.
            PermissionError: The program can't be executed.
        """
        self._host = host
        self._stopping = asyncio.Event()
        child = self._spawn()
        self._task = asyncio.get_running_loop().create_task(self._supervise(child), name=f"driver {self.name}")

    async def stop(self) -> None:
        """End the program with SIGTERM, then SIGKILL. Wait until it has ended and been removed from the server."""
        if self._task is None or self._stopping is None:
            return
        self._stopping.set()
        await asyncio.wait((self._task,))

    def _spawn(self) -> Child:
        env = None
        if self.environment:
            changed = os.environ | self.environment
            env = {name: value for name, value in changed.items() if value is not None}
        child = spawn(self.program, self.args, on_stderr=self._log_line, env=env, pipes=self._pipes)
        self._hints = _PipeHints()
        logger.info("Driver %s: pid=%d", self.name, child.pid)
        self._child = child
        return child

    def _log_line(self, line: str) -> None:
        self.last_lines.append(line[:LONGEST_LINE])
        # A warning, because in programs without a log of their own nothing below that is seen.
        logger.warning("Driver %s: %s", self.name, line, extra={"driver_line": self.name})
        if self._hints.observe(line):
            self._suggest_pipes()

    def _suggest_pipes(self) -> None:
        if not self._pipes:
            logger.warning(_NEEDS_PIPES, self.name)

    async def _supervise(self, child: Child | None) -> None:
        assert self._host is not None
        assert self._stopping is not None
        try:
            while True:
                started = time.monotonic()
                if child is not None:
                    await self._serve(child)
                if self._stopping.is_set():
                    return
                if time.monotonic() - started >= HEALTHY:
                    self.restarts = 0
                if self.max_restarts is not None and self.restarts >= self.max_restarts:
                    log_end(self.name, self.restarts)
                    return
                child = await self._restart()
        finally:
            try:
                if not self._stopping.is_set() and self.on_terminated is not None:
                    self.on_terminated(self)
            finally:
                self._host.remove(self.peer)

    async def _restart(self) -> Child | None:
        """Wait, then start the program again. Return None if that fails, or if the driver is told to stop."""
        assert self._stopping is not None
        logger.warning("Driver %s: restart #%d", self.name, self.restarts)
        self.restarts += 1
        if self.on_restart is not None:
            self.on_restart(self)
        pause = pause_after(self.restarts, FIRST_PAUSE, LONGEST_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()
            return None
        try:
            return self._spawn()
        except OSError as exc:
            logger.error("Driver %s: cannot be started: %s", self.name, exc)
            return None

    async def _serve(self, child: Child) -> None:
        """Serve a child until it ends or is stopped."""
        assert self._host is not None
        assert self._stopping is not None
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        over = asyncio.ensure_future(child.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            self._host.carry(self.peer, child.stream, lost.set_result, forgiving=self._forgiving)
            await asyncio.wait((lost, over, stop), return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                if over.done():  # its last data may still be in the socket
                    await self._last_words(child, lost, stop)
                self._host.lose(self.peer)
                if not over.done():  # otherwise the log would name our signal as the reason
                    await asyncio.wait((over, stop), timeout=_FAREWELL, return_when=asyncio.FIRST_COMPLETED)
            wanted, by_itself = stop.done(), over.done()
            if lost.done() and (exc := lost.result()) is not None:
                logger.log(logging.INFO if by_itself else logging.WARNING, "Driver %s: %s", self.name, exc)
            status = await child.stop(self._grace)
            if not lost.done():
                await asyncio.wait((lost,), timeout=_LAST_WORDS)
            how = "ended" if wanted or by_itself else "its connection is closed, but it ran on: stopped, ended"
            logger.log(
                logging.INFO if wanted else logging.WARNING, "Driver %s: %s with %s", self.name, how, ending(status)
            )
            if self._hints.failed and not stop.done():
                self._suggest_pipes()
        finally:
            child.stream.abort()
            if child.returncode is None:  # this task was cancelled: there is no time for SIGTERM
                child.kill()
            over.cancel()
            stop.cancel()
            self._child = None

    async def _last_words(
        self, child: Child, lost: asyncio.Future[Exception | None], stop: asyncio.Future[Any]
    ) -> None:
        """Read what a program that has ended by itself has left, as fast as its readers take it."""
        now = time.monotonic()
        end, latest = now + _LAST_WORDS, now + _PAUSED_AT_MOST
        while not (lost.done() or stop.done()) and now < min(end, latest):
            await asyncio.wait((lost, stop), timeout=_LAST_WORDS / 20, return_when=asyncio.FIRST_COMPLETED)
            now = time.monotonic()
            if child.stream.paused:
                end = now + _LAST_WORDS


class _PipeHints:
    """Looks for signs in the standard error of a driver that it makes asyncio pipes out of one socket.

    asyncio takes any data that arrives on its output pipe for the end of that pipe, and closes it. A driver that then
    waits for its output to be written ends with a traceback. One that never waits loses its output, and asyncio logs a
    warning.
    """

    def __init__(self) -> None:
        self.failed = False
        """Whether the last lines are such a traceback."""
        self._asyncio = False  # the latest traceback leads through asyncio
        self._warned = False

    def observe(self, line: str) -> bool:
        """Process the next line. Return whether it is the first such warning."""
        if line.startswith("Traceback "):
            self._asyncio = False
        elif line.startswith("  File ") and "asyncio" in line:
            self._asyncio = True
        self.failed = self._asyncio and line.startswith(("ConnectionResetError", "BrokenPipeError"))
        if self._warned or not line.startswith("pipe closed by peer or os.write("):
            return False
        self._warned = True
        return True


def log_end(name: str, restarts: int) -> None:
    """Log that a driver is not restarted, in the wording that KStars expects.

    The record's `driver_end` is the driver's name. It marks a line to keep for as long as possible when a log has to
    drop lines.
    """
    logger.error("Driver %s: Terminated after #%d restarts.", name, restarts, extra={"driver_end": name})


def ending(status: int) -> str:
    """Say how a process ended: `status 3`, `signal 11 (SIGSEGV)`."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"
