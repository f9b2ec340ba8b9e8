"""What the format of a BLOB means: what kind of picture it is, how it is packed, and how its pixels are read.

The only place for this knowledge: frames, the terminal's preview and the tools ask here. NumPy, astropy and Pillow are
imported when a picture needs them.
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
"""Bytes that a packed BLOB may have, where it announces less or nothing."""

_PART = 1 << 20

_PACKINGS = (".gz", ".z")
_FITS = (".fits", ".fit", ".fts", ".fits.fz", ".fit.fz", ".fts.fz")
_RAW = (".stream",)
_IMAGE = (".jpg", ".jpeg", ".stream_jpg", ".stream_jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")


class Kind(Enum):
    """What there is of pictures."""

    FITS = "FITS"
    RAW = "raw"
    """Nothing but pixels; the camera's properties tell their number."""
    IMAGE = "image"
    """What Pillow reads."""
    OTHER = "other"


class Format(NamedTuple):
    """A format, taken apart."""

    kind: Kind
    packing: str
    """`.z` (zlib), `.gz` (gzip) or ""; the tiles of `.fz` are part of FITS."""


def format_of(form: str) -> Format:
    """What a BLOB's format says, in any case, with a leading dot or without."""
    whole = dotted(form).lower()
    packing = next((each for each in _PACKINGS if whole.endswith(each)), "")
    inner = whole.removesuffix(packing)
    for kind, suffixes in ((Kind.FITS, _FITS), (Kind.RAW, _RAW), (Kind.IMAGE, _IMAGE)):
        if inner.endswith(suffixes):
            return Format(kind, packing)
    return Format(Kind.OTHER, packing)


def dotted(form: str) -> str:
    """The format as the end of a file name: some drivers send `fits` for `.fits`."""
    form = form.strip()
    return form if not form or form.startswith(".") else f".{form}"


def inflated(content: Any, form: str, size: int = 0) -> Any:
    """The content of a BLOB, inflated if its format ends with `.z` or `.gz`.

    `size`: the announced bytes, 0 if unknown; a `.z` may not have more. (Of a `.gz`, which is a file that was packed
    before, it is the packed size.) ValueError if the content is not packed so, cut short, or larger.
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
    """8 or 16 bits per pixel (little-endian), or 8 bits of each colour, in the first of the sizes that fits."""
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


def fits_image(content: Any, *, stored: bool = False) -> tuple[Any, Any]:
    """Header and pixels of the first image of a FITS file; ValueError if it is damaged, cut short or holds none.

    `stored`: the pixels as the file has them, which is a view; BSCALE and BZERO are left to the caller.
    """
    try:
        from astropy.io import fits
    except ImportError:
        raise ImportError("FITS frames need astropy: pip install indifast[fits]") from None
    # Of bytes, as they come over TCP, that is no copy. Nothing is closed, as there is no file and closing would copy.
    whole = content if isinstance(content, bytes) else bytes(content)
    try:
        for unit in fits.HDUList.fromstring(whole, do_not_scale_image_data=stored):
            if getattr(unit, "is_image", False) and unit.data is not None and unit.data.size:
                return unit.header, unit.data
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # astropy stumbles over damaged files in every way there is
        raise ValueError(f"this FITS file is damaged or incomplete: {_reason(error)}") from error
    raise ValueError("this FITS file holds no image")


class Image(NamedTuple):
    """A picture that Pillow has read."""

    pixels: Any
    """(rows, columns) in grey, else (rows, columns, 3)."""
    size: tuple[int, int]
    """Width and height of the whole, where `pixels` is less than that."""
    deep: bool
    """More than 8 bits: not made for the eye."""


def image(content: Any, least: int | None = None) -> Image:
    """The picture of a JPEG, PNG or another file that Pillow reads; ValueError if it is damaged or cut short.

    With `least`, a JPEG may be decoded to a fraction of its size, but not to fewer pixels across or down than that.
    """
    try:
        import PIL.Image
    except ImportError:
        raise ImportError("such frames need Pillow: pip install indifast[term]") from None
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
        raise ValueError("this is no image that Pillow knows") from None
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise ValueError(f"this image is damaged or incomplete: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
