"""Listening sockets, opened without an event loop. Connections wait in the kernel until a loop accepts them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable, Sequence

BACKLOG = 1024
# The machine lacks an address family. (A machine without IPv6 still has a "localhost".)
_NO_SUCH_ADDRESS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

KNOWN_HOSTS = (None, "", "localhost")
"""Hosts that `addresses_of` resolves without a name server."""

Address = tuple[int, str]
"""Family and numeric address."""


def check_port(port: object) -> None:
    """Check that `port` is a valid port number to listen on.

    Raises:
        TypeError: It is not an int.
        ValueError: It is not in the range from 0 to 65535.
    """
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"the port must be an int from 0 (any free port) to 65535, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"the port must be a number from 0 (any free port) to 65535, not {port}")


def addresses_of(host: str | Sequence[str] | None) -> list[Address]:
    """Return every address of `host`, IPv4 and IPv6. This may have to ask a name server.

    Args:
        host: A name or address, or several of them; None or "" means all interfaces.

    Raises:
        OSError: A name can't be resolved. The text contains the name.
    """
    addresses: dict[Address, None] = {}
    for name in [host] if isinstance(host, str) or host is None else host:
        if not name:
            addresses |= {(socket.AF_INET, "0.0.0.0"): None, (socket.AF_INET6, "::"): None}
        elif name == "localhost":  # by definition (RFC 6761); some systems list only one of these addresses
            addresses |= {(socket.AF_INET, "127.0.0.1"): None, (socket.AF_INET6, "::1"): None}
        else:
            addresses |= dict.fromkeys(_resolve(name))
    return list(addresses)


def _resolve(name: str) -> list[Address]:
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot listen on {name!r}: {exc.strerror}") from exc
    except UnicodeError as exc:
        raise OSError(errno.EINVAL, f"cannot listen on {name!r}: it is not a host name") from exc
    return [(info[0], str(info[4][0])) for info in infos]


def tcp_sockets(addresses: Iterable[Address], port: int, host: str | Sequence[str] | None) -> list[socket.socket]:
    """Return sockets that listen on all the addresses, on the same port.

    An address family that this machine lacks is left out, as long as another one remains.

    Args:
        addresses: The addresses.
        port: The port; 0 means one that is free on all addresses.
        host: The host that error messages name.

    Raises:
        OSError: The port is in use, or can't be listened on. The text says what to do.
    """
    try:
        return _listen_on_all(list(addresses), port)
    except OSError as exc:
        where = f"port {port} of {host or 'all interfaces'}"
        if exc.errno == errno.EADDRINUSE:
            remedy = "stop the program that uses it, or choose another port (0 for any free port)"
            raise OSError(exc.errno, f"{where} is in use by another program: {remedy}") from exc
        raise OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}") from exc


def _listen_on_all(addresses: Sequence[Address], port: int) -> list[socket.socket]:
    missing = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for attempt in range(20):
        sockets: list[socket.socket] = []
        chosen = port
        try:
            for family, address in addresses:
                try:
                    sockets.append(_listen(family, address, chosen))
                except OSError as exc:
                    if exc.errno not in _NO_SUCH_ADDRESS or len(addresses) == 1:
                        raise
                    missing = exc
                    continue
                chosen = sockets[-1].getsockname()[1]
            if not sockets:
                raise missing
        except OSError as exc:
            for sock in sockets:
                sock.close()
            if port == 0 and exc.errno == errno.EADDRINUSE and attempt < 19:
                continue  # the port is free in one family but taken in the other
            raise
        return sockets
    raise AssertionError("not reached")


def _listen(family: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def unix_path(name: str) -> str:
    """Return the path of a Unix socket given by a user, with a leading "@" (an abstract name) replaced with NUL."""
    return "\0" + name[1:] if name.startswith("@") else name


def unix_socket(path: str) -> socket.socket:
    """Return a socket that listens on a path, or on an abstract name if `path` begins with NUL.

    The socket file of a server that is gone is replaced.

    Raises:
        OSError: The socket is in use, or can't be listened on. The text says what to do.
    """
    shown = path.replace("\0", "@")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_unix(sock, path)
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            remedy = "stop the server that uses it, or choose another name"
            raise OSError(exc.errno, f"the local socket {shown} is in use: {remedy}") from exc
        raise OSError(exc.errno, f"cannot listen on the local socket {shown}: {exc.strerror or exc}") from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(sock: socket.socket, path: str) -> None:
    try:
        sock.bind(path)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE or path.startswith("\0") or not _remove_stale(path):
            raise
        sock.bind(path)


def _remove_stale(path: str) -> bool:
    """Remove a socket file on which no server listens.

    Returns:
        False if a server is listening, or if the file is not a socket.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return True
        except OSError:
            pass  # the backlog is full, so a server is running
    return False
