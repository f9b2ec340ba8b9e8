"""Text wrapped into lines, as the base64 of BLOBs is."""

from __future__ import annotations


def lines(text: bytes, width: int, end: bytes = b"\n") -> bytes:
    """Wrap `text` at `width` bytes. No line break follows the last line."""
    return end.join(text[at : at + width] for at in range(0, len(text), width))
