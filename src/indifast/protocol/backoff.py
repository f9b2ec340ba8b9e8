"""Pauses before another attempt at something that has failed."""

from __future__ import annotations

_MAX_DOUBLINGS = 30

JITTER = 0.25
"""Fraction by which a pause varies, so that the programs of a site do not all come back at the same moment."""


def pause_after(failures: int, first: float, longest: float) -> float:
    """Return a pause in seconds: `first` after the first failure, doubled with each further one up to `longest`."""
    return min(first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), longest)


def varied(seconds: float) -> float:
    """Return a random time near `seconds`, so that peers that failed together don't retry together."""
    import random  # imported late, because it would slow down every start

    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
