"""Which values are secret: they are sent to drivers, but never shown."""

from __future__ import annotations

import re
from typing import Any

_SECRET = re.compile(
    r"passw|passphrase|passcode|(?<![a-z])(pass|pwd|psk)(?![a-z])|secret|token|credential"
    r"|(api|private|access|auth)[ _-]?key"
)
_ENTERED = ("TextVector", "NumberVector")


def secret_members(vector: Any) -> frozenset[str]:
    """Return the members whose values are secret.

    Nothing can be read of a property that can only be written. Apart from that, the names and labels of texts and
    numbers tell what they are.
    """
    if vector.perm == "wo":
        return frozenset(vector.data)
    if vector.vectortype not in _ENTERED:
        return frozenset()
    if _is_secret(vector.name, vector.label):
        return frozenset(vector.data)
    return frozenset(name for name, member in vector.data.items() if _is_secret(name, member.label))


def _is_secret(*words: str) -> bool:
    return any(_SECRET.search(word.lower()) for word in words)
