"""Numbers as INDI writes them: decimal, scientific or sexagesimal text."""

from __future__ import annotations

import math
import re

from indifast._parser import read_integer as read_integer  # defined there because the tokenizer needs it as well

DEFAULT_FORMAT = "%g"
"""Format of a number whose definition gives none."""

_SEPARATORS = (" ", ":", ";")

_SEXAGESIMAL = re.compile(r"%(?P<width>-?\d*)\.(?P<shape>\d+)m", re.ASCII)
_TOO_WIDE = re.compile(r"%[^a-zA-Z%]*\d{4}", re.ASCII)
"""Matches a width or precision of four digits or more: a format from the network must not reserve a gigabyte."""

_PART = r"(?:\d+(?:\.\d*)?|\.\d+)"
_COMMANDED = re.compile(
    rf"[+-]?{_PART}(?:[eE][+-]?\d+|(?P<separator>[ :;])(?:{_PART}(?:(?P=separator){_PART}?)?)?)?", re.ASCII
)
"""Matches decimal or scientific text, or up to three parts with the same separator; the last part may be empty."""


def getfloat(value: object) -> float:
    """Return the float that a number, or the text of one, stands for.

    Text is decimal, scientific, or up to three parts separated by spaces, colons or semicolons: degrees (or hours),
    minutes and seconds. A leading minus applies to the whole value; empty text and empty parts are zero. Any object
    that converts to a float (`Decimal`, NumPy scalars) is accepted.

    Raises:
        TypeError: The value is not a number.
    """
    if isinstance(value, float):
        return value
    try:
        if isinstance(value, str):
            return _text_to_float(value)
        if hasattr(type(value), "__float__"):
            return float(value)  # type: ignore[arg-type]
    except (ValueError, OverflowError) as error:
        raise TypeError(f"{value!r} is not a number: {error}") from None
    raise TypeError(f"{value!r} is not a number")


def _text_to_float(text: str) -> float:
    text = text.strip()
    negative = text.startswith("-")
    text = text.lstrip("-")
    for separator in _SEPARATORS:
        if separator in text:
            parts = text.split(separator)
            break
    else:
        parts = [text]
    if len(parts) > 3:
        raise ValueError("more than three parts")
    total = 0.0
    for part, divisor in zip(parts, (1, 60, 3600), strict=False):
        if part:
            total += float(part) / divisor
    return -total if negative else total


def read_number(text: str) -> float | None:
    """Return the number in the text of a member, or None if it is not a number.

    Empty text is not a number, and neither is a dash for "unknown".
    """
    try:
        return float(text)
    except ValueError:
        if not text.strip().strip("-:; "):
            return None
    try:
        return _text_to_float(text)
    except ValueError:
        return None


def commanded_number(text: str) -> float:
    """Return the number that a command asks for.

    This is stricter than `getfloat`, which also reads `--1`, `1_000` and `1:-30`: what moves a telescope must not be a
    guess.

    Raises:
        ValueError: The text is not a number that all readers would understand alike. The error says why.
    """
    number = text.strip()
    if _COMMANDED.fullmatch(number) is None:
        raise ValueError(f"{text!r} is not a number" if number else "an empty text is not a number")
    value = _text_to_float(number)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return value


def plain_decimal(text: str) -> str:
    """Return the text of a number for a set message: sexagesimal text becomes plain decimal, other text stays.

    libindi clients read sexagesimal numbers only in definitions; in a set message they read `3:30:00` as 3.
    """
    if ":" not in text and ";" not in text and " " not in text.strip():
        return text
    try:
        return repr(_text_to_float(text))
    except ValueError:
        return text


def formatted(value: float, form: str) -> str | None:
    """Return a number for display in an INDI number format.

    Sixty minutes or seconds carry into the next unit.

    Args:
        value: The number.
        form: A printf format for one number, or `%<w>.<f>m` for sexagesimal, with w as the total width and f for the
            shape: 3 is `d:mm`, 5 `d:mm.m`, 6 `d:mm:ss`, 8 `d:mm:ss.s`, 9 and all others `d:mm:ss.ss` (INDI 1.7,
            number formats).

    Returns:
        The text, or None if the format can't show the number: formats come from peers and may be anything.
    """
    if _TOO_WIDE.search(form):
        return None
    try:
        if (shape := _SEXAGESIMAL.fullmatch(form)) is not None:
            return _sexagesimal(value, int(shape["shape"])).rjust(int(shape["width"] or 0))
        return form % value
    except (TypeError, ValueError, OverflowError):
        return None


def _sexagesimal(value: float, shape: int) -> str:
    magnitude = abs(value)
    if magnitude != magnitude or magnitude == float("inf"):
        return str(value)
    sign = "-" if value < 0 else ""
    degrees = int(magnitude)
    minutes = (magnitude - degrees) * 60
    if shape in (3, 5):
        last = f"{minutes:02.0f}" if shape == 3 else f"{minutes:04.1f}"
        if last.startswith("60"):
            degrees, last = degrees + 1, "00" + last[2:]
        return f"{sign}{degrees}:{last}"
    whole = int(minutes)
    seconds = (minutes - whole) * 60
    if shape == 6:
        last = f"{seconds:02.0f}"
    elif shape == 8:
        last = f"{seconds:04.1f}"
    else:
        last = f"{seconds:05.2f}"
    if last.startswith("60"):
        whole, last = whole + 1, "00" + last[2:]
    if whole == 60:
        degrees, whole = degrees + 1, 0
    return f"{sign}{degrees}:{whole:02d}:{last}"
