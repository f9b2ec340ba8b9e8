"""Functions that open streams: connect, listen, standard input and output."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from ssl import SSLContext

from indifast.transport import sockets, tls
from indifast.transport.files import FileStream, enlarge_pipe, private
from indifast.transport.listener import Listener
from indifast.transport.lookup import look_up
from indifast.transport.stream import SocketStream, Stream, address_name
from indifast.transport.tlsfaults import TLSError

CONNECT_TIMEOUT = 10.0
"""Seconds that one address of a peer has to answer."""


async def open_tcp(host: str, port: int, *, ssl: SSLContext | None = None, within: float = CONNECT_TIMEOUT) -> Stream:
    """Connect to the first address of `host` that answers.

    Args:
        host: A name or address.
        port: The TCP port.
        ssl: The context for TLS; None for a plain connection.
        within: Seconds that each address has to answer.

    Raises:
        OSError: The name can't be resolved, or the connection fails or times out. The text contains host and port.
        TLSError: It fails because of TLS, for example because the certificate is not trusted. (An OSError, too.)
    """
    loop = asyncio.get_running_loop()
    try:
        infos = await asyncio.wrap_future(look_up(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    except OSError as exc:
        raise OSError(exc.errno, f"cannot resolve {host!r}: {exc.strerror}") from exc
    except UnicodeError as exc:  # an empty or overlong part, as in "a..b"
        raise OSError(errno.EINVAL, f"cannot resolve {host!r}: it is not a host name") from exc
    failure: OSError | None = None
    for family, kind, proto, _, address in infos:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(within):
                await loop.sock_connect(sock, address)
            if ssl is not None:
                return await tls.connect(sock, ssl, host, address_name(address), f"{host}:{port}")
            return SocketStream(sock, address_name(address))
        except OSError as exc:  # includes TimeoutError
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
    assert failure is not None
    if isinstance(failure, TimeoutError):
        raise TimeoutError(errno.ETIMEDOUT, f"no answer from {host}:{port} within {within:g} s") from failure
    if isinstance(failure, TLSError):
        raise failure
    reason = os.strerror(failure.errno) if failure.errno else str(failure)
    raise type(failure)(failure.errno, f"cannot connect to {host}:{port}: {reason}") from failure


async def open_unix(path: str) -> Stream:
    """Connect to a Unix socket: a path, or an abstract name if `path` begins with NUL.

    Raises:
        OSError: The connection fails.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
        return SocketStream(sock, path.replace("\0", "@"))
    except BaseException:
        sock.close()
        raise


def open_stdio() -> Stream:
    """Open standard input and output as one stream. Descriptors 0 and 1 stay open and unchanged.

    A server that starts a driver may connect both to one AF_UNIX socket (as indiserver has done since libindi 1.9.7).
    The stream then uses that socket: it is `local`, and can carry BLOBs as descriptors.
    """
    name = "standard input and output"
    if _same_socket(0, 1):
        return SocketStream(socket.socket(fileno=os.dup(0)), name)
    enlarge_pipe(1)
    return FileStream(private(0), private(1), name)


def _same_socket(first: int, second: int) -> bool:
    status, other = os.fstat(first), os.fstat(second)
    return stat.S_ISSOCK(status.st_mode) and (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)


async def listen_tcp(
    host: str | Sequence[str] | None,
    port: int,
    on_stream: Callable[[Stream], None],
    *,
    ssl: SSLContext | None = None,
) -> Listener:
    """Listen on every address of `host`, IPv4 and IPv6.

    Args:
        host: A name or address, or several of them; None or "" means all interfaces.
        port: The TCP port; 0 means one that is free on all addresses (see `Listener.port`).
        on_stream: Called with the stream of each new connection.
        ssl: The context for TLS; None for plain connections.

    Raises:
        OSError: The port is in use, or can't be listened on. The text says what to do.
    """
    if host in sockets.KNOWN_HOSTS:
        addresses = sockets.addresses_of(host)
    else:
        addresses = await asyncio.wrap_future(look_up(sockets.addresses_of, host))
    return listen_on(sockets.tcp_sockets(addresses, port, host), on_stream, ssl=ssl)


async def listen_unix(path: str, on_stream: Callable[[Stream], None]) -> Listener:
    """Listen on a Unix socket: a path, or an abstract name if `path` begins with NUL.

    Only this user can connect to a path. The socket file of a server that is gone is replaced. `on_stream` is called
    with the stream of each new connection.

    Raises:
        OSError: The socket is in use, or can't be listened on. The text says what to do.
    """
    return listen_on([sockets.unix_socket(path)], on_stream)


def listen_on(
    listening: Sequence[socket.socket],
    on_stream: Callable[[Stream], None],
    *,
    ssl: SSLContext | None = None,
) -> Listener:
    """Accept connections on sockets that are already listening, with TLS if a context is given.

    The `Listener` takes ownership of the sockets, which are closed if it can't be made.
    """
    acceptor = None if ssl is None else tls.Acceptor(ssl, on_stream)
    try:
        return Listener(listening, on_stream, acceptor)
    except BaseException:
        for sock in listening:
            sock.close()
        raise
