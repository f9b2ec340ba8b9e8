"""Names of drivers and servers as users write them, and where servers listen by default.

A name is a program, or `[device]@host[:port]` for a server elsewhere or one device of it.
"""

from __future__ import annotations

import re

PORT = 7624
"""Default port of INDI servers."""

LOCAL_SOCKET = "/tmp/indiserver"
"""Default Unix socket of INDI servers, on Linux an abstract one."""

_HOST = r"(?P<host>\[[^\]\s]+\]|[^:\[\]@/\s]+)(?::(?P<port>\d+))?"
_REMOTE = rf"(?P<device>.*)@{_HOST}"
_PATHS = ("/", "./", "../")


def peer_port(port: object) -> int:
    """Return the number of a port to connect to, which may be written as text.

    The system would take the remainder modulo 65536 of a number that is too large, and connect to another port.

    Raises:
        TypeError: It is neither an int nor text.
        ValueError: It is not in the range from 1 to 65535.
    """
    if not isinstance(port, int | str) or isinstance(port, bool):
        raise TypeError(f"the port must be a number from 1 to 65535, not {port!r}")
    if isinstance(port, str) and port.isascii() and port.isdigit() and len(port) <= 5:
        port = int(port)
    if isinstance(port, str) or not 0 < port <= 65535:
        raise ValueError(f"the port must be a number from 1 to 65535, not {port!r}")
    return port


def is_program(word: str) -> bool:
    """Return whether a word names a program and not a server elsewhere: it has no `@`, or is a path.

    A path begins with a folder or has a `/` after its last `@`: `./my@driver`, `lib@2/driver`.
    """
    return "@" not in word or word.startswith(_PATHS) or "/" in word.rpartition("@")[2]


def split_remote(word: str) -> tuple[str | None, str, int] | None:
    """Split `[device]@host[:port]` into its parts.

    The last `@` counts, because devices of an INDIGO bus have names like `CCD @ sky`. IPv6 addresses are in brackets.

    Returns:
        The device (None for all devices), the host and the port; None if the word has another form.
    """
    match = re.fullmatch(_REMOTE, word, re.DOTALL)
    if match is None:
        return None
    try:
        port = peer_port(match["port"] or PORT)
    except ValueError:
        return None
    return match["device"] or None, match["host"].strip("[]"), port
