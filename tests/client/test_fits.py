"""FITS images: the same values as astropy's, as views without a copy, and one sentence for what can't be read."""

from __future__ import annotations

import builtins
import io
import mmap
import sys
import warnings
from typing import Any

import numpy
import pytest
from astropy.io import fits
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from indifast.client import frame_array
from indifast.fits import BLOCK, CARD, FitsError, read_header, read_image
from indifast.transport import shm


def file_of(*units: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(list(units)).writeto(file, output_verify="ignore")
    return file.getvalue()


def made(*cards: str, data: bytes = b"", end: str = "END") -> bytes:
    """Return a file with these cards as they are."""
    header = "".join(card.ljust(CARD)[:CARD] for card in (*cards, end)).encode("latin-1")
    return header.ljust(-(-len(header) // BLOCK) * BLOCK) + data


PLAIN = ("SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2",
         "NAXIS1  =                    3", "NAXIS2  =                    2")  # fmt: skip
PIXELS = numpy.arange(6, dtype=">i2").reshape(2, 3)

_dtypes = st.sampled_from(["u1", "i1", ">i2", ">u2", ">i4", ">u4", ">i8", ">u8", ">f4", ">f8"])
_shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@settings(deadline=None, max_examples=200)
@given(_dtypes, _shapes, st.integers(0, 99), st.booleans(), st.integers(0, 3))
def test_values_are_those_of_astropy(dtype: str, shape: tuple[int, ...], seed: int, empty: bool, texts: int) -> None:
    raw = numpy.random.default_rng(seed).bytes(int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize)
    pixels = numpy.frombuffer(raw, dtype).reshape(shape)
    header = fits.Header([(f"TEXT{number}", "it's " * 20 * number) for number in range(texts)])
    units = [fits.PrimaryHDU(), fits.ImageHDU(pixels, header)] if empty else [fits.PrimaryHDU(pixels, header)]
    content = file_of(*units)
    image = read_image(content)
    expected = fits.open(io.BytesIO(content))[int(empty)]
    assert numpy.array_equal(image.scaled(), expected.data, equal_nan=image.stored.dtype.kind == "f")
    assert image.scaled().dtype.newbyteorder("=") == expected.data.dtype.newbyteorder("=")
    assert {key: image.header[key] for key in header} == {key: expected.header[key].rstrip() for key in header}
    assert numpy.shares_memory(image.stored, numpy.frombuffer(content, "u1"))


@settings(deadline=None)
@given(
    st.sampled_from([8, 16, 32, 64, -32, -64]),
    st.sampled_from([1, 2, 0.5, -1]),
    st.sampled_from([0, 1, 32768, 100.5, -128]),
    st.sampled_from([None, 3]),
)
def test_scaled_values_are_those_of_astropy(bits: int, scale: float, zero: float, blank: int | None) -> None:
    dtype = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}[bits]
    cards = [PLAIN[0], f"BITPIX  = {bits:>20}", *PLAIN[2:], f"BSCALE  = {scale:>20}", f"BZERO   = {zero:>20}"]
    assume(blank is None or zero != -128)  # astropy fails
    if blank is not None:
        cards.append(f"BLANK   = {blank:>20}")
    content = made(*cards, data=numpy.arange(6).astype(dtype).tobytes().ljust(BLOCK, b"\0"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = fits.open(io.BytesIO(content))[0].data
    found = read_image(content).scaled()
    assert numpy.allclose(found, expected, equal_nan=True)
    assert found.dtype.kind == expected.dtype.kind


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda data: numpy.frombuffer(data, ">u2"), "mmap", "shared"]
)
def test_no_buffer_is_copied(kind: Any) -> None:
    content = file_of(fits.PrimaryHDU(numpy.arange(5000, dtype=">u2").reshape(50, 100)))
    if kind == "mmap":
        buffer: Any = mmap.mmap(-1, len(content))
        buffer[:] = content
    elif kind == "shared":
        fd = shm.share(content)
        buffer = shm.view(fd, len(content))  # what a client is given of an attached BLOB
        shm.close_all([fd])
    else:
        buffer = kind(content)
    image = read_image(buffer)
    assert numpy.shares_memory(image.stored, numpy.frombuffer(buffer, "u1"))
    assert (image.stored.dtype, image.bzero) == (numpy.dtype(">i2"), 32768)
    assert numpy.array_equal(image.scaled(), numpy.arange(5000).reshape(50, 100))
    assert numpy.array_equal(frame_array(buffer, ".fits"), image.scaled())


@pytest.mark.parametrize(
    ("card", "keyword", "value"),
    [
        ("EXPTIME =                  0.5 / seconds", "EXPTIME", 0.5),
        ("GAIN    = 1.5D3", "GAIN", 1500.0),
        ("OFFSET  =-7", "OFFSET", -7),
        ("OBJECT  = 'it''s M/31 '  / name", "OBJECT", "it's M/31"),
        ("OBSERVER= 'Jürgen'", "OBSERVER", "J\ufffdrgen"),
        ("BROKEN  = 'no end", "BROKEN", "no end"),
        ("EMPTY   = ", "EMPTY", None),
        ("EMPTYTXT= ''", "EMPTYTXT", ""),
        ("COOLER  = F", "COOLER", False),
        ("DATE-OBS= 2026-01-02T03:04:05", "DATE-OBS", "2026-01-02T03:04:05"),
        ("HIERARCH ESO DET NAME = 'CCD' / x", "eso det name", "CCD"),
        ("lower   = 1", "LOWER", 1),
        ("NUL     = 5\0\0\0", "NUL", 5),
    ],
)
def test_headers_are_read_as_cameras_write_them(card: str, keyword: str, value: object) -> None:
    content = made(*PLAIN, card, "COMMENT = no value", "", "BZERO   = ", data=PIXELS.tobytes())
    image = read_image(content)  # not padded to whole blocks either
    assert image.header[keyword] == value
    assert type(image.header[keyword]) is type(value)
    assert "COMMENT" not in image.header
    assert numpy.array_equal(image.scaled(), PIXELS)
    assert read_header(content)[keyword] == value


def test_a_continuation_without_text_adds_nothing() -> None:
    cards = (*PLAIN, "TEXT    = 'begun&'", "CONTINUE  / no text", "NEXT    = 1")
    header = read_header(made(*cards, data=PIXELS.tobytes()))
    assert (header["TEXT"], header["NEXT"]) == ("begun", 1)


def test_an_end_without_padding_and_repeated_keywords() -> None:
    content = made(*PLAIN, "GAIN    = 1", "GAIN    = 2", end="END\0\0\0", data=PIXELS.tobytes())
    assert read_image(content).header["GAIN"] == 1
    with pytest.raises(FitsError, match="0 of 12 bytes of pixels"):
        read_image(made(*PLAIN).rstrip())


def test_tables_are_passed_over() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "PJ()", array=[[1, 2], [3]])])
    content = file_of(fits.PrimaryHDU(), table, fits.ImageHDU(PIXELS), fits.ImageHDU(PIXELS + 1))
    assert numpy.array_equal(read_image(content).scaled(), PIXELS)


@pytest.mark.parametrize("dtype", [">i2", ">u2"])
def test_compressed_images_are_read_by_astropy(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = numpy.arange(10_000, dtype=dtype).reshape(100, 100)
    content = file_of(fits.PrimaryHDU(), fits.CompImageHDU(pixels, fits.Header([("GAIN", 7)])))
    assert numpy.array_equal(read_image(content).scaled(), pixels)
    assert read_image(memoryview(content)).header["GAIN"] == 7
    usual = builtins.__import__

    def without_astropy(name: str, *rest: Any) -> Any:
        if name.startswith("astropy"):
            raise ImportError(name)
        return usual(name, *rest)

    for name in [name for name in sys.modules if name.startswith("astropy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_astropy)
    with pytest.raises(ImportError, match=r"a compressed image, which needs astropy: pip install indifast\[fits\]"):
        read_image(content)
    assert numpy.array_equal(read_image(made(*PLAIN, data=PIXELS.tobytes())).scaled(), PIXELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with SIMPLE"),
        (b"SIMPLE  =", "header has no END"),
        (b"SIMPLE" * 1_000_000, "header has no END"),
        (made(*PLAIN), "0 of 12 bytes of pixels"),
        (made(*PLAIN[:3]), "NAXIS2 is missing"),
        (made(PLAIN[0], "BITPIX  = 12", *PLAIN[2:]), "BITPIX is 12"),
        (made(PLAIN[0], *PLAIN[2:]), "BITPIX is None"),
        (made(*PLAIN[:4], "NAXIS2  = -2"), "NAXIS2 is -2"),
        (made(*PLAIN[:4], "NAXIS2  = T"), "NAXIS2 is True"),
        (made(*PLAIN[:4], "NAXIS2  = 99999999999999999999999999"), "bytes of pixels"),
        (made(*PLAIN[:2], "NAXIS   = 999"), "999 axes"),
        (made(*PLAIN, "BZERO   = 'x'", data=bytes(12)), "BZERO is 'x'"),
        (made(*PLAIN[:2], "NAXIS   = 0"), "holds no image"),
        (made(*PLAIN[:4], "NAXIS2  = 0"), "holds no image"),
        (made(*PLAIN[:2], "NAXIS   = 0", data=b"trailing"), "holds no image"),
        (made(*PLAIN[:2], "NAXIS   = 0", data=b"XTENSION= 'IMAGE   '"), "header has no END"),
    ],
)
def test_other_files_are_refused_in_one_sentence(content: bytes, message: str) -> None:
    with pytest.raises(FitsError, match=message) as raised:
        read_image(content)
    assert str(raised.value).startswith("this FITS file ")
    assert "\n" not in str(raised.value)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=8)), max_size=4), st.integers(0, 6000))
def test_damaged_files_give_an_image_or_an_error(changes: list[tuple[int, bytes]], length: int) -> None:
    content = bytearray(made(*PLAIN, "BZERO   = 32768", "BSCALE  = 1", data=bytes(BLOCK)))
    for place, new in changes:
        content[place : place + len(new)] = new
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(bytes(content[:length]))
            image.scaled()
    except FitsError as error:
        assert "\n" not in str(error)
    else:
        assert image.stored.nbytes <= length
