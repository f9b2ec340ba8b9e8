"""How often somebody may be wrong about a password or a token.

Behind a web server or a tunnel of this machine, everybody has the same address. So there each user is counted, and
not the address: otherwise one who is wrong would lock out all others.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from itertools import islice

from indifast.transport.hostnames import is_loopback
from indifast.web.bounds import ADDRESS_FAILURES, FAILURE_KINDS, FAILURES_PER_SECOND, USER_FAILURES


class TooManyAttempts(Exception):
    """Somebody was wrong too often; `seconds` is how long they have to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many wrong logins: try again in {math.ceil(seconds)} s")
        self.seconds = seconds


class Attempts:
    """Counts failed logins, from each address and for each user from there. Each is forgiven after a while."""

    def __init__(self) -> None:
        self._failures: dict[bytes, tuple[float, float]] = {}  # what counts, and when

    def check(self, address: str, user: str, now: float) -> None:
        """Check that one more attempt is allowed.

        Raises:
            TooManyAttempts: It is not.
        """
        for key, most in _kinds(address, user):
            over = self._count(key, now) + 1 - most
            if over > 0:
                raise TooManyAttempts(over / FAILURES_PER_SECOND)

    def failed(self, address: str, user: str, now: float) -> None:
        """Count a failure."""
        for old in [key for key in islice(self._failures, 2) if not self._count(key, now)]:
            del self._failures[old]
        for key, _ in _kinds(address, user):
            count = self._count(key, now) + 1
            self._failures.pop(key, None)
            if len(self._failures) >= FAILURE_KINDS:
                del self._failures[next(iter(self._failures))]  # the one that has not failed for the longest time
            self._failures[key] = count, now

    def _count(self, key: bytes, now: float) -> float:
        count, when = self._failures.get(key, (0.0, now))
        return max(count - (now - when) * FAILURES_PER_SECOND, 0.0)


def _kinds(address: str, user: str) -> tuple[tuple[bytes, int], ...]:
    """Return what is counted, with how many failures are forgiven at once.

    Whoever has one IPv6 address has all of its network. A token has no user, and nobody guesses one.
    """
    if is_loopback(address):
        return ((_key("", user), USER_FAILURES),) if user else ()
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        network = address
    else:
        network = str(ipaddress.ip_network((int(known), 64), strict=False)) if known.version == 6 else str(known)
    return (_key(network, user), USER_FAILURES), (_key(network), ADDRESS_FAILURES)


def _key(*words: str) -> bytes:
    """Return a few bytes for what is counted, however long it is."""
    return hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()
