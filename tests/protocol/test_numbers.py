from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indifast.protocol.numbers import format_number, getfloat, plain_decimal, read_integer


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, 1.5),
        (3, 3.0),
        (True, 1.0),
        ("1.25", 1.25),
        (" 1e3 ", 1000.0),
        ("1_000", 1000.0),
        ("", 0.0),
        ("-", 0.0),
        ("-0:30", -0.5),
        ("--2", -2.0),
        ("1:-30", 0.5),
        ("10 30 36", 10.51),
        ("10;30;36", 10.51),
        ("10:30:36", 10.51),
        ("1::36", 1.01),
        (Decimal("2.5"), 2.5),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7.0),
    ],
)
def test_getfloat_reads(value: object, expected: float) -> None:
    assert getfloat(value) == pytest.approx(expected)
    assert type(getfloat(value)) is float or isinstance(value, float)


def test_getfloat_reads_nan_and_infinity() -> None:
    assert math.isnan(getfloat("nan"))
    assert getfloat("-inf") == -math.inf


@pytest.mark.parametrize("value", [None, b"1", [], "1:2:3:4", "1,5", "0x10", "1: 30", "abc", 10**400, 1j])
def test_getfloat_refuses(value: object) -> None:
    with pytest.raises(TypeError):
        getfloat(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        (" 12\t\r\n", 12),
        ("007", 7),
        ("+5", 5),
        ("-5", -5),
        ("-0", 0),
        ("9" * 18, 10**18 - 1),
        ("-" + "9" * 18, 1 - 10**18),
        *((text, None) for text in ("", " ", "+", "-", "- 5", "+-5", "--5", "5 5", "5.0", "1e3", "0x5", "1_0")),
        *((text, None) for text in ("²", "٣", "\uff15", "5\xa0", "5\0", "9" * 19, "9" * 5000)),
    ],
)
def test_integers_are_of_plain_digits(text: str, expected: int | None) -> None:
    assert read_integer(text) == expected


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        (1.5, "%5.2f", " 1.50"),
        (7.9, "%d", "7"),
        (0.00001, "%g", "1e-05"),
        (2.5, "%08.3f", "0002.500"),
        (12.5, "%8.3m", "   12:30"),
        (12.51, "%8.5m", " 12:30.6"),
        (12.51, "%010.6m", "  12:30:36"),
        (12.5101, "%9.8m", "12:30:36.4"),
        (12.5101, "%9.9m", "12:30:36.36"),
        (12.5101, "%9.1m", "12:30:36.36"),
        (-0.5, "%8.6m", "-0:30:00"),
        (-0.0, "%8.6m", " 0:00:00"),
        (12.99999999, "%8.6m", "13:00:00"),
        (359.9999, "%8.6m", "360:00:00"),
        (1.99999, "%5.3m", " 2:00"),
        (1.99999, "%6.5m", "2:00.0"),
        (0.999999999, "%8.8m", "1:00:00.0"),
        (12.1, "%8.6m", "12:06:00"),
    ],
)
def test_format_number(value: float, form: str, expected: str) -> None:
    assert format_number(value, form) == expected


@pytest.mark.parametrize("form", ["%10m", "%1.2.3m", "%x.6m", "%q"])
def test_format_number_refuses(form: str) -> None:
    with pytest.raises(ValueError):
        format_number(1.0, form)


def test_format_number_refuses_an_empty_format() -> None:
    with pytest.raises(TypeError):
        format_number(1.0, "")


@pytest.mark.parametrize("form", ["%10.3m", "%10.5m", "%10.6m", "%10.8m", "%10.9m"])
@given(value=st.floats(min_value=-400, max_value=400))
def test_sexagesimal_display_carries_and_reads_back(form: str, value: float) -> None:
    text = format_number(value, form)
    assert all(float(part) < 60 for part in text.split(":")[1:])
    resolution = {"3": 60, "5": 600, "6": 3600, "8": 36000, "9": 360000}[form[-2]]
    assert getfloat(text) == pytest.approx(value, abs=0.5001 / resolution)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3:30:00", "3.5"),
        ("-0:30", "-0.5"),
        (" 3 30 ", "3.5"),
        ("1;30", "1.5"),
        ("1.50", "1.50"),
        (" 2 ", " 2 "),
        ("a:b", "a:b"),
        ("1e3", "1e3"),
    ],
)
def test_plain_decimal(text: str, expected: str) -> None:
    assert plain_decimal(text) == expected
