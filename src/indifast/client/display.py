"""Numbers as clients show them."""

from __future__ import annotations

import re

_SEXAGESIMAL = re.compile(r"%(?P<width>[^.]*)(?:\.(?P<code>.*))?m\Z", re.DOTALL)
_TOO_WIDE = re.compile(r"\d{4}")
"""A width or precision of four digits or more: a format from the network must not reserve a gigabyte."""


def format_number(form: str, value: float) -> str:
    """`value` as a format of an INDI number member shows it: a printf format or the sexagesimal `%<w>.<f>m`.

    Of the sexagesimal forms, f = 3 gives d:mm, 5 d:mm.m, 6 d:mm:ss, 8 and more d:mm:ss.s; the result is right-aligned
    in w columns and 60 carries over. Raises TypeError when the format cannot show a float.
    """
    if _TOO_WIDE.search(form):
        raise TypeError(f"unreasonable width in the number format {form!r}")
    match = _SEXAGESIMAL.match(form)
    try:
        if match is None:
            return form % value
        width = int(match["width"]) if match["width"] else 0
        return _sexagesimal(value, int(match["code"] or "")).rjust(width)
    except (ValueError, OverflowError, TypeError):
        raise TypeError(f"the number format {form!r} cannot show {value!r}") from None


def _sexagesimal(value: float, code: int) -> str:
    size = abs(value)
    degrees = int(size)
    minutes = (size - degrees) * 60
    if code in (3, 5):
        decimals = 0 if code == 3 else 1
        minutes = round(minutes, decimals)
        degrees, minutes = _carry(degrees, minutes)
        tail = f"{minutes:02.0f}" if code == 3 else f"{minutes:04.1f}"
    elif code == 6 or 8 <= code <= 14:
        whole = int(minutes)
        # More than one decimal of a second is shown, not computed: the peers round to a tenth first.
        seconds = round((minutes - whole) * 60, 0 if code == 6 else 1)
        whole, seconds = _carry(whole, seconds)
        degrees, full = _carry(degrees, whole)
        tail = f"{int(full):02d}:" + (f"{seconds:02.0f}" if code == 6 else f"{seconds:0{code - 4}.{code - 7}f}")
    else:
        raise ValueError(code)
    return f"{'-' if value < 0 else ''}{degrees}:{tail}"


def _carry(whole: int, part: float) -> tuple[int, float]:
    return (whole + 1, part - part) if part >= 60 else (whole, part)
