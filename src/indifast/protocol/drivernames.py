"""Names of drivers as users write them, and where servers listen by default.

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
    if match is None or not 0 < (port := int(match["port"] or PORT)) < 65536:
        return None
    return match["device"] or None, match["host"].strip("[]"), port
