from __future__ import annotations

import math

import pytest

from indifast.protocol.rules import increment, range_of


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
