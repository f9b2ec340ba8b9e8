"""What a number may be: its range and increments, from the texts of a definition; how many switches may be On."""

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


def one_at_most(rule: str | None) -> bool:
    """Whether turning one switch On turns the others Off."""
    return rule in ("OneOfMany", "AtMostOne")


def one_at_least(rule: str | None) -> bool:
    """Whether one switch is On always."""
    return rule == "OneOfMany"


def broken(rule: str | None, on: int) -> str:
    """Why so many switches can't be On under a rule; empty if they can."""
    if on > 1 and one_at_most(rule):
        return f"{rule} allows one switch On, not {on}"
    if not on and one_at_least(rule):
        return f"{rule} needs one switch On"
    return ""
