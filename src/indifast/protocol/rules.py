"""Rules for values: ranges and increments of numbers as definitions give them, and how many switches may be On."""

from __future__ import annotations

import math
from collections.abc import Iterable

from indifast.protocol.numbers import read_number


def not_one_of(value: object, allowed: Iterable[object]) -> str:
    """Return why a value is not accepted; empty if it is one of those allowed."""
    if value in allowed:
        return ""
    words = map(str, allowed)
    return f"{value!r} is not one of {', '.join(sorted(words) if isinstance(allowed, frozenset) else words)}"


def range_of(low: str, high: str) -> tuple[float, float] | None:
    """Return the smallest and the largest value.

    Returns:
        The two values; None if there is no range, because one can't be read or the first is not below the second.
    """
    least, largest = read_number(low), read_number(high)
    return (least, largest) if least is not None and largest is not None and least < largest else None


def increment(step: str) -> float:
    """Return the increment; 0 if there is none, or if it is not a positive number."""
    value = read_number(step)
    return value if value is not None and math.isfinite(value) and value > 0 else 0.0


def one_at_most(rule: str | None) -> bool:
    """Return whether turning one switch On turns the others Off."""
    return rule in ("OneOfMany", "AtMostOne")


def one_at_least(rule: str | None) -> bool:
    """Return whether one switch must always be On."""
    return rule == "OneOfMany"


def broken(rule: str | None, on: int) -> str:
    """Return why `on` switches can't be On under a rule; empty if they can."""
    if on > 1 and one_at_most(rule):
        return f"{rule} allows one switch On, not {on}"
    if not on and one_at_least(rule):
        return f"{rule} needs one switch On"
    return ""
