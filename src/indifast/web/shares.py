"""Shares of what is limited, so that nobody takes everything from others."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


class Busy(Exception):
    """There is as much of something at once as there may be; the message is one sentence."""


class Shares:
    """Counts what there is at once of one kind, altogether and of each who asks.

    Args:
        most: How many there may be.
        share: How many of these one may have.
        what: What they are, as in "64 viewers".
    """

    def __init__(self, most: int, share: int, what: str) -> None:
        self._most, self._share, self._what = most, share, what
        self._all = 0
        self._taken: Counter[str | None] = Counter()

    @contextmanager
    def taking(self, whose: str | None) -> Iterator[None]:
        """Take one for the duration of a block; see `take`."""
        self.take(whose)
        try:
            yield
        finally:
            self.give_back(whose)

    def take(self, whose: str | None) -> None:
        """Take one.

        Args:
            whose: What `share_of` says.

        Raises:
            Busy: There are too many.
        """
        if self._all >= self._most:
            raise Busy(f"there are {self._most} {self._what} already")
        if whose is not None and self._taken[whose] >= self._share:
            raise Busy(f"there are {self._share} {self._what} of {whose} already")
        self._all += 1
        self._taken[whose] += 1

    def give_back(self, whose: str | None) -> None:
        """Give one back."""
        self._all -= 1
        self._taken[whose] -= 1
        if not self._taken[whose]:
            del self._taken[whose]


def share_in(most: int) -> int:
    """Return how much of what many want one address may have: half, as a whole school may have one address."""
    return max(1, most // 2)


def share_of(scope: Mapping[str, Any]) -> str | None:
    """Return whose share a request counts for; None if it counts only for the whole."""
    client = scope.get("client")
    return origin(client[0]) if client else None


@lru_cache(1000)
def origin(host: str) -> str | None:
    """Return who shares the share of an address: with IPv6, its network, of which anybody has all addresses.

    This machine has none, because a web server on it speaks for many, and so does a tunnel.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return None if address.is_loopback else str(ipaddress.ip_network((int(address), 64), strict=False))
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)
