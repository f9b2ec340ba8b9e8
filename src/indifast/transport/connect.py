"""Where streams come from: connect, listen, the standard input and output."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from ssl import SSLContext, SSLError

from indifast.transport import tls
from indifast.transport.files import FileStream, enlarge_pipe, private
from indifast.transport.listener import Listener, bind_tcp, bind_unix
from indifast.transport.stream import SocketStream, Stream, address_name

CONNECT_TIMEOUT = 10.0
"""Seconds for one address of a peer to answer."""


async def open_tcp(host: str, port: int, *, ssl: SSLContext | None = None, within: float = CONNECT_TIMEOUT) -> Stream:
    """Connect to the first address of `host` that answers, with TLS when a context is given.

    Raises OSError, with host and port in its text; also for a name that can't be resolved, for a time-out, and for a
    certificate that is not trusted.
    """
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise OSError(exc.errno, f"cannot resolve {host!r}: {exc.strerror}") from exc
    except UnicodeError as exc:  # an empty or overlong part, as in "a..b"
        raise OSError(errno.EINVAL, f"cannot resolve {host!r}: it is no host name") from exc
    failure: OSError | None = None
    for family, kind, proto, _, address in infos:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(sock, address), within)
            if ssl is not None:
                return await tls.connect(sock, ssl, host, address_name(address))
            return SocketStream(sock, address_name(address))
        except OSError as exc:  # TimeoutError is one
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
    assert failure is not None
    if isinstance(failure, TimeoutError):
        raise TimeoutError(errno.ETIMEDOUT, f"no answer from {host}:{port} within {within:g} s") from failure
    if isinstance(failure, SSLError):
        raise OSError(failure.errno, f"no TLS with {host}:{port}: {failure}") from failure
    reason = os.strerror(failure.errno) if failure.errno else str(failure)
    raise type(failure)(failure.errno, f"cannot connect to {host}:{port}: {reason}") from failure


async def open_unix(path: str) -> Stream:
    """Connect to a Unix socket: a path, or an abstract name when `path` begins with NUL. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
        return SocketStream(sock, path.replace("\0", "@"))
    except BaseException:
        sock.close()
        raise


def open_stdio() -> Stream:
    """Standard input and output as one stream; descriptors 0 and 1 themselves stay open and as they are.

    A server that starts a driver may put both on one AF_UNIX socket (as indiserver since libindi 1.9.7): then it is one
    socket here as well, `local`, which can carry BLOBs as descriptors.
    """
    name = "standard input and output"
    if _same_socket(0, 1):
        return SocketStream(socket.socket(fileno=os.dup(0)), name)
    enlarge_pipe(1)
    return FileStream(private(0), private(1), name)


def _same_socket(first: int, second: int) -> bool:
    status, other = os.fstat(first), os.fstat(second)
    return stat.S_ISSOCK(status.st_mode) and (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)


def check_port(port: object) -> None:
    """Whether one can listen on this port. TypeError: it is no int; ValueError: it is not from 0 to 65535."""
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"a port is an int from 0 (a free one) to 65535, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"a port is a number from 0 (a free one) to 65535, not {port}")


async def listen_tcp(
    host: str | Sequence[str] | None,
    port: int,
    on_stream: Callable[[Stream], None],
    *,
    ssl: SSLContext | None = None,
) -> Listener:
    """Listen on every address of `host`, IPv4 and IPv6; None or "" means all interfaces.

    With TLS when a context is given. Port 0 takes one that is free on all of them (`Listener.port`). A port in use is
    an OSError that says what to do.
    """
    loop = asyncio.get_running_loop()
    addresses: dict[tuple[int, str], None] = {}
    for name in [host] if isinstance(host, str) or host is None else host:
        if not name:
            addresses |= {(socket.AF_INET, "0.0.0.0"): None, (socket.AF_INET6, "::"): None}
            continue
        try:
            infos = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as exc:
            raise OSError(exc.errno, f"cannot listen on {name!r}: {exc.strerror}") from exc
        except UnicodeError as exc:
            raise OSError(errno.EINVAL, f"cannot listen on {name!r}: it is no host name") from exc
        addresses |= {(info[0], str(info[4][0])): None for info in infos}
        if name == "localhost":  # some systems list only one of the two
            addresses |= {(socket.AF_INET, "127.0.0.1"): None, (socket.AF_INET6, "::1"): None}
    try:
        acceptor = None if ssl is None else tls.Acceptor(ssl, on_stream)
        return Listener(bind_tcp(addresses, port), on_stream, acceptor)
    except OSError as exc:
        where = f"port {port} of {host or 'all interfaces'}"
        if exc.errno == errno.EADDRINUSE:
            remedy = "stop the program that has it, or choose another port (0 takes a free one)"
            raise OSError(exc.errno, f"{where} is in use by another program: {remedy}") from exc
        raise OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}") from exc


async def listen_unix(path: str, on_stream: Callable[[Stream], None]) -> Listener:
    """Listen on a Unix socket: a path, or an abstract name when `path` begins with NUL.

    The socket file of a server that is gone is replaced. One that is in use is an OSError that says what to do.
    """
    shown = path.replace("\0", "@")
    try:
        return Listener([bind_unix(path)], on_stream)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            remedy = "stop the server that has it, or choose another name"
            raise OSError(exc.errno, f"the local socket {shown} is in use: {remedy}") from exc
        raise OSError(exc.errno, f"cannot listen on the local socket {shown}: {exc.strerror or exc}") from exc
