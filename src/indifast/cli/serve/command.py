"""`indifast serve`: the server as a command, also in place of libindi's indiserver."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import FrameType

from indifast.cli.lossy import never_wait
from indifast.cli.serve.front import Front
from indifast.cli.serve.log import good_bye, log_to_stderr, log_why, sentence, set_verbosity
from indifast.cli.serve.options import EXAMPLES, USAGE, ConfigError, Options, UsageError, Web, parse_arguments
from indifast.cli.serve.systemd import Systemd, take
from indifast.cli.signals import COUNTERS, STOPPING, handle, hold_back
from indifast.protocol.loglevels import NOTICE
from indifast.transport.sockets import (
    KNOWN_HOSTS,
    Address,
    addresses_of,
    check_port,
    tcp_sockets,
    unix_path,
    unix_socket,
)

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `indifast serve`, and return the exit status."""
    return _main(list(arguments or ()), "indifast serve", Front(), stand_in=False)


def main_server(front: Front) -> int:
    """Run the server in place of libindi's, listening on all interfaces, and return the exit status.

    The process is named as it was called: `indifast-server`, or `indiserver` through a link.
    """
    name = os.path.basename(sys.argv[0])
    _set_process_name(name)
    return _main(sys.argv[1:], name, front, stand_in=True)


def _main(words: list[str], program: str, front: Front, *, stand_in: bool) -> int:
    systemd = take()
    stopped = _be_stopped()
    log_to_stderr()
    try:
        front.release()
        return _serve(words, program, front, systemd, stopped, stand_in=stand_in)
    finally:
        if stopped:
            why = signal.Signals(stopped[0]).name
            log_why(why)
            systemd.ends(why)


def _serve(
    words: list[str], program: str, front: Front, systemd: Systemd, stopped: list[int], *, stand_in: bool
) -> int:
    try:
        if "--help" in words:
            usage = USAGE.format(program=program, host="all interfaces" if stand_in else "localhost")
            print(usage + EXAMPLES.format(program=program), end="")
            return 0
        if "--version" in words:
            from indifast import version

            print(f"indifast {version}")
            return 0
        logger.log(NOTICE, "startup: %s", " ".join([program, *words]))
        options = parse_arguments(words)
    except UsageError as exc:
        print(f"{program}: {exc} (--help lists the options)", file=sys.stderr)
        return 2
    except ConfigError as exc:
        return _fail(exc, systemd)
    never_wait("stdout")  # Python drivers may print there
    set_verbosity(options.verbose)
    if options.host is None:
        options.host = "" if stand_in else "localhost"
    with contextlib.ExitStack() as stack:
        try:
            passed = systemd.open()
            for sock in chain.from_iterable(passed.values()):
                stack.enter_context(sock)
            sockets = [stack.enter_context(sock) for sock in _listening(options, front, passed)]
            web = [stack.enter_context(sock) for sock in _for_web(options, passed)]
            manager = [stack.enter_context(sock) for sock in _for_manager(options)]
            metrics = [stack.enter_context(sock) for sock in _for_metrics(options, passed)]
        except (OSError, ValueError, ConfigError) as exc:
            return _fail(exc, systemd)
        # Clients can connect from here on: they wait in the kernel while asyncio and the server are imported.
        from indifast.cli.serve.supervisor import supervise

        return supervise(
            options,
            sockets,
            stopped,
            stand_in=stand_in,
            systemd=systemd,
            metrics=metrics,
            web=web,
            manager=manager,
            lent=[role for role, lent in passed.items() if lent],
            fifo=front.fifo,
        )


def _fail(exc: Exception, systemd: Systemd) -> int:
    why = sentence(exc)
    systemd.ends(why)
    return good_bye(why)


def _listening(options: Options, front: Front, passed: Mapping[str, list[socket.socket]]) -> Iterator[socket.socket]:
    """Yield the sockets on which this server listens, as each one is opened. Those of systemd replace our own."""
    if front.sockets:
        yield from (socket.socket(fileno=descriptor) for descriptor in front.sockets)
        return
    if passed["tcp"]:
        yield from passed["tcp"]
    else:
        check_port(options.port)
        yield from tcp_sockets(_addresses(options.host), options.port, options.host)
    if passed["unix"]:
        yield from passed["unix"]
    elif options.abstract:
        elsewhere = "choose another name with -u NAME, or none with --no-abstract"
        yield unix_socket(unix_path(options.unix_socket), elsewhere=elsewhere)
    if (file := options.socket) is not None:
        yield unix_socket(file.path, file.mode, file.group, elsewhere="choose another path with --socket PATH")


def _for_metrics(options: Options, passed: Mapping[str, list[socket.socket]]) -> Iterator[socket.socket]:
    """Yield the sockets on which counters are served for Prometheus."""
    if passed["metrics"]:
        yield from passed["metrics"]
    elif options.metrics is not None:
        host, port = options.metrics
        yield from tcp_sockets(_addresses(host), port, host)


def _for_web(options: Options, passed: Mapping[str, list[socket.socket]]) -> Iterator[socket.socket]:
    """Yield the sockets on which the page in the browser is served."""
    if passed["web"]:
        yield from passed["web"]
    elif options.web.listen is not None:
        host, port = options.web.listen
        yield from tcp_sockets(_addresses(host), port, host)
    elif options.web != Web():
        raise ConfigError("there is no page in the browser to which these options could apply: add --web PORT")


def _for_manager(options: Options) -> Iterator[socket.socket]:
    """Yield the sockets on which the requests of INDI Web Manager are answered.

    They are not those of the page: a web server in front of the page passes on requests from anywhere, and nothing in
    them need say so.
    """
    if options.web.manager is None:
        return
    if options.web.drivers is None:
        raise ConfigError("--web-manager needs a list of drivers: --web-drivers FILE")
    from indifast.transport.hostnames import is_loopback

    host, port = options.web.manager
    if not is_loopback(host):
        raise ConfigError("--web-manager is for this machine only, as its requests need no token: leave out the host")
    yield from tcp_sockets(_addresses(host), port, host)


def _addresses(host: str | None) -> list[Address]:
    if host in KNOWN_HOSTS:
        return addresses_of(host)
    from indifast.transport.lookup import look_up  # needed only for a host name

    return look_up(addresses_of, host).result()


def _be_stopped() -> list[int]:
    """Let signals stop the server before its event loop handles them: clients and scripts can already find it.

    The one for counters has no effect from now on, unless the event loop gives it one.

    Returns:
        The signals that have come. The first one raises SystemExit wherever the process is at that moment. Python may
        discard the exception, for example in a weak reference callback during an import, so the list must be checked
        as well.
    """
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        hold_back(STOPPING)
        raise SystemExit(0)

    handle(STOPPING, stop)
    handle([COUNTERS], lambda number, frame: None)  # not SIG_IGN, which children inherit
    return stopped


def _set_process_name(name: str) -> None:
    """Name the process, so that programs find it to stop it: INDI Web Manager looks for one called indiserver."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(os.fsencode(name))
