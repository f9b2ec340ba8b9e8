"""The simulated sky: FITS files that other programs can read, with frames that differ."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits

from indifast.cli.demo.starfield import StarField, number_of
from indifast.fits import read_image


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
        image = read_image(sky.frame()).scaled()
        assert image.max() <= 65535
        assert image.min() > 500


def test_a_field_too_small_for_a_star_is_refused() -> None:
    with pytest.raises(ValueError, match="16x16"):
        StarField(15, 100)
