"""The server of `indifast serve` and everything around it: drivers, links, signals, FIFO, counters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING

from indifast.cli.serve.log import good_bye, log_why, sentence
from indifast.cli.serve.options import PYTHON, ConfigError, Options, Program, Remote, parse_remote
from indifast.cli.serve.places import where
from indifast.cli.serve.server import TappedServer
from indifast.cli.signals import COUNTERS, STOPPING, handle_in, hold_back
from indifast.protocol.loglevels import NOTICE
from indifast.transport.loop import new_event_loop

if TYPE_CHECKING:
    from indifast.cli.serve.listed import ListedDrivers
    from indifast.cli.serve.systemd import Systemd
    from indifast.cli.serve.website import Website
    from indifast.driver.ipydriver import IPyDriver
    from indifast.protocol.message import Routable
    from indifast.routing.peer import Peer
    from indifast.server.exdriver import ExDriver
    from indifast.server.remote import RemoteConnection
    from indifast.server.trafficlog import TrafficRecorder

logger = logging.getLogger(__name__)


def supervise(
    options: Options,
    sockets: Sequence[socket.socket],
    stopped: Sequence[int],
    *,
    stand_in: bool,
    systemd: Systemd,
    metrics: Sequence[socket.socket] = (),
    web: Sequence[socket.socket] = (),
    manager: Sequence[socket.socket] = (),
    lent: Collection[str] = (),
    fifo: int | None = None,
) -> int:
    """Serve on sockets that already listen until the server ends, and return the exit status.

    Args:
        options: What to serve, and how.
        sockets: The listening sockets.
        stopped: The signals that have come so far.
        stand_in: Whether the server stands in for indiserver.
        systemd: What systemd has passed, which hears how the server is.
        metrics: Listening sockets for Prometheus.
        web: Listening sockets for browsers.
        manager: Listening sockets for programs that know the requests of INDI Web Manager.
        lent: The roles in which sockets are systemd's.
        fifo: A descriptor of the FIFO if it is already open.
    """
    supervisor = _Supervisor(options, sockets, stopped, stand_in, systemd, metrics, web, manager, lent, fifo)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            return runner.run(supervisor.run())
        finally:
            hold_back((*STOPPING, COUNTERS))


class _Supervisor:
    """The server and everything around it, from start to end."""

    def __init__(
        self,
        options: Options,
        sockets: Sequence[socket.socket],
        stopped: Sequence[int],
        stand_in: bool,
        systemd: Systemd,
        metrics: Sequence[socket.socket],
        web: Sequence[socket.socket],
        manager: Sequence[socket.socket],
        lent: Collection[str],
        fifo: int | None,
    ) -> None:
        self.options = options
        self.sockets = sockets
        self.stopped = stopped
        self.stand_in = stand_in
        self.systemd = systemd
        self.metrics = metrics
        self.web = web
        self.manager = manager
        self.lent = lent
        self.fifo = fifo
        self.server: TappedServer
        self.taps: list[Callable[[str, Peer, Routable], None]] = []
        self.recorder: TrafficRecorder | None = None
        self.status = 0
        self._listening = False
        self._where = ""
        self._ending = False
        self._website: Website | None = None
        self._listed: ListedDrivers | None = None
        self._running: asyncio.Task[None] | None = None
        self._links: list[tuple[Remote, SSLContext | None]] = []
        self._remotes: list[tuple[Remote, RemoteConnection]] = []
        self._tasks: set[asyncio.Future[None]] = set()

    async def run(self) -> int:
        """Serve until a signal comes, or until there is nothing left to serve; return the exit status."""
        options = self.options
        with contextlib.ExitStack() as stack:
            try:
                self._open_records(stack)
                self.server = self._make_server()
                if self.web:
                    from indifast.cli.serve.website import Website  # few servers need it

                    self._website = Website(self.server, options, self.web, self.manager, self._add_program)
                    self._listed = self._website.drivers
                self._handle_signals()
                if self.stopped:
                    return 0
                await self._start_server()
                if options.fifo is not None:
                    from indifast.server.fifo import Fifo

                    fifo = Fifo(options.fifo, self._command, self._fifo_error, self.fifo)
                    stack.callback(fifo.close)
                if self.metrics:
                    from indifast.cli.serve.scrape import Scrape

                    names = [] if options.metrics is None else [options.metrics[0]]
                    stack.callback(Scrape(self.metrics, self.server.metrics, names).close)
                if self._website is not None and not self.server.stop:
                    await self._website.start()
            except (OSError, ConfigError, TypeError, ValueError) as exc:
                if self._running is not None and not self._running.done():
                    self.server.shutdown()
                    await self._running
                if self._website is not None:
                    await self._website.end()
                if self.recorder is not None:
                    self.recorder.discard()  # repeated attempts to start must not leave a pile of files
                self.systemd.ends(sentence(exc))
                return good_bye(sentence(exc))
            if not self.server.stop and self._start_drivers():
                self._report_regularly()
                self.systemd.ready(asyncio.get_running_loop(), f"listening on {self._where}")
            assert self._running is not None
            try:
                await self._running
            finally:
                if self._website is not None:
                    await self._website.end()
            return self.status if self.status == 0 else good_bye()

    # -- Start

    def _open_records(self, stack: contextlib.ExitStack) -> None:
        options = self.options
        if options.verbose < 2 and options.record is None and options.message_log is None:
            return
        from indifast.server import trafficlog  # takes 5 ms, and few servers need it

        if options.verbose > 1:
            self.taps.append(trafficlog.tell_head if options.verbose == 2 else trafficlog.tell_xml)
        if options.record is not None:
            self.recorder = trafficlog.TrafficRecorder(options.record, blobs=options.record_blobs)
            stack.callback(self.recorder.close)
            self.taps.append(self.recorder.note)
        if options.message_log is not None:
            self.taps.append(trafficlog.MessageLog(options.message_log).note)

    def _make_server(self) -> TappedServer:
        options = self.options
        server = TappedServer(
            host=options.host,
            port=options.port,
            maxconnections=None,
            ssl=_server_tls(options),
            unix_socket=options.unix_socket if any(each.family == socket.AF_UNIX for each in self.sockets) else None,
            senders=options.senders,
            raw_frames=options.raw_frames,
            compress=options.compress,
            limits=options.limits,
        )
        server.sockets = self.sockets
        server.keepalive = 0
        server.taps = self.taps
        server.recorder = self.recorder
        self._links = [(remote, _client_tls(remote)) for remote in options.remotes]
        for name, driver in _python_drivers(options.python, self.stopped):
            try:
                server.add_driver(driver)
            except (TypeError, ValueError, RuntimeError) as exc:
                raise ConfigError(f"driver {name}: {exc}") from None
        return server

    async def _start_server(self) -> None:
        """Start the server, and wait until it is ready. Whatever prevents that is raised."""
        self._where = self._describe_sockets()  # a server that a signal ends at its start closes them at any moment
        task = self._running = asyncio.create_task(self.server.asyncrun())
        ready = asyncio.create_task(self.server.ready())
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        if task.done():
            task.result()
        if self.server.stop:
            return  # a signal came in the meantime
        self._listening = True
        logger.log(NOTICE, "listening on %s", self._where)
        if self.metrics:
            places = where(self.metrics, remedy=None, use="read them")
            logger.log(NOTICE, "counters for Prometheus at /metrics on %s", places)

    def _describe_sockets(self) -> str:
        remedy = "ListenStream= in the socket unit for others" if "tcp" in self.lent else "--host 0.0.0.0 for others"
        return where(self.sockets, authority=self.options.tls_ca, remedy=remedy)

    def _start_drivers(self) -> bool:
        """Start the configured drivers and links. False if the command ends because one can't be started.

        A program that can't be started ends `indifast serve`; in place of indiserver the other drivers are served.
        """
        for remote, context in self._links:
            self._start_remote(remote, context)
        for program in self.options.programs:
            if not self._start_program(program) and not self.stand_in:
                self._end(f"driver {program.name} cannot be started", failed=True)
                return False
        return self._go_on()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            handle_in(loop, [number], self._end, number.name)
        if self.options.stats:
            handle_in(loop, [COUNTERS], self._log_stats)

    def _end(self, why: str, *, failed: bool = False) -> None:
        if not self._ending:  # the last drivers end when the server does
            self._ending = True
            log_why(why, failed=failed)
            if self._listening and self.options.stats:
                self._log_stats()  # now, while everything is still there
            self.systemd.ends(why)
            self.status = int(failed)
            if self._website is not None:
                self._website.stop()
        self.server.shutdown()

    # -- Drivers

    def _start_program(self, program: Program, *, by_fifo: bool = False) -> bool:
        try:
            self._add_program(program)
        except OSError as exc:
            from indifast.server.exdriver import log_end  # already loaded by `add_exdriver`

            logger.error("Driver %s: %s", program.name, _why_not(exc, program.name, by_fifo=by_fifo))
            log_end(program.name, 0)
            return False
        return True

    def _add_program(self, program: Program) -> ExDriver:
        """Start a program.

        Raises:
            OSError: It cannot be started.
        """
        environment: dict[str, str | None] = {}
        if self.options.starts_drivers:  # a driver must not inherit the settings that the server was started with
            environment = dict.fromkeys(("INDIDEV", "INDICONFIG", "INDISKEL"))
        environment |= program.environment
        exdriver = self.server.add_exdriver(
            program.path,
            *program.args,
            name=program.name,
            environment=environment,
            max_restarts=self.options.restarts,
            pipes=program.pipes,
            forgiving=program.forgiving,
        )
        exdriver.on_terminated = self._terminated
        if self._listed is not None:
            self._listed.started(program, exdriver)
        return exdriver

    def _terminated(self, exdriver: ExDriver) -> None:
        with contextlib.suppress(ValueError):
            self.server.exdrivers.remove(exdriver)
        if self._listed is not None:
            self._listed.terminated(exdriver)
        self._go_on()

    def _go_on(self) -> bool:
        """End the server unless there is something to serve, or drivers may be started while it runs.

        Returns:
            False if the server ends.
        """
        server = self.server
        if self.options.starts_drivers or server.exdrivers or server.remotes or server.drivers:
            return True
        self._end("no driver is left, and there is no FIFO to start one", failed=True)
        return False

    def _stop_program(self, name: str, device: str | None) -> bool:
        """Stop the first driver with this name, and with this device if one is named. False if there is none."""
        for exdriver in self.server.exdrivers:
            if exdriver.name != name:
                continue
            if device is None or device in exdriver.peer.devices or exdriver.environment.get("INDIDEV") == device:
                self.server.exdrivers.remove(exdriver)  # at once: the next line may start it again
                self._spawn(exdriver.stop())
                return True
        return False

    def _start_remote(self, remote: Remote, context: SSLContext | None = None) -> None:
        connection = self.server.add_remote(
            remote.host, remote.port, remote.blobs, device=remote.device, ssl=context, compress=remote.compress
        )
        self._remotes.append((remote, connection))

    def _stop_remote(self, wanted: Remote) -> bool:
        for pair in self._remotes:
            remote, connection = pair
            if (remote.host, remote.port, remote.device) == (wanted.host, wanted.port, wanted.device):
                self._remotes.remove(pair)
                self._spawn(self.server.remove_remote(connection))
                return True
        return False

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- FIFO

    def _fifo_error(self, why: str) -> None:
        logger.warning("FIFO: %s", why)

    def _command(self, line: str) -> None:
        from indifast.server.fifo import CommandError, parse

        logger.info("FIFO: %s", line)
        try:
            command = parse(line)
            remote = parse_remote(command.target) if command.remote else None
        except (CommandError, ConfigError) as exc:
            self._fifo_error(f"{line!r} ignored: {exc}")
            return
        if command.verb == "start":
            if remote is not None:
                self._start_remote(remote)
            else:
                program = Program(command.target, environment=command.options, pipes=command.pipes)
                self._warn_of_twin(program)
                self._start_program(program, by_fifo=True)
            return
        if remote is not None:
            found = self._stop_remote(remote)
        else:
            found = self._stop_program(command.target, command.options.get("INDIDEV"))
        if not found:
            self._fifo_error(f"{line!r} ignored: no such driver is running")

    def _warn_of_twin(self, program: Program) -> None:
        """Warn of a driver that is started twice with the same settings. As with indiserver, it is started anyway."""
        for other in self.server.exdrivers:
            settings = {name: value for name, value in other.environment.items() if value is not None}
            if other.name == program.name and not other.args and settings == program.environment:
                name = program.name
                remedy = f'to tell the two apart, name the second one: start {name} -n "NAME"'
                self._fifo_error(f"{name} runs already, and is started once more: {remedy}")
                return

    # -- Counters

    def _report_regularly(self) -> None:
        if self.options.stats_interval is not None:
            asyncio.get_running_loop().call_later(self.options.stats_interval, self._report)

    def _report(self) -> None:
        if not self.server.stop:
            self._log_stats()
            self._report_regularly()

    def _log_stats(self) -> None:
        from indifast.protocol import jsonform

        logger.log(NOTICE, "stats: %s", jsonform.text(self.server.stats(), indent=None))


def _server_tls(options: Options) -> SSLContext | None:
    if options.tls_cert is None:
        if options.tls_key is not None or options.tls_ca is not None:
            raise ConfigError("TLS needs a certificate: --tls-cert FILE")
        return None
    from indifast.transport import tlsfaults

    context = tlsfaults.server_context(options.tls_cert, options.tls_key, options.tls_ca)
    if (fault := tlsfaults.why_clients_refuse(context, options.tls_cert)) is not None:
        logger.error("TLS: %s", fault)
    return context


def _client_tls(remote: Remote) -> SSLContext | None:
    if not (remote.tls or remote.tls_ca or remote.tls_cert):
        return None
    from indifast.transport.tlsfaults import KEYS, TLSFileError, client_context

    try:
        return client_context(remote.tls_ca, remote.tls_cert, remote.tls_key, KEYS)
    except TLSFileError as exc:
        raise ConfigError(f"TLS with {remote.host}: {exc}") from None


def _why_not(exc: OSError, name: str, *, by_fifo: bool) -> str:
    """Return why a program can't be started, and what to do. A driver in Python may be meant."""
    if isinstance(exc, FileNotFoundError):
        if re.fullmatch(PYTHON, name):
            if by_fifo:
                return f"a FIFO starts programs only: name {name} when you start the server"
            return f"this is not a program: write python = '{name}'"
        module, _, ending = name.rpartition(".")
        if not by_fifo and ending == "py" and module.isidentifier() and os.path.isfile(name):
            return f"{sentence(exc)}, or {module}:FUNCTION if a function in it makes the driver"
    return sentence(exc)


def _python_drivers(names: Sequence[str], stopped: Sequence[int]) -> Iterator[tuple[str, IPyDriver]]:
    """Call each `module:callable`. Yield the drivers that it makes, one or a list of them, with its name.

    A signal in `stopped` has raised SystemExit; otherwise the driver has.
    """
    from importlib import import_module

    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        module, _, function = name.partition(":")
        if module.endswith(".py") and os.path.isfile(module):
            raise ConfigError(f"driver {name}: write {module.removesuffix('.py')}:{function}, without .py")
        what = f"module {module}"
        try:
            imported = import_module(module)
            if not hasattr(imported, function):
                raise ConfigError(f"driver {name}: module {module} ({imported.__file__}) has no {function}")
            what = f"{function}()"
            made = getattr(imported, function)()
        except ConfigError:
            raise
        except ImportError as exc:
            raise ConfigError(f"driver {name}: {exc}") from None
        except SystemExit as exc:
            if stopped:
                raise
            raise ConfigError(
                f"driver {name} cannot be made: {what} ends the process ({exc or 'sys.exit()'})"
            ) from None
        except Exception as exc:
            logger.error("driver %s: %s raised an exception", name, what, exc_info=exc)
            why = ": ".join(filter(None, (type(exc).__name__, str(exc).partition("\n")[0])))
            raise ConfigError(
                f"driver {name} cannot be made: {why} (correct {what}, or leave the driver out)"
            ) from None
        for driver in made if isinstance(made, list | tuple) else [made]:
            yield name, driver
