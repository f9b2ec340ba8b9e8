"""How often somebody may be wrong about a password or a token.

Behind a web server or a tunnel of this machine, everybody has the same address. So a loopback address may be wrong more
often than others, and those who have logged in from there before are not refused because of it: otherwise one who is
wrong would lock out all others. Wrong tokens, which any request may show, are counted by themselves.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from itertools import islice
from typing import NamedTuple

from indifast.transport.hostnames import is_loopback
from indifast.web.bounds import (
    ADDRESS_FAILURES,
    FAILURE_KINDS,
    FAILURES_PER_SECOND,
    LOCAL_FAILURES,
    LOCAL_FAILURES_PER_SECOND,
    USER_FAILURES,
)


class TooManyAttempts(Exception):
    """Somebody was wrong too often; `seconds` is how long they have to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many wrong logins: try again in {math.ceil(seconds)} s")
        self.seconds = seconds


class _Kind(NamedTuple):
    """What is counted."""

    key: bytes
    most: int
    """Failures that are forgiven at once."""
    per_second: float
    """Failures that are forgiven in a second, after that."""


class _Count(NamedTuple):
    failures: float
    when: float
    per_second: float

    def left(self, now: float) -> float:
        """Return how many failures are not forgiven yet."""
        return max(self.failures - (now - self.when) * self.per_second, 0.0)


class Attempts:
    """Counts failed logins, from each address and for each user from there. Each is forgiven after a while."""

    def __init__(self) -> None:
        self._failures: dict[bytes, _Count] = {}
        self._welcome: set[bytes] = set()

    def check(self, address: str, user: str, now: float) -> None:
        """Check that one more attempt is allowed.

        Raises:
            TooManyAttempts: It is not.
        """
        for kind in _kinds(address, user):
            if kind.key == _LOCAL and _key("", user) in self._welcome:
                continue
            over = self._left(kind.key, now) + 1 - kind.most
            if over > 0:
                raise TooManyAttempts(over / kind.per_second)

    def failed(self, address: str, user: str, now: float) -> None:
        """Count a failure."""
        for old in [key for key in islice(self._failures, 2) if not self._left(key, now)]:
            del self._failures[old]
        for kind in _kinds(address, user):
            count = self._left(kind.key, now) + 1
            self._failures.pop(kind.key, None)
            if len(self._failures) >= FAILURE_KINDS:
                del self._failures[next(iter(self._failures))]  # the one that has not failed for the longest time
            self._failures[kind.key] = _Count(count, now, kind.per_second)

    def succeeded(self, address: str, user: str) -> None:
        """Note that a user has logged in. There are no more of them than there are users."""
        if is_loopback(address):
            self._welcome.add(_key("", user))

    def _left(self, key: bytes, now: float) -> float:
        count = self._failures.get(key)
        return 0.0 if count is None else count.left(now)


def _kinds(address: str, user: str) -> list[_Kind]:
    """Return what is counted.

    Whoever has one IPv6 address has all of its network. A token has no user.
    """
    if is_loopback(address):
        users = [_Kind(_key("", user), USER_FAILURES, FAILURES_PER_SECOND)] if user else []
        return [*users, _Kind(_LOCAL if user else _LOCAL_TOKENS, LOCAL_FAILURES, LOCAL_FAILURES_PER_SECOND)]
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        network = address
    else:
        network = str(ipaddress.ip_network((int(known), 64), strict=False)) if known.version == 6 else str(known)
    return [
        _Kind(_key(network, user), USER_FAILURES, FAILURES_PER_SECOND),
        _Kind(_key(network), ADDRESS_FAILURES, FAILURES_PER_SECOND),
    ]


def _key(*words: str) -> bytes:
    """Return a few bytes for what is counted, however long it is."""
    return hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()


_LOCAL, _LOCAL_TOKENS = _key("this machine"), _key("tokens of this machine")
"""Users, and tokens, of all addresses of this machine."""
