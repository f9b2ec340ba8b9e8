"""FITS images as NumPy arrays over the bytes that were received, without a copy.

`read_image` finds the first image of a file. Its `stored` pixels are a view of the content, whatever kind of memory
that is; `scaled()` gives the values that they stand for. Headers are read as cameras write them, which is not always as
the standard wants it (FITS standard 4.0). Tables and other things that are no images are passed over. Compressed images
(`.fits.fz`) are left to astropy, the extra `indifast[fits]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy

BLOCK, CARD = 2880, 80
"""Bytes of the blocks that a file consists of, and of each line of a header (FITS standard, section 3)."""

MOST_CARDS = 36 * 1000
"""The most lines of one header."""

Value: TypeAlias = bool | int | float | str | None
"""The value of a keyword: a logical, a number, a text, or none."""

_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MOST_AXES = 32
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?")


class FitsError(ValueError):
    """A file is not FITS, is damaged or cut short, or has no image. The message is one sentence."""


class _Foreign(Exception):
    """The file needs astropy; the text says why."""


class Header(Mapping[str, Value]):
    """The values of a header by keyword, as a mapping. Of several with the same keyword, the first one counts."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def __repr__(self) -> str:
        return f"Header({self._values!r})"

    def __getitem__(self, keyword: str) -> Value:
        return self._values[keyword.upper()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Image(NamedTuple):
    """An image in a FITS file."""

    header: Header
    stored: numpy.ndarray[Any, Any]
    """The pixels as they are in the file, usually big-endian: a read-only view if the content is. The last axis is the
    first one of FITS, so two-dimensional images have the shape (height, width)."""
    bscale: float
    bzero: float
    blank: int | None
    """The stored value of pixels that have no value."""

    def scaled(self) -> numpy.ndarray[Any, Any]:
        """Return the values of the pixels: `bzero + bscale * stored`.

        Unsigned integers, which FITS stores with an offset, are unsigned integers in this machine's byte order. Other
        scaled integers become floats, with NaN in place of `blank`. Pixels that need no scaling are the stored ones,
        without a copy.
        """
        import numpy

        stored = self.stored
        kind, size = stored.dtype.kind, stored.dtype.itemsize
        if self.bscale == 1 and self.bzero == 0 and (kind == "f" or self.blank is None):
            return stored
        if kind != "f" and self.bscale == 1 and self.bzero == (-128 if size == 1 else 2 ** (8 * size - 1)):
            # Adding half of the range is the same as inverting the highest bit.
            bits = stored.astype(f"=i{size}" if size > 1 else "u1").view(f"=u{size}")
            bits ^= numpy.array(1 << (8 * size - 1), bits.dtype)
            return bits.view("i1") if size == 1 else bits
        values = stored.astype(f"=f{4 if size <= 2 or (kind == 'f' and size == 4) else 8}")
        if self.bscale != 1:
            values *= values.dtype.type(self.bscale)
        if self.bzero != 0:
            values += values.dtype.type(self.bzero)
        if kind != "f" and self.blank is not None:
            values[stored == self.blank] = numpy.nan
        return values


def read_image(content: Any) -> Image:
    """Return the first image in a FITS file.

    Args:
        content: The content of the file: any contiguous buffer, such as bytes, a memoryview or a memory map.

    Raises:
        FitsError: The file is not FITS, is damaged or cut short, or has no image.
        ImportError: The image is compressed, and astropy is not installed.
    """
    view = memoryview(content).cast("B")
    try:
        return _first_image(view)
    except _Foreign as reason:
        return _by_astropy(view, str(reason))


def read_header(content: Any) -> Header:
    """Return the header at the beginning of a FITS file.

    Raises:
        FitsError: There is none.
    """
    return _header(memoryview(content).cast("B"), 0)[0]


def _first_image(view: memoryview) -> Image:
    offset = 0
    while not offset or bytes(view[offset : offset + 8]).startswith(b"XTENSION"):
        header, data = _header(view, offset)
        if header.get("ZIMAGE") is True:
            raise _Foreign("has a compressed image")
        if header.get("GROUPS") is True:
            raise _Foreign("has random groups")
        shape, dtype = _shape(header), _dtype(header)
        if shape and 0 not in shape and (not offset or header.get("XTENSION") == "IMAGE"):
            return _image(header, view, data, shape, dtype)
        size = abs(_count(header, "BITPIX")) // 8 * _count(header, "GCOUNT", 1)
        size *= _count(header, "PCOUNT", 0) + (prod(shape) if shape else 0)
        offset = data + -(-size // BLOCK) * BLOCK
    raise FitsError("this FITS file holds no image")


def _image(header: Header, view: memoryview, data: int, shape: tuple[int, ...], dtype: str) -> Image:
    import numpy

    kind = numpy.dtype(dtype)
    count = prod(shape)
    if count * kind.itemsize > len(view) - data:
        have = max(0, len(view) - data)
        raise _damaged(f"it has {have} of {count * kind.itemsize} bytes of pixels")
    blank = header.get("BLANK")
    return Image(
        header,
        numpy.frombuffer(view, kind, count, data).reshape(shape),
        _number(header, "BSCALE", 1.0),
        _number(header, "BZERO", 0.0),
        blank if isinstance(blank, int) and not isinstance(blank, bool) and kind.kind != "f" else None,
    )


def _shape(header: Header) -> tuple[int, ...]:
    axes = _count(header, "NAXIS")
    if axes > _MOST_AXES:
        raise _damaged(f"it has {axes} axes")
    return tuple(_count(header, f"NAXIS{axis}") for axis in range(axes, 0, -1))


def _dtype(header: Header) -> str:
    bits = header.get("BITPIX")
    if not isinstance(bits, int) or bits not in _DTYPES:
        raise _damaged(f"BITPIX is {bits!r}")
    return _DTYPES[bits]


def _count(header: Header, keyword: str, default: int | None = None) -> int:
    value = header.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int) or (value < 0 and keyword != "BITPIX"):
        raise _damaged(f"{keyword} is {repr(value) if keyword in header else 'missing'}")
    return value


def _number(header: Header, keyword: str, default: float) -> float:
    value = header.get(keyword, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _damaged(f"{keyword} is {value!r}")
    return value


def _damaged(why: str) -> FitsError:
    return FitsError(f"this FITS file is damaged or incomplete: {why}")


# -- Headers


def _header(view: memoryview, start: int) -> tuple[Header, int]:
    """Return the header at an offset, and the offset of the data after it."""
    if not start and bytes(view[:6]) != b"SIMPLE":
        raise _damaged("it does not begin with SIMPLE")
    values: dict[str, Value] = {}
    long: str | None = None  # keyword of a text that the next card may continue
    for number in range(MOST_CARDS):
        offset = start + number * CARD
        card = bytes(view[offset : offset + CARD])
        if not card:
            break
        text = card.decode("utf-8", "replace").replace("\0", " ")
        if text[:8].rstrip() == "END":
            return Header(values), start + -(-(offset + CARD - start) // BLOCK) * BLOCK
        if long is not None and text.startswith("CONTINUE"):
            before, more = str(values[long]), _value(text[8:])
            values[long] = before.removesuffix("&") + (more if isinstance(more, str) else "")
            continue
        keyword, value = _card(text)
        long = None
        if keyword and keyword not in values:
            values[keyword] = value
            if isinstance(value, str) and value.endswith("&"):
                long = keyword
    raise _damaged("its header has no END")


def _card(text: str) -> tuple[str, Value]:
    """Return the keyword and the value of a card; an empty keyword if it has none, as comments."""
    keyword = text[:8].strip().upper()
    if keyword == "HIERARCH":
        name, equals, value = text[8:].partition("=")
        return (name.strip().upper(), _value(value)) if equals else ("", None)
    if text[8:9] != "=" or keyword in ("COMMENT", "HISTORY"):
        return "", None
    return keyword, _value(text[9:])


def _value(text: str) -> Value:
    text = text.strip()
    if text.startswith("'"):
        # A quote within is doubled. Texts whose end is missing are taken as they are.
        inside = re.match(r"'((?:[^']|'')*)", text)
        assert inside is not None
        return inside[1].replace("''", "'").rstrip()
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text.upper().replace("D", "E"))
    return text or None


# -- What is left to astropy


def _by_astropy(view: memoryview, why: str) -> Image:
    import warnings

    try:
        from astropy.io import fits
    except ImportError:
        raise ImportError(f"this FITS file {why}, which needs astropy: pip install indifast[fits]") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that can be read anyway
            for unit in fits.HDUList.fromstring(bytes(view), do_not_scale_image_data=True):
                if getattr(unit, "is_image", False) and unit.data is not None and unit.data.size:
                    header = Header({str(card.keyword): card.value for card in reversed(unit.header.cards)})
                    blank = header.get("BLANK")
                    return Image(
                        header,
                        unit.data,
                        _number(header, "BSCALE", 1.0),
                        _number(header, "BZERO", 0.0),
                        int(blank) if isinstance(blank, int) and unit.data.dtype.kind != "f" else None,
                    )
    except (ImportError, MemoryError, FitsError):
        raise
    except Exception as error:  # astropy may raise anything for a damaged file
        raise _damaged(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    raise FitsError("this FITS file holds no image")
