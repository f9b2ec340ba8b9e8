"""What pictures of frames show: which part, how bright, in which colors."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from indifast.picture import Opened, Stretch
from indifast.web.mosaics import of_camera
from indifast.web.pictures import ROOT, Negative
from indifast.web.views import PATTERNS, WEBP, View

BY_HAND = Stretch(0, 127.5, 255)
"""Values are shown as they are."""


def shown(frame: Opened, **view: Any) -> np.ndarray[Any, Any]:
    """Return the pixels of a picture, without losses."""
    given = {"stretch": BY_HAND, "bayer": "off"} | view
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indifast.web.pictures._FORMATS", {"image/jpeg": ("PNG", {})})
        made = Negative(frame).picture(View(**given))
    return np.asarray(PIL.Image.open(io.BytesIO(made.image)))


def ramp(kind: str, rows: int = 30, columns: int = 40) -> np.ndarray[Any, Any]:
    return (np.arange(rows * columns).reshape(rows, columns) % 251).astype(kind)


@pytest.mark.parametrize(
    ("kind", "factor", "offset"),
    [("u1", 1, 0), (">i2", 1, 0), ("<u2", 1, 0), (">i2", 1, 32768), (">i4", 1, 0), (">f4", 1, 0), (">f8", 2, -3),
     (">i2", 0.5, 7.0), ("<i8", 1, 0)],
)  # fmt: skip
@pytest.mark.parametrize("size", [640, 160])
def test_values_become_brightness(kind: str, factor: float, offset: float, size: int) -> None:
    """Whatever pixels are stored as, and whether they are seen one by one or as means."""
    values = ramp("f8", 300, 320)
    stored = np.rint((values - offset) / factor) if kind[-2] != "f" else (values - offset) / factor
    picture = shown(Opened(stored.astype(kind), "", factor, offset), size=size)
    assert picture.shape == ((300, 320) if size == 640 else (150, 160))
    expected = values if size == 640 else values.reshape(150, 2, 160, 2).mean(axis=(1, 3))
    assert np.abs(picture.astype(float) - expected).max() <= 1 + factor / 2


def test_pixels_without_a_value_are_left_out() -> None:
    stored = np.full((200, 320), 100, ">i2")
    stored[:, 1::2] = -32768
    floats = np.where(stored == -32768, np.nan, stored).astype(">f4")
    for frame in (Opened(stored, "", blank=-32768), Opened(floats, "")):
        assert (shown(frame, size=160) == 100).all()
        assert set(np.unique(shown(frame))) == {0, 100}


@pytest.mark.parametrize(
    ("region", "expected"),
    [((5, 7, 10, 4), (5, 7, 10, 4)), ((5.5, 7.5, 10, 4), (5, 7, 11, 5)), ((35, 25, 100, 100), (35, 25, 5, 5)),
     ((500, 500, 5, 5), (39, 29, 1, 1)), ((0, 0, 1e300, 1e300), (0, 0, 40, 30)), (None, (0, 0, 40, 30))],
)  # fmt: skip
def test_a_region_is_seen_pixel_by_pixel(region: Any, expected: tuple[int, int, int, int]) -> None:
    frame = Opened(ramp("u1"), "8 bit")
    left, top, width, height = expected
    assert (shown(frame, region=region) == frame.pixels[top : top + height, left : left + width]).all()
    assert Negative(frame).picture(View(region=region)).about["region"] == list(expected)


def test_a_thin_frame_and_a_single_pixel() -> None:
    assert shown(Opened(ramp("u1", 1, 2000), ""), size=160).shape == (1, 166)
    assert shown(Opened(ramp("u1", 2000, 3), ""), size=160, bayer="RGGB").shape == (166, 1, 3)
    assert shown(Opened(ramp("u1", 1, 1), ""), bayer="RGGB").shape == (1, 1)


def mosaic(pattern: str, colors: tuple[int, int, int], rows: int = 20, columns: int = 30) -> np.ndarray[Any, Any]:
    """Return what a sensor with these filters sees of something of one color."""
    square = np.array([colors["RGB".index(each)] for each in pattern], ">u2").reshape(2, 2)
    return np.tile(square, (rows // 2, columns // 2))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("size", [640, 160])
def test_a_mosaic_becomes_colors(pattern: str, size: int) -> None:
    """The colors of every pixel, at every size, and also of regions that begin anywhere."""
    frame = Opened(mosaic(pattern, (200, 100, 50), 300, 320), "", header={"BAYERPAT": f" {pattern.lower()} "})
    assert (shown(frame, bayer="auto", size=size) == (200, 100, 50)).all()
    assert (shown(frame, bayer=pattern, size=size, region=(3, 5, 81, 91)) == (200, 100, 50)).all()
    assert shown(frame, bayer="off").ndim == 2


@pytest.mark.parametrize(
    ("header", "upside_down", "rows", "pattern"),
    [({}, False, 20, "RGGB"), ({"XBAYROFF": 1}, False, 20, "GRBG"), ({"YBAYROFF": 1.0}, False, 20, "GBRG"),
     ({"XBAYROFF": 3, "YBAYROFF": 1}, False, 20, "BGGR"), ({}, True, 20, "GBRG"), ({}, True, 21, "RGGB"),
     ({"BAYERPAT": "CYMG"}, False, 20, None), ({"BAYERPAT": 5}, False, 20, None)],
)  # fmt: skip
def test_where_a_mosaic_begins(header: dict[str, Any], upside_down: bool, rows: int, pattern: str | None) -> None:
    frame = Opened(ramp("u1", rows), "", header={"BAYERPAT": "RGGB"} | header, upside_down=upside_down)
    assert Negative(frame).picture(View()).about["bayer"] == pattern


def camera(kind: str | None = "grbg ", across: str = "0", down: str = "0", binning: int = 1, **vectors: Any) -> Any:
    """Return a camera that says this about its filters."""

    def vector(vectortype: str, **values: Any) -> Any:
        data = {name: SimpleNamespace(getfloatvalue=lambda each=each: each) for name, each in values.items()}
        return SimpleNamespace(enable=True, vectortype=vectortype, get=values.get, data=data)

    texts = {"CFA_OFFSET_X": across, "CFA_OFFSET_Y": down} | ({} if kind is None else {"CFA_TYPE": kind})
    known = {
        "CCD_CFA": vector("TextVector", **texts),
        "CCD_BINNING": vector("NumberVector", HOR_BIN=1, VER_BIN=binning),
    }
    return SimpleNamespace(data={name: each for name, each in (known | vectors).items() if each is not None})


@pytest.mark.parametrize(
    ("device", "header", "upside_down", "pattern"),
    [(camera(), {}, False, "GRBG"), (camera(across="1"), {}, False, "RGGB"), (camera(down=" 3 "), {}, False, "BGGR"),
     (camera(across="x", down="2"), {}, False, "GRBG"), (camera(), {}, True, "BGGR"),
     (camera(), {"BAYERPAT": "GBRG"}, False, "GBRG"), (camera(), {"BAYERPAT": "CYMG"}, False, None),
     (camera("CYMG"), {}, False, None), (camera(None), {}, False, None), (camera(binning=2), {}, False, None),
     (camera(CCD_BINNING=None), {}, False, "GRBG"), (camera(CCD_CFA=None), {}, False, None), (None, {}, False, None)],
)  # fmt: skip
def test_the_mosaic_of_a_camera_counts_if_the_header_says_nothing(
    device: Any, header: dict[str, Any], upside_down: bool, pattern: str | None
) -> None:
    frame = Opened(ramp("u1", 20), "", header=header, upside_down=upside_down)
    assert Negative(frame, of_camera(device, "CCD1")).picture(View()).about["bayer"] == pattern


def test_frames_that_the_mosaic_of_a_camera_is_not_about() -> None:
    assert of_camera(camera(), "CCD2") is None, "of the guide head"
    seen = Opened(ramp("u1"), "8 bit", for_the_eye=True)
    assert Negative(seen, of_camera(camera(), "CCD1")).picture(View()).about["bayer"] is None


def test_interpolated_colors_are_the_means_of_those_around() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (8, 8)).astype(">i2")
    red, green, blue = np.moveaxis(shown(Opened(pixels, ""), bayer="RGGB").astype(int), 2, 0)
    assert red[2, 2] == pixels[2, 2] and blue[3, 3] == pixels[3, 3] and green[2, 3] == pixels[2, 3]
    assert red[2, 3] == (int(pixels[2, 2]) + pixels[2, 4]) // 2
    assert blue[2, 2] == (int(pixels[1, 1]) + pixels[1, 3] + pixels[3, 1] + pixels[3, 3]) // 4
    assert green[2, 2] == (int(pixels[1, 2]) + pixels[3, 2] + pixels[2, 1] + pixels[2, 3]) // 4


def sky(rows: int = 200, columns: int = 300) -> np.ndarray[Any, Any]:
    pixels = np.random.default_rng(2).normal(1000, 20, (rows, columns))
    pixels[50:52, 60:62] = 60_000
    return pixels.astype(">u2")


def test_the_automatic_stretch_is_that_of_the_whole_frame() -> None:
    negative = Negative(Opened(sky(), "16 bit"))
    whole, part = (negative.picture(View(region=region)).about for region in (None, (55, 45, 20, 20)))
    assert whole["stretch"] == part["stretch"]
    assert whole["automatic"] is True
    black, middle, white = whole["stretch"]
    assert 900 < black < 1000 < middle < white
    picture = shown(Opened(sky(), ""), stretch=None)
    assert 30 < np.median(picture) < 70
    assert picture[50, 60] == 255


def test_the_sky_of_a_mosaic_is_gray() -> None:
    tinted = sky() * np.tile([[1.0, 2.0], [2.0, 1.5]], (100, 150))
    means = shown(Opened(tinted.astype(">u2"), ""), stretch=None, bayer="RGGB").reshape(-1, 3).mean(axis=0)
    assert np.ptp(means) < 5, means


def test_the_histogram_is_of_the_whole_frame() -> None:
    values = np.zeros((100, 100), ">u2")
    values[:, 50:] = 1000
    values[0, 0] = 8000
    histogram = Negative(Opened(values, "")).picture(View(region=(0, 0, 5, 5))).about["histogram"]
    counts = histogram["counts"]
    assert (histogram["low"], histogram["high"]) == (0, 8000)
    half = round((1000 / 8000) ** (1 / ROOT) * len(counts))
    assert (counts[0], counts[half], counts[-1]) == (4999, 5000, 1)
    nothing = Negative(Opened(np.full((5, 5), np.nan), "")).picture(View())
    assert nothing.about["histogram"]["counts"] == []


def test_a_picture_for_the_eye_stays_as_it_is() -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (40, 50, 3), np.uint8)
    frame = Opened(pixels, "8 bit RGB", for_the_eye=True)
    assert (shown(frame, stretch=None) == pixels).all()
    assert shown(frame, stretch=Stretch(100, 150, 200)).min() == 0


def test_a_webp() -> None:
    made = Negative(Opened(ramp("u1"), "")).picture(View(type=WEBP))
    assert PIL.Image.open(io.BytesIO(made.image)).format == "WEBP"
