"""Pictures out of characters: the right shades, whatever the terminal has."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from indifast.terminal.blocks import DOTS, UPPER_HALF, rendered


def test_two_pixels_share_a_cell() -> None:
    pixels = np.array([[0, 255], [255, 0], [96, 96], [96, 96]], np.uint8)
    first, second = rendered(pixels, "truecolor")
    assert [segment.text for segment in first] == [UPPER_HALF, UPPER_HALF]
    colours = [(segment.style.color.triplet, segment.style.bgcolor.triplet) for segment in first if segment.style]
    assert colours == [((0, 0, 0), (255, 255, 255)), ((255, 255, 255), (0, 0, 0))]
    assert [segment.text for segment in second] == [2 * UPPER_HALF]
    assert second.cell_length == 2


def test_colours_and_an_odd_row() -> None:
    (line,) = rendered(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), "256")
    colours = [(segment.style.color.triplet, segment.style.bgcolor.triplet) for segment in line if segment.style]
    assert colours == [((255, 0, 0), (0, 0, 0)), ((0, 0, 255), (0, 0, 0))]


@pytest.mark.parametrize("color_system", ["standard", None])
def test_few_colours_make_shades_of_grey(color_system: str | None) -> None:
    ramp = np.tile(np.arange(0, 256, dtype=np.uint8), (2, 1))
    (line,) = rendered(ramp, color_system)
    assert line.cell_length == 256
    assert set(line.text) == set(DOTS)
    assert line.text[0] == " "
    assert line.text[-1] == " "  # nothing but background: white
    assert np.array_equal(rendered(np.dstack([ramp] * 3), color_system)[0].text, line.text)


def test_sixteen_colours_are_enough_for_the_shades() -> None:
    """What is sent to such a terminal names its own black, grey and white, and no other colour."""
    console = Console(color_system="standard", force_terminal=True, legacy_windows=False)
    (line,) = rendered(np.tile(np.arange(0, 256, dtype=np.uint8), (2, 1)), "standard")
    assert console.color_system == "standard"
    codes = {
        code
        for segment in line
        if segment.style
        for text in [segment.style.render("x", color_system=console._color_system)]
        for code in text.partition("m")[0].removeprefix("\x1b[").split(";")
    }
    assert codes == {"90", "37", "97", "40", "100", "47", "107"}
