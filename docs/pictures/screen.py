"""The screen of a terminal as a picture: every cell with its colours, block characters as what they stand for."""

from __future__ import annotations

from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

SIZE = 15
BACKGROUND = "#121212"
FOREGROUND = "#e0e0e0"
NAMED = {
    "black": "#000000", "red": "#cd3131", "green": "#0dbc79", "brown": "#c8a000", "blue": "#2472c8",
    "magenta": "#bc3fbc", "cyan": "#11a8cd", "white": "#aaaaaa", "brightblack": "#555555", "brightred": "#f14c4c",
    "brightgreen": "#23d18b", "brightbrown": "#f5f543", "brightyellow": "#f5f543", "brightblue": "#3b8eea",
    "brightmagenta": "#d670d6", "bfightmagenta": "#d670d6", "brightcyan": "#29b8db", "brightwhite": "#ffffff",
}  # fmt: skip
"""pyte's names, also its misspelt one."""

FONTS = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")


def drawn(screen: pyte.Screen) -> Image.Image:
    """A picture of the screen. Raises OSError if the fonts are missing."""
    fonts = [ImageFont.truetype(name, SIZE) for name in FONTS]
    across = round(fonts[0].getlength("M" * 100) / 100)
    ascent, descent = fonts[0].getmetrics()
    down = ascent + descent
    image = Image.new("RGB", (screen.columns * across, screen.lines * down), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            fore, back = _colour(cell.fg, FOREGROUND), _colour(cell.bg, BACKGROUND)
            if cell.reverse:
                fore, back = back, fore
            box = (column * across, row * down, (column + 1) * across, (row + 1) * down)
            _fill(draw, box, back)
            part = _part(cell.data)
            if part is not None:
                left, top, right, bottom = part
                _fill(draw, (box[0] + round(left * across), box[1] + round(top * down), box[0] + round(right * across),
                             box[1] + round(bottom * down)), fore)  # fmt: skip
            elif cell.data in "░▒▓" and cell.data:
                _fill(draw, box, _mixed(fore, back, ("░▒▓".index(cell.data) + 1) / 4))
            elif cell.data.strip():
                draw.text(box[:2], cell.data, fore, fonts[cell.bold])
            if cell.underscore:
                draw.line((box[0], box[3] - 2, box[2] - 1, box[3] - 2), fore)
    return image


def saved(screen: pyte.Screen, path: Path) -> int:
    """Write the picture of a screen as a PNG; gives its bytes."""
    image = drawn(screen)
    colours = image.getcolors(256)
    image = image.quantize(256, dither=Image.Dither.NONE) if colours is None else image.quantize(len(colours))
    image.save(path, optimize=True)
    return path.stat().st_size


def _colour(name: str, default: str) -> str:
    return default if name == "default" else NAMED.get(name) or f"#{name}"


def _mixed(fore: str, back: str, share: float) -> str:
    pairs = zip(bytes.fromhex(fore[1:]), bytes.fromhex(back[1:]), strict=True)
    return "#" + bytes(round(one * share + other * (1 - share)) for one, other in pairs).hex()


def _fill(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: str) -> None:
    left, top, right, bottom = box
    if right > left and bottom > top:
        draw.rectangle((left, top, right - 1, bottom - 1), colour)


def _part(character: str) -> tuple[float, float, float, float] | None:
    """The part of a cell that a block character fills: left, top, right, bottom."""
    code = ord(character[0]) if character else 0
    if code == 0x2580:
        return 0, 0, 1, 0.5
    if 0x2581 <= code <= 0x2588:
        return 0, 1 - (code - 0x2580) / 8, 1, 1
    if 0x2589 <= code <= 0x258F:
        return 0, 0, (0x2590 - code) / 8, 1
    return {0x2590: (0.5, 0, 1, 1), 0x2594: (0, 0, 1, 0.125), 0x2595: (0.875, 0, 1, 1)}.get(code)
