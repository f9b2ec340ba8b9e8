"""Text from the network, made harmless for a terminal."""

from __future__ import annotations

_TABLE: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20)}
_TABLE |= {0x0A: "⏎", 0x0D: "⏎", 0x09: " ", 0x7F: "␡"}
_TABLE |= dict.fromkeys(range(0x80, 0xA0), "�")
# What turns the direction of writing, or takes no room: a name must not pass for another.
_TABLE |= dict.fromkeys(
    [0x00AD, 0x061C, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070)], "�"
)
_TABLE |= dict.fromkeys(range(0xD800, 0xE000), "�")


def plain(text: str) -> str:
    """One line of text that a terminal shows as it stands: control characters become visible, line breaks `⏎`."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_TABLE)


def fitted(text: str, width: int) -> str:
    """Text cut to a number of cells, the last of them `…` where something was left out."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def shortened(text: str, width: int) -> str:
    """The same, with `…` in the place of the middle: of a path or an address, both ends say something."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    if width <= 0:
        return ""
    end = text[len(text) - (width - 1) // 2 :]
    while cell_len(end) > (width - 1) // 2:
        end = end[1:]
    return set_cell_size(text, width - 1 - cell_len(end)) + "…" + end
