"""Text from the network, made safe to show in a terminal."""

from __future__ import annotations

from indifast.protocol.escape import UNSAFE

_PICTURES = {chr(code): chr(0x2400 + code) for code in range(0x20)} | {"\n": "⏎", "\r": "⏎", "\t": " ", "\x7f": "␡"}


def visible(text: str) -> str:
    """Return text as one line that is safe to show: control characters become visible, line breaks become `⏎`."""
    if text.isprintable():
        return text
    return UNSAFE.sub(lambda match: _PICTURES.get(match[0], "�"), text)


def fitted(text: str, width: int) -> str:
    """Return text cut to a number of cells; if anything was left out, the last cell is `…`."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def shortened(text: str, width: int) -> str:
    """Return text cut to a number of cells, with `…` in the middle: both ends of a path or an address matter."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    if width <= 0:
        return ""
    end = text[len(text) - (width - 1) // 2 :]
    while cell_len(end) > (width - 1) // 2:
        end = end[1:]
    return set_cell_size(text, width - 1 - cell_len(end)) + "…" + end
