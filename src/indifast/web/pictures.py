"""Makes pictures of frames: a part of them, its colors, brightness and size. Runs in any thread.

A picture must take a few milliseconds, so the pixels are added up as they are stored, and only what is left is
stretched, by a table if there are 16 bits or fewer. What is automatic is judged by a sample of the whole frame, so it
does not change while a viewer moves around in it.
"""

from __future__ import annotations

import io
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from indifast.picture import Opened, Stretch, automatic, full_scale
from indifast.protocol.jsonform import Plain, number
from indifast.web import mosaics
from indifast.web.bounds import PIXELS_MEASURED
from indifast.web.mosaics import Mosaic
from indifast.web.views import JPEG, PATTERNS, WEBP, View

SAMPLE = 1 << 15
"""Pixels by which the brightness of a frame is judged."""

LIVE_BINS = 128
ROOT = 3
"""The parts of a histogram are equal on an axis of cube roots, as most of a dark frame lies near its lowest value."""

_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    JPEG: ("JPEG", {"quality": 85}),
    WEBP: ("WEBP", {"quality": 80, "method": 0}),
}

_Pixels = NDArray[Any]
_Place = tuple[int, int]


class Picture(NamedTuple):
    """A picture of a part of a frame."""

    image: bytes
    """The file."""
    about: Plain
    """What it shows."""


class Negative:
    """A frame that was read, of which pictures are made.

    Args:
        frame: The frame.
        mosaic: The mosaic of the camera, in case the frame does not tell its own.
    """

    def __init__(self, frame: Opened, mosaic: Mosaic | None = None) -> None:
        self._frame = frame
        self._mosaic = mosaic
        self.height, self.width = frame.pixels.shape[:2]
        self._stretches: dict[str | None, list[Stretch]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        return self._frame.pixels.nbytes

    def picture(self, view: View) -> Picture:
        """Return the picture of a view."""
        pattern = self._pattern(view.bayer)
        left, top, width, height = self._region(view, 2 if pattern else 1)
        pixels = self._frame.pixels[top : top + height, left : left + width]
        factor = max(1, round(max(width, height) / view.size))
        planes = (
            [_reduced(pixels, factor, self._frame.blank)] if pattern is None else self._colors(pixels, pattern, factor)
        )
        stretches = [view.stretch] if view.stretch else self._automatic(pattern)
        bright = [self._bright(plane, stretches[at % len(stretches)]) for at, plane in enumerate(planes)]
        shown = stretches[len(stretches) // 2]
        about = {
            "width": self.width,
            "height": self.height,
            "pixels": self._frame.kind,
            "region": [left, top, width, height],
            "stretch": [number(each) for each in (shown.black, shown.middle, shown.white)],
            "automatic": view.stretch is None,
            "bayer": pattern,
            "type": view.type,
            "histogram": self.histogram,
        }
        return Picture(_file(bright[0] if len(bright) == 1 else np.dstack(bright), view.type), about)

    # -- Where

    def _region(self, view: View, step: int) -> tuple[int, int, int, int]:
        """Return the part of the frame that is shown, from and to whole steps."""
        if view.region is None:
            return 0, 0, max(self.width // step * step, 1), max(self.height // step * step, 1)
        left, width = _within(view.region[0], view.region[2], self.width, step)
        top, height = _within(view.region[1], view.region[3], self.height, step)
        return left, top, width, height

    # -- Colors

    def _pattern(self, bayer: str) -> str | None:
        """Return the pattern of filters, from the first row on top; None if there is none."""
        frame = self._frame
        if frame.pixels.ndim != 2 or min(frame.pixels.shape) < 2 or bayer == "off":
            return None
        if bayer in PATTERNS:
            return bayer
        mosaic = mosaics.of_header(frame.header) if "BAYERPAT" in frame.header else self._mosaic
        if mosaic is None or frame.for_the_eye:
            return None
        return mosaic.from_top(flipped=frame.upside_down and self.height % 2 == 0)

    def _colors(self, pixels: _Pixels, pattern: str, factor: int) -> list[_Pixels]:
        """Return red, green and blue."""
        blank = self._frame.blank
        if factor == 1:
            return _interpolated(_valid(pixels, blank), pattern)
        planes = []
        for color in "RGB":
            found = [_reduced(pixels[y::2, x::2], max(1, round(factor / 2)), blank) for y, x in _places(pattern, color)]
            planes.append(found[0] if len(found) == 1 else _half(found[0], found[1]))
        return planes

    # -- Brightness

    def _automatic(self, pattern: str | None) -> list[Stretch]:
        """Return the stretch that is good for the frame; with a mosaic, one for each color, so that the sky is gray."""
        if pattern not in self._stretches:
            if self._frame.for_the_eye:
                found = [Stretch(0, 127.5, 255)]
            else:
                samples = [self._sample] if pattern is None else [self._of_color(pattern, color) for color in "RGB"]
                found = [automatic(each, full_scale(self._frame)) for each in samples]
            self._stretches[pattern] = found
        return self._stretches[pattern]

    @cached_property
    def _sample(self) -> NDArray[np.float64]:
        return self._values(_spread(self._frame.pixels))

    def _of_color(self, pattern: str, color: str) -> NDArray[np.float64]:
        y, x = _places(pattern, color)[0]
        return self._values(_spread(self._frame.pixels[y::2, x::2]))

    def _values(self, stored: _Pixels) -> NDArray[np.float64]:
        values = stored.astype(np.float64)
        if self._frame.blank is not None:
            values[stored == self._frame.blank] = np.nan
        return values * self._frame.factor + self._frame.offset

    def _bright(self, stored: _Pixels, stretch: Stretch) -> NDArray[np.uint8]:
        """Return how bright stored values are shown."""
        frame = self._frame
        if not _is_small(stored):
            return stretch.brightness(stored.astype(np.float64) * frame.factor + frame.offset)
        if frame.for_the_eye and stretch == Stretch(0, 127.5, 255):
            return stored
        unsigned = np.dtype(f"u{stored.dtype.itemsize}")
        every = np.arange(256**stored.dtype.itemsize).astype(unsigned).view(stored.dtype)
        table = stretch.brightness(every.astype(np.float64) * frame.factor + frame.offset)
        return np.asarray(table.take(stored.view(unsigned)))

    @cached_property
    def histogram(self) -> Plain:
        """How many pixels of the sample lie in each part of the range."""
        values = self._sample[np.isfinite(self._sample)]
        if not values.size:
            return {"low": None, "high": None, "root": ROOT, "counts": []}
        low, high = float(values.min()), float(values.max())
        roots = np.cbrt(((values - low) / ((high - low) or 1)).astype(np.float32))
        counts = np.bincount(np.minimum(roots * LIVE_BINS, LIVE_BINS - 1).astype(np.intp), minlength=LIVE_BINS)
        return {"low": number(low), "high": number(high), "root": ROOT, "counts": counts.tolist()}


def _within(start: float, length: float, whole: int, step: int) -> tuple[int, int]:
    """Return the start and the length of what lies within `whole`, in whole steps."""
    last = max(whole // step - 1, 0) * step
    begin = int(min(start // step * step, last))
    end = min(ceil((start + length) / step) * step, last + step, whole)
    return begin, max(int(end) - begin, min(step, whole))


def _places(pattern: str, color: str) -> list[_Place]:
    """Return where a color is in each square of two by two."""
    return [divmod(at, 2) for at, each in enumerate(pattern) if each == color]


def _spread(pixels: _Pixels) -> _Pixels:
    """Return a sample of the pixels, of odd steps so that all columns of a mosaic are met."""
    step = ceil((pixels.shape[0] * pixels.shape[1] / SAMPLE) ** 0.5) | 1
    return pixels[step // 2 :: step, step // 2 :: step] if step < min(pixels.shape[:2]) else pixels


def _reduced(pixels: _Pixels, factor: int, blank: int | None) -> _Pixels:
    """Return means of squares, leaving out pixels without a value. Of many pixels, only some are looked at."""
    step = min(factor, ceil((pixels.shape[0] * pixels.shape[1] / PIXELS_MEASURED) ** 0.5))
    pixels = _valid(pixels[::step, ::step], blank)
    rows, columns = (min(max(1, round(factor / step)), length) for length in pixels.shape[:2])
    if rows * columns == 1:
        return np.asarray(pixels.astype(pixels.dtype.newbyteorder("=")))
    if _is_small(pixels):
        total = _summed(pixels, rows, columns, np.int32 if pixels.dtype.kind == "i" else np.uint32)
        return np.asarray((total // (rows * columns)).astype(pixels.dtype.newbyteorder("=")))
    with np.errstate(all="ignore"):
        total = _summed(pixels, rows, columns, np.float64)
        if np.isfinite(total).all():
            return np.asarray(total / (rows * columns))
        valid = np.isfinite(pixels)
        total = _summed(np.where(valid, pixels, 0), rows, columns, np.float64)
        return np.asarray(total / _summed(valid, rows, columns, np.float64))


def _is_small(pixels: _Pixels) -> bool:
    """Whether there are so few different values that a table can have them all."""
    return pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2


def _valid(pixels: _Pixels, blank: int | None) -> _Pixels:
    """Return the pixels, with NaN in place of those that have no value."""
    return pixels if blank is None else np.where(pixels == blank, np.nan, pixels)


def _summed(pixels: _Pixels, rows: int, columns: int, kind: Any) -> _Pixels:
    """Return the sums of rectangles: first of their rows, which lie together in memory, then of their columns."""
    down, across = pixels.shape[0] // rows * rows, pixels.shape[1] // columns * columns
    total = pixels[:down:rows].astype(kind)
    for at in range(1, rows):
        np.add(total, pixels[at:down:rows], out=total)
    sums = total[:, :across:columns].copy()
    for at in range(1, columns):
        np.add(sums, total[:, at:across:columns], out=sums)
    return np.asarray(sums)


def _half(one: _Pixels, other: _Pixels) -> _Pixels:
    if one.dtype.kind not in "iu":
        return np.asarray((one + other) / 2)
    total = np.add(one, other, dtype=np.int32 if _is_small(one) else np.float64)
    return np.asarray((total // 2).astype(one.dtype))


def _interpolated(mosaic: _Pixels, pattern: str) -> list[_Pixels]:
    """Return red, green and blue of each pixel: its own, and the means of those around it."""
    native = mosaic.dtype.newbyteorder("=")
    kind = np.int32 if _is_small(mosaic) else np.float64
    padded = np.pad(mosaic, 1, "reflect").astype(kind)
    planes = []
    for color in "RGB":
        alone = np.zeros_like(padded)
        for y, x in _places(pattern, color):
            where = slice((y + 1) % 2, None, 2), slice((x + 1) % 2, None, 2)
            alone[where] = padded[where]
        if color == "G":
            inner = alone[1:-1, 1:-1] * 4
            inner += alone[:-2, 1:-1]
            inner += alone[2:, 1:-1]
            inner += alone[1:-1, :-2]
            inner += alone[1:-1, 2:]
        else:
            across = alone[:, :-2] + 2 * alone[:, 1:-1] + alone[:, 2:]
            inner = across[:-2] + 2 * across[1:-1] + across[2:]
        planes.append((inner // 4).astype(native) if kind is np.int32 else inner / 4)
    return planes


def _file(pixels: NDArray[np.uint8], kind: str) -> bytes:
    form, options = _FORMATS[kind]
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(file, form, **options)
    return file.getvalue()
