"""How people name a driver: a program, or `[device]@host[:port]` for a server elsewhere or one device of it."""

from __future__ import annotations

import re

PORT = 7624
"""Where servers listen unless told otherwise."""

_HOST = r"(?P<host>\[[^\]\s]+\]|[^:\[\]@/\s]+)(?::(?P<port>\d+))?"
_REMOTE = rf"(?P<device>.*)@{_HOST}"
_PATHS = ("/", "./", "../")


def is_program(word: str) -> bool:
    """A program is meant, not a server elsewhere: there is no `@`, or it belongs to a path.

    A path begins with a folder or has one behind its last `@`: `./my@driver`, `lib@2/driver`.
    """
    return "@" not in word or word.startswith(_PATHS) or "/" in word.rpartition("@")[2]


def split_remote(word: str) -> tuple[str | None, str, int] | None:
    """(device or None for all, host, port) of `[device]@host[:port]`; None for a word that is nothing of the kind.

    The last `@` counts: devices of an INDIGO bus are named `CCD @ sky`. An IPv6 address stands in brackets.
    """
    match = re.fullmatch(_REMOTE, word, re.DOTALL)
    if match is None or not 0 < (port := int(match["port"] or PORT)) < 65536:
        return None
    return match["device"] or None, match["host"].strip("[]"), port
