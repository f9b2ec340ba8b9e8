"""How long to wait before something that has failed is tried again."""

from __future__ import annotations

_MOST_DOUBLINGS = 30

JITTER = 0.25
"""Share by which a pause is varied, so that not all of a site come back at the same moment."""


def pause_after(failures: int, first: float, longest: float) -> float:
    """Seconds, of `first` after the first failure, doubled with each further one up to `longest`."""
    return min(first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), longest)


def varied(seconds: float) -> float:
    """About so many: those who have failed together don't try again together."""
    import random  # not worth its time at every start

    return seconds * random.uniform(1 - JITTER, 1 + JITTER)
