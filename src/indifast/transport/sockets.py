"""Listening sockets, opened without an event loop. Connections wait in the kernel until a loop accepts them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

BACKLOG = 1024
# The machine lacks an address family. (A machine without IPv6 still has a "localhost".)
_NO_SUCH_ADDRESS = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

KNOWN_HOSTS = (None, "", "localhost")
"""Hosts that `addresses_of` resolves without a name server."""

Address = tuple[int, str]
"""Family and numeric address."""


def check_port(port: object) -> int:
    """Return `port`, a port number to listen on or its digits, as an int.

    Raises:
        TypeError: It is not an int.
        ValueError: It is not in the range from 0 to 65535.
    """
    if isinstance(port, str) and port.isascii() and port.isdigit():  # as from the environment of a program
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"the port must be an int from 0 (any free port) to 65535, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"the port must be a number from 0 (any free port) to 65535, not {port}")
    return port


def parse_place(text: str, example: int) -> tuple[str, int]:
    """Parse `[host:]port`, with an IPv6 address in brackets. Without a host it is 127.0.0.1.

    Args:
        text: Where to listen, as people write it.
        example: A port for the text of errors.

    Raises:
        ValueError: The text does not have this form.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address must be in brackets, as in [::1]:{example}, not {text!r}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535) or (colon and not host):
        raise ValueError(f"[HOST:]PORT is required, as in {example} or 0.0.0.0:{example}, not {text!r}")
    return host or "127.0.0.1", int(port)


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
    attempts = 1
    while True:
        try:
            return _listen_on_each(addresses, port)
        except OSError as exc:
            if port != 0 or exc.errno != errno.EADDRINUSE or attempts == 20:
                raise
            attempts += 1  # the port is free on one address but taken on another


def _listen_on_each(addresses: Sequence[Address], port: int) -> list[socket.socket]:
    missing = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            try:
                sockets.append(_listen(family, address, port))
            except OSError as exc:
                if exc.errno not in _NO_SUCH_ADDRESS or len(addresses) == 1:
                    raise
                missing = exc
            else:
                port = sockets[-1].getsockname()[1]
        if not sockets:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


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


class SocketFile(socket.socket):
    """A listening socket with a path. Closing it removes its file, unless another program has replaced the file."""

    _made: tuple[str, os.stat_result] | None = None

    def listen_at(self, path: str, mode: int, group: str | int | None) -> None:
        """Make the file and listen. Nobody can connect before the file has its mode and group."""
        with _alone_in(os.path.dirname(path) or "."):
            with contextlib.suppress(OSError):  # Linux makes the file with the mode of the descriptor; others refuse
                os.fchmod(self.fileno(), 0o600)
            try:
                self.bind(path)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE or not _remove_dead(path):
                    raise
                self.bind(path)
            self._made = os.path.abspath(path), os.lstat(path)
            _set_permissions(path, mode, group)
            self.listen(BACKLOG)

    def close(self) -> None:
        """Remove the file and close the socket."""
        if self._made is not None:
            path, made = self._made
            self._made = None
            with contextlib.suppress(OSError):
                if os.path.samestat(os.lstat(path), made):
                    os.unlink(path)
        super().close()


def unix_socket(
    path: str, mode: int = 0o600, group: str | int | None = None, *, elsewhere: str = "choose another name"
) -> socket.socket:
    """Return a socket that listens on a path, or on an abstract name if `path` begins with NUL.

    The socket file of a server that is gone is replaced; any other file is left alone.

    Args:
        path: The path, or the abstract name, to which every user of the machine can connect.
        mode: The permissions of the file. To connect, a user needs to be able to write to it.
        group: The group of the file, a name or a number; by default that of the process.
        elsewhere: What the error suggests if the socket is in use.

    Raises:
        OSError: The socket is in use, or can't be listened on. The text says what to do.
    """
    shown = path.replace("\0", "@")
    sock = SocketFile(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("\0"):
            sock.bind(path)
            sock.listen(BACKLOG)
        else:
            sock.listen_at(path, mode, group)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            remedy = f"stop the server that uses it, or {elsewhere}"
            raise OSError(exc.errno, f"the local socket {shown} is in use: {remedy}") from exc
        raise OSError(exc.errno, f"cannot listen on the local socket {shown}: {exc.strerror or exc}") from exc
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep other servers from listening in the same folder for a moment: they could mistake each other for dead."""
    import fcntl  # exists wherever Unix sockets are used

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # `bind` says what is wrong, if anything is
        yield
        return
    try:
        for _ in range(100):  # whoever can read the folder can lock it, so do not wait forever
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _remove_dead(path: str) -> bool:
    """Remove a socket file on which no server listens.

    Returns:
        False if a server is listening, or if that is not known.

    Raises:
        OSError: The file is not a socket.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file of that name, which is not a socket; choose another name")
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


def _set_permissions(path: str, mode: int, group: str | int | None) -> None:
    """Give a socket file its group and mode.

    Those who may write to its folder can put a link to any other file in its place, which must not be followed.
    """
    number = _group_number(group) if isinstance(group, str) else group
    descriptor = None
    try:
        if sys.platform == "linux":  # its chmod follows links, except this one, which leads to the file that was opened
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            path = f"/proc/self/fd/{descriptor}"
        follow = descriptor is not None
        found = os.stat(path, follow_symlinks=follow)
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError(errno.EEXIST, "another program has put something in its place; choose a folder of your own")
        if number is not None:
            os.chown(path, -1, number, follow_symlinks=follow)
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(path, mode, follow_symlinks=follow)
    except PermissionError as exc:
        if number is None:
            raise
        raise OSError(exc.errno, f"only root and members of the group {group} can give a file to it") from exc
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _group_number(name: str) -> int:
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no group {name!r}") from None
