"""Pictures made of characters, for every terminal.

With 256 colors or more, a cell shows two pixels, one above the other: a half block in the color of the upper pixel
on a background in the color of the lower one. With fewer colors, or none, a cell is one pixel: a shade of gray made
of dots.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

UPPER_HALF = "▀"
DOTS = " ░▒▓"
"""Each shows a quarter more of the foreground than the one before."""

_STANDARD_GREYS = (0, 85, 170, 255)
"""Assumed values of black, bright black, white and bright white: given one of these, rich picks exactly that color."""


def rendered(pixels: NDArray[np.uint8], color_system: str | None) -> list[Strip]:
    """Return lines that show the pixels, on a terminal with rich's color system of that name.

    A line takes two rows of pixels; an odd row at the end is completed with black.

    Args:
        pixels: (rows, columns) in gray, or (rows, columns, 3) in color.
        color_system: As in `rich.console.Console.color_system`; None for no colors.
    """
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    if color_system in ("truecolor", "256"):
        return _half_blocks(pixels)
    return _shades(pixels)


def _half_blocks(pixels: NDArray[np.uint8]) -> list[Strip]:
    codes = _coded(pixels)
    cells = codes[0::2] << 15 | codes[1::2]
    return [_line(row, _half_block) for row in cells]


def _coded(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pack five bits per color into one number: neighbors are then often equal, and styles can be cached."""
    wide = pixels.astype(np.int64) >> 3
    if wide.ndim == 2:
        return wide << 10 | wide << 5 | wide
    return wide[..., 0] << 10 | wide[..., 1] << 5 | wide[..., 2]


def _shades(pixels: NDArray[np.uint8]) -> list[Strip]:
    grey = pixels.astype(np.float32)
    if grey.ndim == 3:
        grey = grey @ np.array((0.299, 0.587, 0.114), np.float32)
    values = (grey[0::2] + grey[1::2]) / 2
    steps = len(DOTS)
    brightness = [low + (high - low) * step / steps for low, high in pairwise(_STANDARD_GREYS) for step in range(steps)]
    middles = np.convolve([*brightness, _STANDARD_GREYS[-1]], (0.5, 0.5), "valid")
    return [_line(row, _shade) for row in np.searchsorted(middles, values)]


def _line(cells: NDArray[Any], segment: Any) -> Strip:
    """Return a line with one segment for each run of equal cells."""
    ends = [*(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(cells)]
    values = cells[[end - 1 for end in ends]].tolist()
    starts = [0, *ends[:-1]]
    return Strip(
        [segment(value, end - start) for value, start, end in zip(values, starts, ends, strict=True)], len(cells)
    )


@lru_cache(1 << 14)
def _half_block(code: int, count: int) -> Segment:
    return Segment(UPPER_HALF * count, Style(color=_colour(code >> 15), bgcolor=_colour(code & 0x7FFF)))


def _colour(code: int) -> Color:
    return Color.from_rgb(*(((code >> shift & 31) * 255 + 15) // 31 for shift in (10, 5, 0)))


@lru_cache(1 << 10)
def _shade(level: int, count: int) -> Segment:
    pair, dots = divmod(level, len(DOTS))
    fore = _STANDARD_GREYS[min(pair + 1, len(_STANDARD_GREYS) - 1)]
    back = _STANDARD_GREYS[pair]
    return Segment(
        DOTS[dots] * count, Style(color=Color.from_rgb(fore, fore, fore), bgcolor=Color.from_rgb(back, back, back))
    )
