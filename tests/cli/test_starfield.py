"""The simulated sky: FITS files that other programs can read, with frames that differ."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from indifast.cli.demo.picture import pixels_of, stretched, write_png
from indifast.cli.demo.starfield import StarField, number_of


@pytest.mark.parametrize(("width", "height"), [(16, 16), (37, 20), (640, 480)])
def test_astropy_reads_a_frame(width: int, height: int) -> None:
    data = bytes(StarField(width, height).frame())
    assert len(data) % 2880 == 0
    with fits.open(io.BytesIO(data)) as file:
        file.verify("exception")
        image = file[0].data
        assert image.dtype == np.uint16
        assert image.shape == (height, width)
        assert image.min() < image.max()
        assert file[0].header["FRAME"] == 1
        assert file[0].header["DATE-OBS"].startswith("2")


def test_frames_differ_and_are_numbered() -> None:
    sky = StarField(64, 48)
    frames = [bytes(sky.frame()) for _ in range(5)]
    assert [number_of(frame) for frame in frames] == [1, 2, 3, 4, 5]
    assert len({frame[2880:] for frame in frames}) == 5


def test_pixels_stay_in_range_while_stars_drift() -> None:
    sky = StarField(32, 32, stars=200)
    for _ in range(500):
        image = pixels_of(bytes(sky.frame())).astype(int) + 32768
        assert image.max() <= 65535
        assert image.min() > 500


def test_a_field_too_small_for_a_star_is_refused() -> None:
    with pytest.raises(ValueError, match="16x16"):
        StarField(15, 100)


def test_the_png_has_the_stretched_picture(tmp_path: Path) -> None:
    grey = stretched(pixels_of(bytes(StarField(48, 32).frame())))
    assert grey.shape == (32, 48)
    assert grey.max() == 255
    path = tmp_path / "frame.png"
    write_png(path, grey)
    assert np.array_equal(read_png(path), grey)


def test_a_flat_picture_can_be_stretched() -> None:
    assert not stretched(np.full((8, 8), 7, ">i2")).any()


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800)])
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="FITS"):
        pixels_of(data)


def read_png(path: Path) -> np.ndarray:
    """Return the pixels of an 8-bit grey PNG without filters, and verify the checksums of its chunks."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + content),)
        chunks[kind] = content
        at += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour, list(chunks)[-1]) == (8, 0, b"IEND")
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]
