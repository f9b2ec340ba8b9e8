"""Where a server listens, and for whom, in words."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence

_ALL = ("0.0.0.0", "::")
_LOCALHOST = ("127.0.0.1", "::1")


def where(
    sockets: Sequence[socket.socket],
    *,
    authority: str | None = None,
    remedy: str | None = "--host 0.0.0.0 for others",
    use: str = "use the drivers",
) -> str:
    """Describe what listening sockets are open to.

    Args:
        sockets: The sockets, TCP and local.
        authority: The file with the authority whose certificates TCP clients need; None if they need none.
        remedy: What to do if other machines are to connect as well; None for nothing.
        use: What whoever connects can do.
    """
    tcp = [sock.getsockname()[:2] for sock in sockets if sock.family != socket.AF_UNIX]
    local = dict(_local_place(sock) for sock in sockets if sock.family == socket.AF_UNIX)
    only_here = all(map(_is_loopback, (address for address, _ in tcp)))
    places = _tcp_places(tcp)
    if authority is not None and tcp:
        places[-1] += f" (only with a certificate from {authority})"
        if not only_here:
            local = {name: for_whom or "this machine" for name, for_whom in local.items()}
    places += [f"{name} ({for_whom} only)" if for_whom else name for name, for_whom in local.items()]
    text = " and ".join(places)
    if only_here:
        return f"{text}, this machine only{f'; {remedy}' if remedy and tcp else ''}"
    return text if authority is not None else f"{text}: anyone who can connect can {use}"


def address_text(address: str, port: int) -> str:
    """Return `address:port`, with an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _tcp_places(tcp: Sequence[tuple[str, int]]) -> list[str]:
    places: dict[str, None] = {}
    for address, port in tcp:
        if address in _ALL:
            text = f"port {port} of all interfaces"
        elif address in _LOCALHOST and {(each, port) for each in _LOCALHOST} <= set(tcp):
            text = f"localhost:{port}"
        else:
            text = address_text(address, port)
        places[text] = None
    return list(places)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _local_place(sock: socket.socket) -> tuple[str, str]:
    """Return the name of a local socket, and who can connect to it; empty if every user can."""
    name = sock.getsockname()
    if isinstance(name, bytes):
        return "@" + name[1:].decode(errors="backslashreplace"), ""
    return name, _for_whom(name)


def _for_whom(path: str) -> str:
    """Say who, besides root, can connect to a socket that is a file: those who may write to it."""
    try:
        found = os.stat(path)
    except OSError:  # removed in the meantime
        return ""
    if found.st_mode & stat.S_IWOTH:
        return ""
    users = ["this user" if found.st_uid == os.geteuid() else f"the user {_user(found.st_uid)}"]
    if not found.st_mode & stat.S_IWUSR:
        users.clear()
    if found.st_mode & stat.S_IWGRP:
        users.append(f"the group {_group(found.st_gid)}")
    return " and ".join(users) or "root"


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
