"""Drivers that are programs: started, listened to, started again when they die, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypedDict

from indifast.protocol.backoff import pause_after
from indifast.routing.driverqueue import DriverOutbox
from indifast.routing.peer import Kind, Peer
from indifast.transport.process import Child, spawn

if TYPE_CHECKING:
    from indifast.server.host import Host

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
"""Seconds before the first restart; doubled for each further one."""

LONGEST_PAUSE = 30.0
"""Seconds between restarts at most."""

HEALTHY = 60.0
"""A driver that has lived for so many seconds starts with a clean record."""

STOP_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""

_NEEDS_PIPES = (
    "Driver %s: it seems to make asyncio pipes of its standard input and output, which fails as they are one socket."
    " With two pipes it works: `--pipes`, for serve and its FIFO; `pipes = true` in a file; `pipes=True` in Python"
)

_LAST_WORDS = 1.0  # seconds to read what a dead driver has left in its socket, if something still holds that open


class ExDriverOptions(TypedDict, total=False):
    """The keywords of an `ExDriver`, as `IPyServer.add_exdriver` passes them on."""

    pipes: bool
    forgiving: bool
    max_restarts: int | None
    environment: Mapping[str, str | None] | None
    name: str | None
    grace: float


class ExDriver:
    """One executable driver of a server.

    It speaks on its standard input and output, which are one AF_UNIX socket: libindi's drivers then send their BLOBs as
    descriptors. `pipes` gives it two pipes instead, and BLOBs come inline: drivers that run on indipydriver 3 need
    that, as they set O_NONBLOCK on their input and then lose bytes of large BLOBs on an output that is the same socket.
    Its standard error is logged line by line, at most 200 of them in a second.

    A driver that dies is started again, after a pause that grows with each time; `max_restarts` is how often in a row
    (None: for ever). `environment` is added to ours (INDIDEV, INDICONFIG, INDISKEL, INDIPREFIX; None takes a variable
    away). `name` is what logs call it, `program` unless given. `forgiving`: when a BLOB comes without its descriptor,
    drop that message instead of restarting the driver (libindi's drivers lose all descriptors but one of a vector with
    several BLOBs).
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
        """Restarts in a row."""
        self.on_terminated: Callable[[ExDriver], None] | None = None
        """Called when it died and is not started again."""
        self.name = program if name is None else name
        self.peer = Peer(Kind.DRIVER, f"Driver {self.name}", DriverOutbox(terminator=b"\n"))
        self._pipes = pipes
        self._forgiving = forgiving
        self._grace = grace
        self._host: Host | None = None
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Event | None = None
        self._words = _Words()

    def __repr__(self) -> str:
        return f"<ExDriver {' '.join((self.program, *self.args))}>"

    @property
    def pid(self) -> int | None:
        """Of the running program; None while there is none."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    def start(self, host: Host) -> None:
        """Start the program and look after it until `stop`. FileNotFoundError or PermissionError: it can't be."""
        self._host = host
        self._stopping = asyncio.Event()
        child = self._spawn()
        self._task = asyncio.get_running_loop().create_task(self._look_after(child), name=f"driver {self.name}")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL; returns when the program has ended and is gone from the server."""
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
        self._words = _Words()
        logger.info("Driver %s: pid=%d", self.name, child.pid)
        self._child = child
        return child

    def _log_line(self, line: str) -> None:
        logger.error("Driver %s: %s", self.name, line)
        if self._words.hear(line):
            self._tell_of_pipes()

    def _tell_of_pipes(self) -> None:
        if not self._pipes:
            logger.error(_NEEDS_PIPES, self.name)

    async def _look_after(self, child: Child | None) -> None:
        assert self._host is not None
        assert self._stopping is not None
        try:
            while True:
                born = time.monotonic()
                if child is not None:
                    await self._live(child)
                if self._stopping.is_set():
                    return
                if time.monotonic() - born >= HEALTHY:
                    self.restarts = 0
                if self.max_restarts is not None and self.restarts >= self.max_restarts:
                    log_end(self.name, self.restarts)
                    return
                child = await self._restart()
        finally:
            self._host.remove(self.peer)
            if not self._stopping.is_set() and self.on_terminated is not None:
                self.on_terminated(self)

    async def _restart(self) -> Child | None:
        """Wait and start it again; None when that is not possible now, or no longer wanted."""
        assert self._stopping is not None
        logger.error("Driver %s: restart #%d", self.name, self.restarts)
        self.restarts += 1
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

    async def _live(self, child: Child) -> None:
        """From the start of a child to its end, by itself or by us."""
        assert self._host is not None
        assert self._stopping is not None
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        over = asyncio.ensure_future(child.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            self._host.carry(self.peer, child.stream, lost.set_result, forgiving=self._forgiving)
            await asyncio.wait((lost, over, stop), return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                if over.done():  # what it said last may still be on its way
                    await asyncio.wait((lost, stop), timeout=_LAST_WORDS, return_when=asyncio.FIRST_COMPLETED)
                if lost.done() and (exc := lost.result()) is not None:
                    logger.error("Driver %s: %s", self.name, exc)
                self._host.lose(self.peer)
            status = await child.stop(self._grace)
            logger.info("Driver %s: ended with %s", self.name, _describe(status))
            if self._words.failed and not stop.done():
                self._tell_of_pipes()
        finally:
            child.stream.abort()
            if child.returncode is None:  # torn down without the time to be polite
                child.kill()
            over.cancel()
            stop.cancel()
            self._child = None


class _Words:
    """What a driver says on its standard error, as far as it tells of asyncio pipes made of one socket.

    asyncio takes what arrives on its pipe for output as the end of that pipe, which is closed. The next one who waits
    until something is written ends with a traceback; who never waits loses what it sends, and asyncio warns of that.
    """

    def __init__(self) -> None:
        self.failed = False
        """Its last words are such a traceback."""
        self._asyncio = False  # the traceback that came last leads through asyncio
        self._warned = False

    def hear(self, line: str) -> bool:
        """Take the next line. True when it is the first such warning."""
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
    """Log that a driver is not started again, in the words that KStars waits for.

    `driver_end` of the record is the driver's name: it marks the line that a log which has to drop lines must keep.
    """
    logger.error("Driver %s: Terminated after #%d restarts.", name, restarts, extra={"driver_end": name})


def _describe(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}"
