"""`indifast serve`: the server as a command, also in place of libindi's indiserver."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from indifast.cli.lossy import never_wait
from indifast.cli.serve.front import Front
from indifast.cli.serve.log import good_bye, log_to_stderr, sentence
from indifast.cli.serve.options import EXAMPLES, USAGE, ConfigError, Options, UsageError, parse_arguments
from indifast.cli.signals import COUNTERS, STOPPING, handle, hold_back
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

_OTHER_SOCKETS = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID")  # opened by systemd for a service


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
    for name in _OTHER_SOCKETS:
        os.environ.pop(name, None)  # not meant for drivers
    stopped = _be_stopped()
    front.release(STOPPING)
    log_to_stderr()
    usage = USAGE.format(program=program, host="all interfaces" if stand_in else "localhost")
    try:
        if "--help" in words:
            print(usage + EXAMPLES.format(program=program), end="")
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
    if options.stats:
        handle([COUNTERS], lambda number, frame: None)  # nothing to count yet; not SIG_IGN, which children inherit
    front.release()
    never_wait("stdout")  # Python drivers may print there
    logging.getLogger("indifast").setLevel(logging.INFO if options.verbose else logging.WARNING)
    if options.host is None:
        options.host = "" if stand_in else "localhost"
    with contextlib.ExitStack() as stack:
        try:
            sockets = [stack.enter_context(sock) for sock in _listening(options, front)]
        except (OSError, ValueError) as exc:
            return good_bye(sentence(exc))
        # Clients can connect from here on: they wait in the kernel while asyncio and the server are imported.
        from indifast.cli.serve.supervisor import supervise

        return supervise(options, sockets, stopped, stand_in=stand_in, fifo=front.fifo)


def _listening(options: Options, front: Front) -> Iterator[socket.socket]:
    """Yield the sockets on which this server listens, as each one is opened."""
    if front.sockets:
        yield from (socket.socket(fileno=descriptor) for descriptor in front.sockets)
        return
    check_port(options.port)
    yield from tcp_sockets(_addresses(options.host), options.port, options.host)
    yield unix_socket(unix_path(options.unix_socket))


def _addresses(host: str | None) -> list[Address]:
    if host in KNOWN_HOSTS:
        return addresses_of(host)
    from indifast.transport.lookup import look_up  # needed only for a host name

    return look_up(addresses_of, host).result()


def _be_stopped() -> list[int]:
    """Let signals stop the server before its event loop handles them: clients and scripts can already find it.

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
    return stopped


def _set_process_name(name: str) -> None:
    """Name the process, so that programs find it to stop it: INDI Web Manager looks for one called indiserver."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(os.fsencode(name))
