"""Names by which a web server of this machine may be asked.

A web page whose owner suddenly lets its name lead to this machine could have a browser ask here and read the answers,
because the browser takes them for answers of that page. It still says which name it asked, so requests that name
neither this machine nor an address are refused.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable


class OwnNames:
    """Names of this machine. Its addresses need not be known: nobody else can let an address lead here.

    Args:
        names: Names by which it is asked, besides its host name and localhost.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        own = socket.gethostname()
        self._names = {_plain(_without_port(name)) for name in ("localhost", own, f"{own}.local", *names)}

    def has(self, host: str) -> bool:
        """Return whether a request may name this host, which may end in a port."""
        name = _without_port(host)
        if name.startswith("[") and name.endswith("]"):
            name = name[1:-1]
        return _plain(name) in self._names or _is_address(name)


def _without_port(host: str) -> str:
    return re.sub(r":\d*$", "", host)


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a name or address, without a port, is one of this machine that no other machine can mean."""
    try:
        return _plain(host) == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
