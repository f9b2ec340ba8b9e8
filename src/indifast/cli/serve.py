"""`indifast serve`: the server as a command, also in the place of libindi's indiserver."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from indifast.cli.lossy import never_wait
from indifast.cli.serve_log import good_bye, log_to_stderr, sentence
from indifast.cli.serve_options import USAGE, ConfigError, Options, UsageError, parse_arguments
from indifast.cli.signals import COUNTERS, STOPPING, handle
from indifast.transport.sockets import Address, addresses_of, check_port, tcp_sockets, unix_path, unix_socket

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
    log_to_stderr()
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
        print(usage, end="", file=sys.stderr)
        return 2
    except ConfigError as exc:
        return good_bye(str(exc))
    never_wait("stdout")  # what drivers in Python print
    logging.getLogger("indifast").setLevel(logging.INFO if options.verbose else logging.WARNING)
    if options.host is None:
        options.host = "" if stand_in else "localhost"
    with contextlib.ExitStack() as stack:
        try:
            check_port(options.port)
            addresses = addresses_of(options.host)  # it may have to ask a name server: a signal ends that, as ever
            stopped = _be_stopped(options)
            sockets = [stack.enter_context(sock) for sock in _listening(addresses, options)]
        except (OSError, ValueError) as exc:
            return good_bye(sentence(exc))
        # Clients can connect from here on: they wait in the kernel while asyncio and the server are imported.
        from indifast.cli.serve_supervisor import supervise

        return supervise(options, sockets, stopped, stand_in=stand_in)


def _listening(addresses: Sequence[Address], options: Options) -> Iterator[socket.socket]:
    """The sockets on which this server listens, one by one as they are opened."""
    yield from tcp_sockets(addresses, options.port, options.host)
    yield unix_socket(unix_path(options.unix_socket))


def _be_stopped(options: Options) -> list[int]:
    """A server that can be found can be stopped, too, while its event loop does not see to signals yet.

    Returns the signals that came. The first one ends the process where it stands; where Python discards that, as in
    what it calls for weak references while it imports, it is still to be looked at.
    """
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        raise SystemExit(0)

    handle(STOPPING, stop)
    if options.stats:
        handle([COUNTERS], lambda number, frame: None)  # nothing to count yet; not SIG_IGN: children inherit that
    return stopped


def _set_process_name(name: str) -> None:
    """By this name the process is found and ended: INDI Web Manager looks for one called indiserver."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(name)
