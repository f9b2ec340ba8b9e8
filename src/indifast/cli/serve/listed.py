"""Drivers that may be started and stopped from a browser: a list in a file, and what those that run are doing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from indifast.cli.serve.log import sentence
from indifast.cli.serve.options import ConfigError, Program, program_of, read_toml
from indifast.web.drivers import Driver, DriverFailed, State, UnknownDriver

if TYPE_CHECKING:
    from indifast.cli.serve.server import TappedServer
    from indifast.server.exdriver import ExDriver

_GONE = "it has ended, and is not started again"


class ListedDrivers:
    """The drivers of a list. One that was started in another way, with the same words, is the one of the list.

    Args:
        programs: The drivers by name.
        server: The server that runs them.
        start: Starts a program; raises OSError if that is not possible.
    """

    def __init__(
        self, programs: Mapping[str, Program], server: TappedServer, start: Callable[[Program], ExDriver]
    ) -> None:
        self._programs = dict(programs)
        self._server = server
        self._start = start
        # Two names may stand for one program: while it is stopped by one name, it must not be started by the other.
        self._first = {name: self._names(program)[0] for name, program in programs.items()}
        self._locks = {first: asyncio.Lock() for first in self._first.values()}
        self._stopping: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._last: dict[str, ExDriver] = {}

    def started(self, program: Program, exdriver: ExDriver) -> None:
        """Note that a program was started, by whomever."""
        for name in self._names(program):
            self._last[name] = exdriver
            self._reasons.pop(name, None)

    def terminated(self, exdriver: ExDriver) -> None:
        """Note that a program has ended for good."""
        for name, last in self._last.items():
            if last is exdriver:
                self._reasons[name] = _GONE

    async def listed(self) -> Sequence[Driver]:
        """Return all drivers of the list."""
        return [self._about(name) for name in self._programs]

    async def start(self, name: str) -> Driver:
        """Start a driver, unless it runs.

        Raises:
            UnknownDriver: It is not in the list.
            DriverFailed: It cannot be started.
        """
        async with self._lock(name):
            if self._server.stop:
                raise DriverFailed("the server ends")
            if self._running(name) is None:
                try:
                    self._start(self._programs[name])
                except OSError as error:
                    self._reasons[name] = sentence(error)
                    raise DriverFailed(f"{name} cannot be started: {sentence(error)}") from None
            return self._about(name)

    async def stop(self, name: str) -> Driver:
        """Stop a driver, unless that is done, and wait for its end.

        Raises:
            UnknownDriver: It is not in the list.
        """
        async with self._lock(name):
            exdriver = self._running(name)
            if exdriver is not None:
                self._stopping.add(self._first[name])
                try:
                    await self._server.remove_exdriver(exdriver)
                finally:
                    self._stopping.discard(self._first[name])
            for each in self._names(self._programs[name]):
                self._reasons.pop(each, None)
            return self._about(name)

    def _lock(self, name: str) -> asyncio.Lock:
        if name not in self._first:
            raise UnknownDriver(name, list(self._programs))
        return self._locks[self._first[name]]

    def _names(self, program: Program) -> list[str]:
        return [name for name, each in self._programs.items() if each == program]

    def _running(self, name: str) -> ExDriver | None:
        last = self._last.get(name)
        return last if last in self._server.exdrivers else None

    def _about(self, name: str) -> Driver:
        last, running = self._last.get(name), self._running(name)
        if self._first[name] in self._stopping:
            state = State.STOPPING
        elif running is not None:
            state = State.WAITING if running.pid is None else State.RUNNING
        else:
            state = State.FAILED if name in self._reasons else State.STOPPED
        return Driver(
            name,
            self._programs[name].name,
            state,
            devices=() if running is None else tuple(running.peer.devices),
            restarts=0 if running is None else running.restarts,
            reason=self._reasons.get(name),
            lines=() if last is None else tuple(last.last_lines),
        )


def read_list(path: str) -> dict[str, Program]:
    """Return the drivers in a file: TOML, with a table `[[drivers]]` for each, as in a configuration file.

    Raises:
        ConfigError: The file can't be read, others may change it, or it contains something else or nothing.
    """
    what = f"list of drivers {path}"
    found, status = read_toml(path, what)
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{what}: it belongs to somebody else, who could add commands to it")
    if status.st_mode & 0o022:
        raise ConfigError(f"{what}: others could add commands to it: chmod go-w {path}")
    tables = found.pop("drivers", None)
    if found or not isinstance(tables, list) or not tables:
        raise ConfigError(f"{what}: write [[drivers]] for each, and below it `program = …`; nothing else")
    programs: dict[str, Program] = {}
    for table in tables:
        if isinstance(table, dict):
            name = table.pop("name", table.get("program"))
        program = program_of(what, table)
        if not isinstance(name, str) or not name or len(name) > 200 or name in programs:
            raise ConfigError(f"{what}: `name` must be a text that no other driver has, not {name!r}")
        programs[name] = program
    return programs
