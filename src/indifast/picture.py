"""Small 8-bit pictures of frames, made for the eye.

A frame may have 64 million pixels, and a terminal 10 000. The frame is sampled first, and only the samples are averaged
and stretched, so the time depends on the size of the result alone (except for formats that must be inflated whole).
Nothing here depends on a terminal; `picture` may run in any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indifast.client import frame_array, inflated
from indifast.client.formats import Kind, format_of, image
from indifast.fits import read_image

SAMPLES = 4_000_000
"""Maximum number of pixels of a frame that are read."""

BACKGROUND = 0.2
"""Brightness that the median of a dark frame is given, from 0 to 1."""


class NoPreview(ValueError):
    """Raised if content cannot be shown as a picture; the text says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame reduced for the eye.

    Attributes:
        pixels: 8-bit pixels, (rows, columns) in gray or (rows, columns, 3) in color, the first row on top.
        width: Width of the whole frame, in pixels.
        height: Height of the whole frame, in pixels.
        kind: The kind of pixels in the frame, such as "16 bit" or "8 bit RGB".
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    kind: str


def picture(
    content: Any,
    form: str,
    *,
    size: int = 0,
    sizes: Sequence[tuple[int, int]] = (),
    columns: int,
    rows: int,
) -> Picture:
    """Return a picture of the content of a BLOB, in its own proportions.

    Args:
        content: The content.
        form: The format of the BLOB.
        size: The announced size of the BLOB in bytes; 0 if unknown.
        sizes: The (width, height) that raw streams may have; see `indifast.client.frame_sizes`.
        columns: Maximum width of the picture, in square pixels.
        rows: Maximum height of the picture.

    Raises:
        NoPreview: There is no picture of the content.
    """
    with reading(form):
        return _shown(opened(content, form, size=size, sizes=sizes, least=2 * max(columns, rows)), columns, rows)


@dataclass(frozen=True, slots=True)
class Opened:
    """A frame that has been read.

    Attributes:
        pixels: The pixels as stored, (rows, columns) or (rows, columns, 3), the first row on top.
        kind: The kind of pixels, such as "16 bit" or "8 bit RGB".
        factor, offset: What makes values of stored pixels.
        blank: The stored value that marks pixels without a value.
        for_the_eye: Whether the producer of the frame has already stretched it.
        size: Width and height of the frame, if `pixels` is smaller.
        header: The header of FITS.
        upside_down: Whether the first row on top is the last one stored.
    """

    pixels: NDArray[Any]
    kind: str
    factor: float = 1.0
    offset: float = 0.0
    blank: int | None = None
    for_the_eye: bool = False
    size: tuple[int, int] | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    upside_down: bool = False


def opened(
    content: Any, form: str, *, size: int = 0, sizes: Sequence[tuple[int, int]] = (), least: int | None = None
) -> Opened:
    """Read the content of a BLOB, without a copy of its pixels if they are stored as they are.

    Args:
        content: The content.
        form: The format of the BLOB.
        size: The announced size of the BLOB in bytes; 0 if unknown.
        sizes: The (width, height) that raw streams may have; see `indifast.client.frame_sizes`.
        least: Pixels each way that are enough, so that a JPEG may be read smaller than it is. None: all.

    Raises:
        NoPreview: There is no picture of the content.
    """
    if not len(content):
        raise NoPreview("no preview of a frame without content")
    read = _READERS.get(format_of(form).kind)
    if read is None:
        raise NoPreview(f"no preview of {form}" if form.strip() else "no preview, as the driver specifies no format")
    with reading(form):
        return read(content, form, size, sizes, least)


@contextmanager
def reading(form: str) -> Iterator[None]:
    """Have whatever is raised within a block say that there is no picture of a frame of this format."""
    try:
        yield
    except NoPreview:
        raise
    except ImportError as error:
        raise NoPreview(f"no preview of {form}: {error}") from None
    except Exception as error:  # a decoder may raise anything for a damaged frame
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise NoPreview(f"no preview, as this {form} frame cannot be read: {reason}") from None


def _raw(content: Any, form: str, size: int, sizes: Sequence[tuple[int, int]], least: int | None) -> Opened:
    if not sizes:
        raise NoPreview("no preview of a raw stream, as the camera does not report its frame size")
    try:
        pixels = frame_array(content, form, size=size, sizes=sizes)
    except ValueError as error:
        raise NoPreview(f"no preview, as this {form} frame cannot be read: {error}") from None
    return Opened(pixels, f"{8 * pixels.itemsize} bit" + (" RGB" if pixels.ndim == 3 else ""))


def _fits(content: Any, form: str, size: int, sizes: Sequence[tuple[int, int]], least: int | None) -> Opened:
    found = read_image(inflated(content, form, size))
    pixels = found.stored  # scaling would copy all of them
    kind = f"{8 * pixels.itemsize} bit" + (" float" if pixels.dtype.kind == "f" else "")
    while pixels.ndim > 3:
        pixels = pixels[0]
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        pixels, kind = np.moveaxis(pixels, 0, 2), kind + " RGB"
    elif pixels.ndim == 3:
        pixels, kind = pixels[0], kind if pixels.shape[0] == 1 else f"{kind}, first of {pixels.shape[0]} planes"
    if pixels.ndim == 1:
        pixels = pixels[np.newaxis]
    upside_down = str(found.header.get("ROWORDER", "")).strip().upper() == "BOTTOM-UP"
    if upside_down:
        pixels = pixels[::-1]
    return Opened(pixels, kind, found.bscale, found.bzero, found.blank, header=found.header, upside_down=upside_down)


def _image(content: Any, form: str, size: int, sizes: Sequence[tuple[int, int]], least: int | None) -> Opened:
    # Decoding a JPEG to an eighth of its size takes a fraction of the time.
    seen = image(inflated(content, form, size), least=least)
    pixels = seen.pixels
    if seen.deep:
        return Opened(pixels, f"{8 * pixels.itemsize} bit")
    return Opened(pixels, "8 bit RGB" if pixels.ndim == 3 else "8 bit", for_the_eye=True, size=seen.size)


_READERS = {Kind.FITS: _fits, Kind.RAW: _raw, Kind.IMAGE: _image}


def _shown(frame: Opened, columns: int, rows: int) -> Picture:
    height, width = frame.pixels.shape[:2]
    small = _reduced(frame.pixels, frame.blank, columns, rows)
    pixels = _rounded(small) if frame.for_the_eye else stretched(small * frame.factor + frame.offset, full_scale(frame))
    width, height = frame.size or (width, height)
    return Picture(pixels, width, height, frame.kind)


def _reduced(pixels: NDArray[Any], blank: int | None, columns: int, rows: int) -> NDArray[np.float64]:
    """Return at most `columns` by `rows` means of evenly spread samples; NaN where no sample has a finite value."""
    height, width = pixels.shape[:2]
    scale = max(width / max(1, columns), height / max(1, rows))
    across, down = max(1, round(width / scale)), max(1, round(height / scale))
    each = min(max(1, int(np.ceil(scale))), max(1, int((SAMPLES / (across * down)) ** 0.5)))
    x = ((np.arange(across * each) + 0.5) * (width / (across * each))).astype(np.intp)
    y = ((np.arange(down * each) + 0.5) * (height / (down * each))).astype(np.intp)
    blocks = pixels[y[:, np.newaxis], x].reshape(down, each, across, each, *pixels.shape[2:])
    if blocks.dtype.kind != "f" and blank is None:
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64))
    valid = np.isfinite(blocks) if blank is None else blocks != blank
    total = np.where(valid, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / valid.sum(axis=(1, 3)))


def full_scale(frame: Opened) -> float:
    """Return the highest value that a pixel may have."""
    stored = frame.pixels.dtype
    highest = float(np.iinfo(stored).max) if stored.kind in "iu" else np.inf
    return highest * frame.factor + frame.offset


@dataclass(frozen=True, slots=True)
class Stretch:
    """How bright values are shown.

    Attributes:
        black: The value that is black, as is what is below it.
        middle: The value that is shown half as bright as white.
        white: The value that is white, as is what is above it.
    """

    black: float
    middle: float
    white: float

    def brightness(self, values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Return 8-bit pixels for values. Those that are not finite are black."""
        valid = np.isfinite(values)
        values = np.clip(values, -1e300, 1e300)  # differences of larger ones would be infinite
        scaled = np.where(valid, np.clip((values - self.black) / (self.white - self.black), 0, 1), 0)
        middle = min(max((self.middle - self.black) / (self.white - self.black), 1e-6), 1 - 1e-6)
        if middle != 0.5:
            scaled = (middle - 1) * scaled / ((2 * middle - 1) * scaled - middle)
        return _rounded(255 * scaled)


def automatic(values: NDArray[np.floating[Any]], full_scale: float = np.inf) -> Stretch:
    """Return a stretch for values of any range by which faint objects show on a dark background.

    Black is a little below the median, depending on the scatter around it. White leaves out the brightest 0.2 %, so
    that a hot pixel does not darken the rest, but stays far above the scatter, so that pure noise remains gray. In
    between, a midtones curve raises a dark median to `BACKGROUND`. A frame of a single value is gray, or white if the
    value is `full_scale`, or black if it is 0.
    """
    finite = np.clip(values[np.isfinite(values)], -1e300, 1e300)
    if not finite.size:
        return Stretch(0.0, 0.5, 1.0)
    darkest, low, median, high, brightest = map(float, np.percentile(finite, (0, 0.5, 50, 99.8, 100)))
    scatter = 1.4826 * float(np.median(np.abs(finite - median)))
    black, white = max(low, median - 2.8 * scatter), max(high, min(brightest, median + 15 * scatter))
    if high - median > 2.5 * scatter:  # a tail, at least of noise, rather than an even slope
        white = max(white, median + 8 * scatter)
    if white <= black:
        black, white = darkest, brightest
    if white <= black:
        step = max(1.0, abs(white) * 1e-9)
        below, above = (step, 0.0) if white >= full_scale else (0.0, step) if white == 0 else (step, step)
        return Stretch(white - below, white + (above - below) / 2, white + above)
    middle = (median - black) / (white - black)
    midtone = 0.5
    if 0 < middle < BACKGROUND:
        midtone = (BACKGROUND - 1) * middle / ((2 * BACKGROUND - 1) * middle - BACKGROUND)
    return Stretch(black, black + midtone * (white - black), white)


def stretched(values: NDArray[np.floating[Any]], full_scale: float = np.inf) -> NDArray[np.uint8]:
    """Return 8-bit pixels for values of any range, with the stretch that is automatic for them."""
    return automatic(values, full_scale).brightness(values)


def _rounded(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
