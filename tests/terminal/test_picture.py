"""Pictures of BLOBs: what is made of each format, and of each kind of bad frame."""

from __future__ import annotations

import gzip
import io
import mmap
import resource
import zlib
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from indifast.picture import BACKGROUND, NoPreview, Picture, picture, stretched


def fits_bytes(data: Any, unit: Any = fits.PrimaryHDU, **cards: Any) -> bytes:
    image = unit(data)
    image.header.update(cards)
    units = [image] if unit is fits.PrimaryHDU else [fits.PrimaryHDU(), image]
    file = io.BytesIO()
    fits.HDUList(units).writeto(file)
    return file.getvalue()


def pillow_bytes(form: str, pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def gradient(dtype: str, height: int = 40, width: int = 60) -> np.ndarray[Any, Any]:
    """An image that gets brighter to the right, with all rows alike."""
    return np.broadcast_to(np.linspace(10, 250, width), (height, width)).astype(dtype)


def small(content: bytes, form: str, columns: int = 30, rows: int = 20, **more: Any) -> Picture:
    return picture(content, form, columns=columns, rows=rows, **more)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_fits_of_each_data_type(dtype: str) -> None:
    seen = small(fits_bytes(gradient(dtype)), ".fits")
    assert (seen.width, seen.height) == (60, 40)
    assert seen.kind == f"{8 * np.dtype(dtype).itemsize} bit" + (" float" if dtype[0] == "f" else "")
    assert seen.pixels.shape == (20, 30)
    assert seen.pixels.dtype == np.uint8
    assert (np.diff(seen.pixels[0].astype(int)) >= 0).all()
    assert seen.pixels[0, 0] < 20
    assert seen.pixels[0, -1] > 235
    assert (seen.pixels == seen.pixels[0]).all()


def test_the_row_order_of_fits_is_respected() -> None:
    upright = gradient("u2").T.copy()
    top_down = small(fits_bytes(upright, ROWORDER="TOP-DOWN"), ".fits").pixels
    assert np.array_equal(small(fits_bytes(upright), ".fits").pixels, top_down)
    assert np.array_equal(small(fits_bytes(upright, ROWORDER="BOTTOM-UP"), ".fits").pixels, top_down[::-1])


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (fits_bytes(gradient("i2"), fits.ImageHDU), ".fits"),
        (fits_bytes(gradient("i2"), fits.CompImageHDU), ".fits.fz"),
        (zlib.compress(fits_bytes(gradient("i2"))), ".fits.z"),
        (fits_bytes(gradient("i2")), "FITS"),
        (gzip.compress(fits_bytes(gradient("i2"))), ".fits.gz"),
        (fits_bytes(np.stack([gradient("i2"), 0 * gradient("i2")])), ".fits"),
    ],
    ids=["extension", "tiles", "deflated", "format without dot", "gzip", "first of two planes"],
)
def test_fits_in_extensions_planes_and_compressed(content: bytes, form: str) -> None:
    assert np.array_equal(small(content, form).pixels, small(fits_bytes(gradient("i2")), ".fits").pixels)


def test_color_planes_keep_their_order() -> None:
    planes = np.stack([gradient("u2"), gradient("u2")[:, ::-1], 0 * gradient("u2")])
    seen = small(fits_bytes(planes), ".fits")
    assert seen.kind == "16 bit RGB"
    assert seen.pixels.shape == (20, 30, 3)
    assert seen.pixels[5, 0, 0] < seen.pixels[5, -1, 0]
    assert seen.pixels[5, 0, 1] > seen.pixels[5, -1, 1]
    assert not seen.pixels[..., 2].any()


@pytest.mark.parametrize("dtype", ["u1", "<u2"])
@pytest.mark.parametrize("packed", [False, True])
def test_raw_streams(dtype: str, packed: bool) -> None:
    frame = gradient(dtype)
    content, form = (zlib.compress(frame.tobytes()), ".stream.z") if packed else (frame.tobytes(), ".stream")
    seen = small(content, form, size=frame.nbytes, sizes=[(60, 40)])
    assert (seen.width, seen.height, seen.kind) == (60, 40, f"{8 * frame.itemsize} bit")
    assert seen.pixels[3, 0] < 20 < 235 < seen.pixels[3, -1]


def test_a_raw_color_stream() -> None:
    frame = np.dstack([gradient("u1"), 0 * gradient("u1"), 0 * gradient("u1")])
    seen = small(frame.tobytes(), ".stream", sizes=[(120, 80), (60, 40)])
    assert seen.kind == "8 bit RGB"
    assert seen.pixels[3, -1, 0] > 235
    assert not seen.pixels[..., 1:].any()


@pytest.mark.parametrize(("form", "name"), [(".jpg", "JPEG"), (".stream_jpg", "JPEG"), (".png", "PNG")])
def test_jpeg_and_png_are_shown_unchanged(form: str, name: str) -> None:
    dim = np.full((400, 600, 3), (10, 20, 30), np.uint8)
    seen = small(pillow_bytes(name, dim), form)
    assert (seen.width, seen.height, seen.kind) == (600, 400, "8 bit RGB")
    assert np.abs(seen.pixels.astype(int) - (10, 20, 30)).max() <= 2
    grey = small(pillow_bytes(name, dim[..., 0]), form)
    assert grey.kind == "8 bit"
    assert np.abs(grey.pixels.astype(int) - 10).max() <= 2


def test_a_png_with_16_bits_is_stretched() -> None:
    seen = small(pillow_bytes("PNG", gradient("u2")), ".png")
    assert seen.kind == "16 bit"
    assert seen.pixels[3, 0] < 20 < 235 < seen.pixels[3, -1]


def test_stars_stand_out_against_a_faint_noisy_background() -> None:
    random = np.random.default_rng(3)
    sky = random.normal(1000, 15, (600, 800))
    sky[100:108, 200:208] += 30_000
    sky[301, 301] = 65_535  # one hot pixel
    seen = small(fits_bytes(sky.clip(0, 65_535).astype("u2")), ".fits", 100, 75).pixels
    assert abs(float(np.median(seen)) - 255 * BACKGROUND) < 10
    assert seen[13, 25] == 255
    assert np.percentile(seen, 95) < 128


def test_pure_noise_looks_like_noise() -> None:
    noise = np.random.default_rng(4).normal(1000, 15, (600, 800)).clip(0, 65_535).astype("u2")
    seen = small(fits_bytes(noise), ".fits", 100, 75).pixels
    assert 40 < np.median(seen) < 80
    assert np.percentile(seen, 95) < 128
    assert seen.std() > 10


@pytest.mark.parametrize(
    ("value", "shade"), [(0, 0), (1000, 128), (65_535, 255)], ids=["all zero", "one value", "saturated"]
)
def test_frames_with_a_single_value(value: int, shade: int) -> None:
    assert (small(fits_bytes(np.full((40, 60), value, "u2")), ".fits").pixels == shade).all()


def test_a_mostly_saturated_frame_shows_its_other_pixels() -> None:
    frame = np.full((40, 60), 65_535, "u2")
    frame[:, :6] = 100
    seen = small(fits_bytes(frame), ".fits").pixels
    assert (seen[:, :2] == 0).all()
    assert (seen[:, 4:] == 255).all()


def test_pixels_without_a_value_are_black() -> None:
    holes = gradient("f4").copy()
    holes[:10], holes[10:12, :30], holes[0, 0] = np.nan, np.inf, -np.inf
    seen = small(fits_bytes(holes), ".fits").pixels
    assert not seen[:5].any()
    assert np.array_equal(seen[8:], small(fits_bytes(gradient("f4")), ".fits").pixels[8:])
    assert not small(fits_bytes(np.full((40, 60), np.nan, "f4")), ".fits").pixels.any()
    blanks = gradient("i2").copy()
    blanks[:10] = -32_768
    seen = small(fits_bytes(blanks, BLANK=-32_768), ".fits").pixels
    assert not seen[:5].any()
    assert seen[8, 15] > 100


def test_the_widest_range_of_floats() -> None:
    assert set(np.unique(stretched(np.array([[-1.7e308, 1.7e308]] * 2)))) == {0, 255}
    assert set(np.unique(stretched(np.array([[0, 5e-324]] * 2)))) <= {0, 255}


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows", "shape"),
    [
        (1280, 1024, 50, 80, (40, 50)),
        (1024, 1280, 50, 40, (40, 32)),
        (4, 3, 40, 40, (30, 40)),
        (5000, 1, 50, 40, (1, 50)),
        (1, 5000, 50, 40, (40, 1)),
        (7, 7, 1, 1, (1, 1)),
    ],
)
def test_proportions_are_kept(width: int, height: int, columns: int, rows: int, shape: tuple[int, int]) -> None:
    seen = small(bytes(width * height), ".stream", columns, rows, sizes=[(width, height)])
    assert seen.pixels.shape == shape


def test_large_frames_are_sampled() -> None:
    """The frame is a sparse mapping, which would need its full memory if all of it were read."""
    with mmap.mmap(-1, 2 << 30) as sparse:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = picture(memoryview(sparse), ".stream", sizes=[(1 << 15, 1 << 15)], columns=160, rows=100)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert seen.pixels.shape == (100, 100)
    assert grown < 1 << 20  # KiB: half of the mapping


@pytest.mark.parametrize(
    ("content", "form", "sentence"),
    [
        (b"x", ".xyz", "no preview of .xyz"),
        (b"x", "", "no preview, as the driver specifies no format"),
        (b"", ".fits", "no preview of a frame without content"),
        (b"x" * 7, ".stream", "7 bytes fit none"),
        (b"x" * 7, ".stream.z", r"\.stream\.z frame cannot be read"),
        (b"not FITS", ".fits", r"\.fits frame cannot be read"),
        (fits_bytes(gradient("u2"))[:4000], ".fits", r"\.fits frame cannot be read"),
        (fits_bytes(None), ".fits", "holds no image"),
        (zlib.compress(fits_bytes(gradient("u2")))[:-20], ".fits.z", "incomplete"),
        (b"\xff\xd8 not JPEG", ".jpg", r"\.jpg frame cannot be read"),
        (pillow_bytes("JPEG", gradient("u1", 400, 600))[:600], ".jpg", r"\.jpg frame cannot be read"),
        (pillow_bytes("PNG", gradient("u1", 400, 600))[:200], ".png", r"\.png frame cannot be read"),
    ],
)
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # other tests may leave open files behind
def test_a_sentence_says_why_there_is_no_preview(content: bytes, form: str, sentence: str) -> None:
    with pytest.raises(NoPreview, match=sentence) as raised:
        small(content, form, sizes=[(60, 40)])
    assert "\n" not in str(raised.value)


def test_a_raw_stream_of_a_camera_that_does_not_report_its_frame_size() -> None:
    with pytest.raises(NoPreview, match="does not report its frame size"):
        small(b"x" * 7, ".stream")
