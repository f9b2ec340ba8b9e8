"""Text of devices on its way to standard output: what commands a terminal, or deceives, is written as an escape."""

from __future__ import annotations

from indifast.protocol.escape import escaped


def harmless(text: str) -> str:
    """Text without unsafe characters but line breaks and tabulators: values may have several lines."""
    return escaped(text, keep="\n\t")


def one_line(text: str) -> str:
    """Text without any unsafe character, for what has a place in a line, or in a table."""
    return escaped(text)
