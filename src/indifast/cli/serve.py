"""`indifast serve`: the server as a command, also in the place of libindi's indiserver."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING

from indifast.cli.serve_options import (
    USAGE,
    ConfigError,
    Options,
    Program,
    Remote,
    UsageError,
    parse_arguments,
    parse_remote,
)

if TYPE_CHECKING:
    from indifast.cli.serve_server import TappedServer
    from indifast.driver.ipydriver import IPyDriver
    from indifast.protocol.message import Routable
    from indifast.routing.peer import Peer
    from indifast.server.exdriver import ExDriver
    from indifast.server.record import TrafficRecorder
    from indifast.server.remote import RemoteConnection

logger = logging.getLogger(__name__)

STAND_INS = ("indiserver", "indifast-server")
"""Names under which the command takes the place of libindi's: it then listens on all interfaces."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `indifast serve`; gives the exit status."""
    return _main(list(arguments or ()), "indifast serve", stand_in=False)


def main_server() -> int:
    """Run the server under the name by which it was called: `indifast-server`, or `indiserver` by a link."""
    name = os.path.basename(sys.argv[0])
    _set_process_name(name)
    return _main(sys.argv[1:], name, stand_in=True)


def _main(words: list[str], program: str, *, stand_in: bool) -> int:
    _log_to_stderr()
    usage = USAGE.format(program=program, host="all interfaces" if stand_in else "localhost")
    try:
        if "--help" in words:
            print(usage, end="")
            return 0
        if "--version" in words:
            from indifast import version

            print(f"indifast {version}")
            return 0
        logger.error("startup: %s", " ".join([program, *words]))
        options = parse_arguments(words)
    except UsageError as exc:
        print(f"{program}: {exc}", file=sys.stderr)
        print(
            USAGE.format(program=program, host="all interfaces" if stand_in else "localhost"), end="", file=sys.stderr
        )
        return 2
    except ConfigError as exc:
        return _good_bye(str(exc))
    logging.getLogger("indifast").setLevel(logging.INFO if options.verbose else logging.WARNING)
    supervisor = _Supervisor(options, stand_in)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(supervisor.run())


def _good_bye(why: str | None = None) -> int:
    if why is not None:
        logger.error("%s", why)
    logger.error("good bye")
    return 1


class _Supervisor:
    """The server and everything around it, from start to end."""

    def __init__(self, options: Options, stand_in: bool) -> None:
        self.options = options
        self.stand_in = stand_in
        self.server: TappedServer
        self.taps: list[Callable[[str, Peer, Routable], None]] = []
        self.recorder: TrafficRecorder | None = None
        self.status = 0
        self._running: asyncio.Task[None] | None = None
        self._remotes: list[tuple[Remote, RemoteConnection]] = []
        self._tasks: set[asyncio.Future[None]] = set()

    async def run(self) -> int:
        """Serve until a signal, or until there is nothing left to serve."""
        options = self.options
        with contextlib.ExitStack() as stack:
            try:
                self._open_records(stack)
                self.server = self._make_server()
                await self._start_server()
                if options.fifo is not None:
                    from indifast.server.fifo import Fifo

                    fifo = Fifo(options.fifo, self._command, self._fifo_error)
                    stack.callback(fifo.close)
            except (OSError, ConfigError, TypeError, ValueError) as exc:
                if self._running is not None and not self._running.done():
                    self._end(1)
                    await self._running
                if self.recorder is not None:
                    self.recorder.discard()  # whoever tries again and again is to find no heap of files
                return _good_bye(_sentence(exc))
            self._handle_signals()
            if self._start_drivers():
                self._report_regularly()
            else:
                self._end(1)
            assert self._running is not None
            await self._running
            if options.stats:
                self._tell_stats()
            return self.status if self.status == 0 else _good_bye()

    # -- the start

    def _open_records(self, stack: contextlib.ExitStack) -> None:
        from indifast.server import record

        options = self.options
        if options.verbose > 1:
            self.taps.append(record.tell_head if options.verbose == 2 else record.tell_xml)
        if options.record is not None:
            self.recorder = record.TrafficRecorder(options.record, blobs=options.record_blobs)
            stack.callback(self.recorder.close)
            self.taps.append(self.recorder.note)
        if options.message_log is not None:
            self.taps.append(record.MessageLog(options.message_log).note)

    def _make_server(self) -> TappedServer:
        from indifast.cli.serve_server import TappedServer

        options = self.options
        host = options.host if options.host is not None else ("" if self.stand_in else "localhost")
        server = TappedServer(
            host=host,
            port=options.port,
            maxconnections=None,
            ssl=_server_tls(options),
            unix_socket=f"@{options.local_socket}",
            limits=options.limits,
        )
        server.keepalive = 0
        server.taps = self.taps
        server.recorder = self.recorder
        for driver in _python_drivers(options.python):
            server.add_driver(driver)
        return server

    async def _start_server(self) -> None:
        """Listen; raises what prevents it."""
        task = self._running = asyncio.create_task(self.server.asyncrun())
        ready = asyncio.create_task(self.server.ready())
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        if not self.server.host:
            logger.error("listening on all interfaces, IPv4 and IPv6: whoever reaches this machine can use the drivers")

    def _start_drivers(self) -> bool:
        """Start what the command line names. False when the command has to end because of it.

        A program that is not there ends `indifast serve`; in the place of indiserver the other drivers are served.
        """
        for remote in self.options.remotes:
            self._start_remote(remote)
        for program in self.options.programs:
            if not self._start_program(program) and not self.stand_in:
                return False
        return self._anything_left()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 0)
        if self.options.stats:
            loop.add_signal_handler(signal.SIGUSR1, self._tell_stats)

    def _end(self, status: int) -> None:
        self.status = max(self.status, status)
        self.server.shutdown()

    # -- drivers

    def _start_program(self, program: Program) -> bool:
        environment: dict[str, str | None] = {}
        if self.options.fifo is not None:  # what is not given belongs to nobody
            environment = dict.fromkeys(("INDIDEV", "INDICONFIG", "INDISKEL"))
        environment |= program.environment
        try:
            exdriver = self.server.add_exdriver(
                program.path,
                *program.args,
                name=program.name,
                environment=environment,
                max_restarts=self.options.restarts,
                pipes=program.pipes,
                forgiving=program.forgiving,
            )
        except OSError as exc:
            logger.error("Driver %s: %s", program.name, _sentence(exc))
            logger.error("Driver %s: Terminated after #0 restarts.", program.name)  # the line that KStars waits for
            return False
        exdriver.on_terminated = self._terminated
        return True

    def _terminated(self, exdriver: ExDriver) -> None:
        with contextlib.suppress(ValueError):
            self.server.exdrivers.remove(exdriver)
        if not self._anything_left():
            self._end(1)

    def _anything_left(self) -> bool:
        """Whether there is something to serve, or a FIFO that may bring something."""
        server = self.server
        return bool(self.options.fifo or server.exdrivers or server.remotes or server.drivers)

    def _stop_program(self, name: str, device: str | None) -> bool:
        """Stop the first driver that was started by this name, and has this device if one is named."""
        for exdriver in self.server.exdrivers:
            if exdriver.name != name:
                continue
            if device is None or device in exdriver.peer.devices or exdriver.environment.get("INDIDEV") == device:
                self._spawn(self.server.remove_exdriver(exdriver))
                return True
        return False

    def _start_remote(self, remote: Remote) -> None:
        connection = self.server.add_remote(
            remote.host, remote.port, remote.blobs, device=remote.device, ssl=_client_tls(remote)
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

    # -- the FIFO

    def _fifo_error(self, why: str) -> None:
        logger.error("FIFO: %s", why)

    def _command(self, line: str) -> None:
        from indifast.server.fifo import CommandError, parse

        logger.info("FIFO: %s", line)
        try:
            command = parse(line)
            remote = parse_remote(command.target) if command.remote else None
        except (CommandError, ConfigError) as exc:
            self._fifo_error(f"{line!r} is not obeyed: {exc}")
            return
        if command.verb == "start":
            if remote is not None:
                self._start_remote(remote)
            else:
                self._start_program(Program(command.target, environment=command.options))
            return
        if remote is not None:
            found = self._stop_remote(remote)
        else:
            found = self._stop_program(command.target, command.options.get("INDIDEV"))
        if not found:
            self._fifo_error(f"{line!r} is not obeyed: no such driver is running")

    # -- counters

    def _report_regularly(self) -> None:
        if self.options.stats_interval is not None:
            asyncio.get_running_loop().call_later(self.options.stats_interval, self._report)

    def _report(self) -> None:
        if not self.server.stop:
            self._tell_stats()
            self._report_regularly()

    def _tell_stats(self) -> None:
        import json

        logger.error("stats: %s", json.dumps(self.server.stats()))


def _sentence(exc: BaseException) -> str:
    """What an error says to people."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)


def _server_tls(options: Options) -> SSLContext | None:
    if options.tls_cert is None:
        if options.tls_key is not None or options.tls_ca is not None:
            raise ConfigError("TLS needs a certificate: --tls-cert FILE")
        return None
    import ssl

    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.tls_ca)
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(f"TLS with {options.tls_cert}: {exc}") from None
    if options.tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_tls(remote: Remote) -> SSLContext | None:
    if not (remote.tls or remote.tls_ca or remote.tls_cert):
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=remote.tls_ca)
        if remote.tls_cert is not None:
            context.load_cert_chain(remote.tls_cert, remote.tls_key)
    except OSError as exc:
        raise ConfigError(f"TLS with {remote.host}: {exc}") from None
    return context


def _python_drivers(names: Sequence[str]) -> list[IPyDriver]:
    """The drivers that `module:callable` make: one each, or several in a list."""
    from importlib import import_module

    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    drivers: list[IPyDriver] = []
    for name in names:
        module, _, function = name.partition(":")
        try:
            made = getattr(import_module(module), function)()
        except (ImportError, AttributeError) as exc:
            raise ConfigError(f"driver {name}: {exc}") from None
        drivers += made if isinstance(made, list | tuple) else [made]
    return drivers


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _set_process_name(name: str) -> None:
    """By this name the process is found and ended: INDI Web Manager looks for one called indiserver."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(15, name.encode()[:15], 0, 0, 0)  # PR_SET_NAME


def _log_to_stderr() -> None:
    """Lines as indiserver writes them: `2026-11-20T17:50:03: text`, UTC."""
    formatter = logging.Formatter("%(asctime)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.raiseExceptions = False  # a closed standard error is no reason to fail
