from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indifast.protocol.numbers import commanded_number, formatted, getfloat, plain_decimal, read_integer, read_number


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
def test_integers_have_plain_digits(text: str, expected: int | None) -> None:
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
        (12.5, "%.6m", "12:30:00"),
        (math.nan, "%010.6m", "       nan"),
        (-math.inf, "%.3m", "-inf"),
        (math.nan, "%5.1f", "  nan"),
        (7.5, "2024: %g°", "2024: 7.5°"),
    ],
)
def test_formatted(value: float, form: str, expected: str) -> None:
    assert formatted(value, form) == expected


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (1.0, "%10m"), (1.0, "%m"), (1.0, "%1.2.3m"), (1.0, "%x.6m"), (1.0, "%q"), (1.0, ""), (1.0, "plain text"),
        (1.0, "%1$g"), (1.0, "%s %s"), (1.0, "%x"), (1.0, "%.0f%"), (1.0, "%(name)g"), (1.0, "%*d"), (1.0, "%%"),
        (math.inf, "%d"), (math.nan, "%d"), (1.0, "%1000d"), (1.0, "%.99999999f"), (1.0, "%-099999.6m"),
    ],
)  # fmt: skip
def test_values_that_a_format_cannot_show(value: float, form: str) -> None:
    assert formatted(value, form) is None


formats = st.one_of(
    st.text(max_size=20),
    st.text("%0123456789.-+ #*$'()lhLdiouxXeEfFgGcrsam", max_size=12),
    st.builds("{}%{}{}{}".format, st.sampled_from(["", "x ", "%%"]), st.integers(-20, 999), st.sampled_from(
        [".3", ".5", ".6", ".8", ".9", ".14", "", ".2"]), st.sampled_from([*"mdgfesx", "lf", "lld"])),
)  # fmt: skip


@given(st.floats(), formats)
def test_any_format_shows_any_number_or_nothing(value: float, form: str) -> None:
    text = formatted(value, form)
    assert text is None or (isinstance(text, str) and len(text) < len(form) + 2500)


@pytest.mark.parametrize("form", ["%10.3m", "%10.5m", "%10.6m", "%10.8m", "%10.9m", "%.7m", "%5.14m"])
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_sixty_minutes_or_seconds_carry(form: str, value: float) -> None:
    text = formatted(value, form)
    assert text is not None and text.strip().startswith("-") == (value < 0)
    assert all(0 <= float(part) < 60 for part in text.split(":")[1:])


@pytest.mark.parametrize("form", ["%10.3m", "%10.5m", "%10.6m", "%10.8m", "%10.9m"])
@given(value=st.floats(min_value=-400, max_value=400))
def test_sexagesimal_display_carries_and_reads_back(form: str, value: float) -> None:
    text = formatted(value, form)
    assert text is not None
    assert all(float(part) < 60 for part in text.split(":")[1:])
    resolution = {"3": 60, "5": 600, "6": 3600, "8": 36000, "9": 360000}[form[-2]]
    assert getfloat(text) == pytest.approx(value, abs=0.5001 / resolution)


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "-1.5",
        "+2",
        ".5",
        "5.",
        "1e3",
        "1E-3",
        " 7\n",
        "12:30",
        "-0:30:15.5",
        "1 2",
        "1;2",
        "12:",
        "12:30:",
        "1.5:3",
    ],
)
def test_numbers_that_a_command_may_contain(text: str) -> None:
    assert commanded_number(text) == getfloat(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "abc", "1,5", "0x10", "--1", "+-1", "1:xx", "nan", "inf", "-inf", "1e999", "1_0", "1:-30", ":30",
     "::", "1::30", "1  30", "1: 30", "1:2;3", "1:2:3:4", "1:1e2", "\uff11", "1\u00a02", "1e", "."],
)  # fmt: skip
def test_texts_that_a_command_may_not_contain(text: str) -> None:
    with pytest.raises(ValueError):
        commanded_number(text)


@pytest.mark.parametrize("text", ["", " ", "-", "--", ":", "N/A", "0,5", "0x10", "1:2:3:4"])
def test_texts_that_are_not_numbers(text: str) -> None:
    assert read_number(text) is None


@given(st.text("0123456789+-.:; exna\uff11", max_size=12))
def test_numbers_are_read_as_getfloat_reads_them(text: str) -> None:
    number = read_number(text)
    if number is not None:
        assert number == pytest.approx(getfloat(text), nan_ok=True)


@given(st.text("0123456789+-.:; exna\uff11", max_size=12))
def test_all_readers_agree_on_the_numbers_that_a_command_may_contain(text: str) -> None:
    """libindi splits at anything but digits and points. Texts for which that makes a difference are refused."""
    try:
        value = commanded_number(text)
    except ValueError:
        return
    assert math.isfinite(value) and value == getfloat(text)
    if "e" not in text:
        parts = [float(part) for part in re.split("[^0-9.]+", text.strip().lstrip("+-")) if part]
        sign = -1 if text.strip().startswith("-") else 1
        assert value == pytest.approx(sign * sum(part / 60**place for place, part in enumerate(parts)))


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
