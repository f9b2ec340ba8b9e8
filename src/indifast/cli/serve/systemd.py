"""What systemd gives a service: listening sockets, and a socket on which it hears how the service is."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Mapping

TYPE_CHECKING = False  # as in `typing`, which must not be imported before the server listens
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

logger = logging.getLogger(__name__)

ROLES = ("tcp", "unix", "metrics", "web")
"""What a socket may be for: the names that `FileDescriptorName=` gives it."""

_VARIABLES = (
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
_FIRST = 3  # the first descriptor that systemd passes
_MOST = 64  # sockets
_AGAIN = 0.1  # seconds until a message is sent again for which there was no room
_SHORTEST_PING = 0.01


class SystemdError(ValueError):
    """What systemd has passed cannot be used. The text says what to do."""


class Systemd:
    """What the variables of one start say. Everything is empty if the server was not started by systemd."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._count = variables.get("LISTEN_FDS", "")
        self._names = variables.get("LISTEN_FDNAMES", "").split(":")
        if variables.get("LISTEN_PID") != str(os.getpid()):
            self._count = ""  # meant for a process that has started this one
        for descriptor in self._descriptors():
            with contextlib.suppress(OSError):  # that it is not open is reported later
                os.set_inheritable(descriptor, False)
        self._notify_socket = variables.get("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog(variables)

    def _descriptors(self) -> range:
        number = int(self._count) if self._count.isascii() and self._count.isdigit() and len(self._count) < 6 else 0
        return range(_FIRST, _FIRST + min(number, _MOST))

    def open(self) -> dict[str, list[socket.socket]]:
        """Return the listening sockets by their roles. To be called once.

        Raises:
            SystemdError: One of them cannot be used.
        """
        found: dict[str, list[socket.socket]] = {role: [] for role in ROLES}
        if self._count in ("", "0"):
            return found
        descriptors = self._descriptors()
        if self._count != str(len(descriptors)):
            raise SystemdError(f"LISTEN_FDS is {self._count!r}, not a number of sockets up to {_MOST}")
        names = self._names if len(self._names) == len(descriptors) else ["unknown"] * len(descriptors)
        for descriptor, name in zip(descriptors, names, strict=True):
            if name not in found:
                roles = ", ".join(ROLES)
                raise SystemdError(
                    f"systemd passes a socket called {name!r}: set FileDescriptorName= in its unit to one of {roles}"
                )
            found[name].append(_listening(descriptor, name))
        return found

    # -- Notifications

    def tell(self, *assignments: str) -> bool:
        """Tell systemd something, such as `STATUS=text`, without waiting.

        Returns:
            False if it has to be sent again, because there was no room for it.
        """
        if not self._notify_socket:
            return True
        address = self._notify_socket
        text = "\n".join(each.replace("\n", " ") for each in assignments)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(errors="replace"), "\0" + address[1:] if address[0] == "@" else address)
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno == errno.ENOBUFS:
                return False
            logger.warning("systemd cannot be told of the server: %s: %s", address, exc.strerror or exc)
            self._notify_socket = ""
        return True

    def ready(self, loop: AbstractEventLoop, status: str) -> None:
        """Tell systemd that clients are served; then, as often as its watchdog wants to hear it, that the loop runs."""
        if not self._notify_socket:
            return
        if not self.tell("READY=1", f"STATUS={status}"):
            loop.call_later(_AGAIN, self.ready, loop, status)
        elif self._watchdog is not None:
            self._ping(loop)

    def _ping(self, loop: AbstractEventLoop) -> None:
        assert self._watchdog is not None
        pause = self._watchdog if self.tell("WATCHDOG=1") else min(self._watchdog, _AGAIN)
        if self._notify_socket:
            loop.call_later(pause, self._ping, loop)

    def ends(self, why: str) -> None:
        """Tell systemd that the server ends, and why."""
        self.tell("STOPPING=1", f"STATUS={why}")


def take() -> Systemd:
    """Take over what systemd has passed, so that no process started from here on inherits or sees any of it."""
    return Systemd({name: os.environ.pop(name) for name in _VARIABLES if name in os.environ})


def _watchdog(variables: Mapping[str, str]) -> float | None:
    """Return the seconds between signs of life: half of what systemd allows. None if it wants none."""
    if variables.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return None
    text = variables.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit() and len(text) < 20) or not int(text):
        return None
    return max(int(text) / 2e6, _SHORTEST_PING)


def _listening(descriptor: int, name: str) -> socket.socket:
    """Return the socket behind a descriptor."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise SystemdError(f"systemd passes {name!r} as descriptor {descriptor}, which is not a socket")
        sock = socket.socket(fileno=descriptor)
    except OSError as exc:
        raise SystemdError(f"systemd passes {name!r} as descriptor {descriptor}: {exc.strerror}") from None
    if sock.type != socket.SOCK_STREAM or not _listens(sock):
        raise SystemdError(f"systemd passes {name!r}, which does not listen: ListenStream= and Accept=no are needed")
    local = sock.family == socket.AF_UNIX
    if not local and sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise SystemdError(f"systemd passes {name!r}, which is neither a TCP nor a Unix socket")
    if local != (name == "unix") and name != "metrics":
        kind = "a path" if name == "unix" else "a port"
        raise SystemdError(f"systemd passes a socket of another kind as {name!r}: its ListenStream= must be {kind}")
    return sock


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False
