"""Text of devices on its way to standard output: what commands a terminal is written as an escape."""

from __future__ import annotations

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS}
_IN_LINES = {code: escape for code, escape in _ESCAPES.items() if chr(code) not in "\n\t"}
_IN_JSON = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def harmless(text: str) -> str:
    """Text without control characters but line breaks and tabulators: values may have several lines."""
    return text if text.isprintable() else text.translate(_IN_LINES)


def one_line(text: str) -> str:
    """Text without any control character, for what has a place in a line, or in a table."""
    return text if text.isprintable() else text.translate(_ESCAPES)


def json_line(text: str) -> str:
    """JSON, which escapes but half of the control characters of itself; the data stay the same."""
    return text.translate(_IN_JSON)
