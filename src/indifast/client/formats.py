"""Formats of BLOBs: the kind of picture, how it is compressed, and how to read its pixels.

Frames, the terminal's preview and the tools all rely on this module, and it on `indifast.fits`. NumPy, astropy and
Pillow are imported only when a picture needs them.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from indifast.client.blobsaver import InflateError, inflate

if TYPE_CHECKING:
    import numpy

MOST = 1 << 30
"""Limit on the bytes of an inflated BLOB that does not announce its inflated size."""

_PART = 1 << 20

_PACKINGS = (".gz", ".z")
_FITS = (".fits", ".fit", ".fts", ".fits.fz", ".fit.fz", ".fts.fz")
_RAW = (".stream",)
_IMAGE = (".jpg", ".jpeg", ".stream_jpg", ".stream_jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")


class Kind(Enum):
    """Kinds of pictures."""

    FITS = "FITS"
    RAW = "raw"
    """Nothing but pixels; the width and height are in the camera's properties."""
    IMAGE = "image"
    """A file that Pillow reads."""
    OTHER = "other"


class Format(NamedTuple):
    """The parts of a format."""

    kind: Kind
    packing: str
    """`.z` (zlib), `.gz` (gzip) or ""; the compressed tiles of `.fz` are part of FITS."""


def format_of(form: str) -> Format:
    """Return the parts of a BLOB's format, which may be in any case, with or without a leading dot."""
    whole = dotted(form).lower()
    packing = next((each for each in _PACKINGS if whole.endswith(each)), "")
    inner = whole.removesuffix(packing)
    for kind, suffixes in ((Kind.FITS, _FITS), (Kind.RAW, _RAW), (Kind.IMAGE, _IMAGE)):
        if inner.endswith(suffixes):
            return Format(kind, packing)
    return Format(Kind.OTHER, packing)


def dotted(form: str) -> str:
    """Return the format as the end of a file name: some drivers send `fits` for `.fits`."""
    form = form.strip()
    return form if not form or form.startswith(".") else f".{form}"


def inflated(content: Any, form: str, size: int = 0) -> Any:
    """Return the content of a BLOB, inflated if its format ends with `.z` or `.gz`.

    Args:
        content: The content as received.
        form: The BLOB's format.
        size: The announced size in bytes, 0 if unknown. A `.z` may not inflate to more. For a `.gz`, which was
            compressed before it became a BLOB, this is the compressed size, and is ignored.

    Raises:
        ValueError: The content is not compressed as its format says, is cut short, or inflates to too much.
    """
    packing = format_of(form).packing
    if packing == ".z":
        return inflate(content, size, max(size, MOST))
    return _gunzipped(content) if packing else content


def _gunzipped(content: Any) -> bytes:
    whole = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while part := file.read(_PART):
                whole += part
                if len(whole) > MOST:
                    raise InflateError(f"more than the {MOST} bytes allowed")
    except EOFError:
        raise InflateError("the content is incomplete") from None
    except (OSError, zlib.error) as error:
        raise InflateError(str(error)) from None
    return bytes(whole)


def raw_pixels(content: Any, sizes: Sequence[tuple[int, int]]) -> numpy.ndarray[Any, Any]:
    """Return raw pixels as an array of the first size, (width, height), that fits.

    Pixels have 8 or 16 bits (little-endian), or 8 bits for each of three colors.

    Raises:
        ValueError: The content fits none of the sizes.
    """
    import numpy

    length = len(content)
    for width, height in sizes:
        pixels = width * height
        if length == pixels:
            return numpy.frombuffer(content, numpy.uint8).reshape(height, width)
        if length == 2 * pixels:
            return numpy.frombuffer(content, "<u2").reshape(height, width)
        if length == 3 * pixels:
            return numpy.frombuffer(content, numpy.uint8).reshape(height, width, 3)
    raise ValueError(f"{length} bytes fit none of the camera's frame sizes {list(sizes)}")


class Image(NamedTuple):
    """A picture read by Pillow."""

    pixels: Any
    """Array of shape (rows, columns) if gray, otherwise (rows, columns, 3)."""
    size: tuple[int, int]
    """Width and height of the whole picture, even if `pixels` is smaller."""
    deep: bool
    """True if pixels have more than 8 bits: the picture needs stretching before it is shown."""


def image(content: Any, least: int | None = None) -> Image:
    """Read a JPEG, a PNG or another file that Pillow knows.

    Args:
        content: The content of the file.
        least: Allow a JPEG to be decoded at a fraction of its size, but with at least this many pixels each way.

    Raises:
        ValueError: The file is damaged, cut short or unknown to Pillow.
        ImportError: Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError:
        raise ImportError("these frames need Pillow: pip install indifast[images]") from None
    import numpy

    try:
        with PIL.Image.open(io.BytesIO(content)) as opened:
            whole = opened.size
            if least is not None:
                opened.draft(None, (least, least))
            deep = opened.mode.startswith(("I", "F"))
            mode = opened.mode if deep else "L" if opened.mode in ("1", "L", "LA") else "RGB"
            return Image(numpy.asarray(opened if deep else opened.convert(mode)), whole, deep)
    except PIL.UnidentifiedImageError:
        raise ValueError("this is not an image that Pillow can read") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow may raise anything for a damaged file
        raise ValueError(f"this image is damaged or incomplete: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
