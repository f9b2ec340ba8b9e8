"""What a number may be: its range and its increments, from the texts of a definition."""

from __future__ import annotations

import math

from indifast.protocol.numbers import read_number


def range_of(low: str, high: str) -> tuple[float, float] | None:
    """The least and the largest value; None where there is no range: equal limits, or such as can't be read."""
    least, largest = read_number(low), read_number(high)
    return (least, largest) if least is not None and largest is not None and least < largest else None


def increment(step: str) -> float:
    """The increment; 0 where there is none, or none that can be read."""
    value = read_number(step)
    return value if value is not None and math.isfinite(value) and value > 0 else 0.0
