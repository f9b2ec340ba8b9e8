from __future__ import annotations

import math

import pytest

from indifast.protocol.rules import broken, increment, one_at_least, one_at_most, range_of
from indifast.protocol.vocabulary import RULES


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("0", "10", (0, 10)),
        ("-90:00", "90", (-90, 90)),
        ("0", "inf", (0, math.inf)),
        ("0", "0", None),
        ("10", "0", None),
        ("0", "1,5", None),
        ("abc", "5", None),
        ("", "5", None),
        ("nan", "5", None),
    ],
)
def test_ranges(low: str, high: str, expected: tuple[float, float] | None) -> None:
    assert range_of(low, high) == expected


@pytest.mark.parametrize(
    ("step", "expected"), [("0.5", 0.5), ("0:30", 0.5), ("0", 0), ("-1", 0), ("nan", 0), ("inf", 0), ("x", 0), ("", 0)]
)
def test_increments(step: str, expected: float) -> None:
    assert increment(step) == expected


def test_how_many_switches_may_be_on() -> None:
    kept = {rule: [on for on in range(4) if not broken(rule, on)] for rule in RULES}
    assert kept == {"OneOfMany": [1], "AtMostOne": [0, 1], "AnyOfMany": [0, 1, 2, 3]}
    assert broken("AtMostOne", 2) == "AtMostOne allows one switch On, not 2"
    assert [rule for rule in RULES if one_at_most(rule)] == ["OneOfMany", "AtMostOne"]
    assert [rule for rule in RULES if one_at_least(rule)] == ["OneOfMany"]
