"""Text from the network in lines of the log."""

from __future__ import annotations

import pytest

from indifast.protocol.shown import shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CCD Simulator", "CCD Simulator"),
        ("Kühlung °C", "Kühlung °C"),
        ("a\nb\tc\x1b[2J", "a\\x0ab\\x09c\\x1b[2J"),
        ("\u2028\u202e", "\\u2028\\u202e"),
        ("", ""),
        (None, "*"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
    ],
)
def test_one_line_of_bounded_length(text: str | None, line: str) -> None:
    assert shown(text) == line
