"""Where a server listens, and for whom, in words."""

from __future__ import annotations

import socket
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
    local = [_local_name(sock) for sock in sockets if sock.family == socket.AF_UNIX]
    only_here = all(map(_is_loopback, (address for address, _ in tcp)))
    places = _tcp_places(tcp)
    if authority is not None and tcp:
        places[-1] += f" (only with a certificate from {authority})"
        if local and not only_here:
            local[-1] += " (this machine only)"
    text = " and ".join(places + local)
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


def _local_name(sock: socket.socket) -> str:
    name = sock.getsockname()
    return "@" + name[1:].decode(errors="backslashreplace") if isinstance(name, bytes) else name
