"""Pictures made of characters: the right shades, whatever colors the terminal has."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from indifast.terminal.blocks import DOTS, UPPER_HALF, rendered


def test_a_cell_shows_two_pixels() -> None:
    pixels = np.array([[0, 255], [255, 0], [96, 96], [96, 96]], np.uint8)
    first, second = rendered(pixels, "truecolor")
    assert [segment.text for segment in first] == [UPPER_HALF, UPPER_HALF]
    colors = [(segment.style.color.triplet, segment.style.bgcolor.triplet) for segment in first if segment.style]
    assert colors == [((0, 0, 0), (255, 255, 255)), ((255, 255, 255), (0, 0, 0))]
    assert [segment.text for segment in second] == [2 * UPPER_HALF]
    assert second.cell_length == 2


def test_colors_and_an_odd_number_of_rows() -> None:
    (line,) = rendered(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), "256")
    colors = [(segment.style.color.triplet, segment.style.bgcolor.triplet) for segment in line if segment.style]
    assert colors == [((255, 0, 0), (0, 0, 0)), ((0, 0, 255), (0, 0, 0))]


@pytest.mark.parametrize("color_system", ["standard", None])
def test_shades_of_grey_are_drawn_with_few_colors(color_system: str | None) -> None:
    ramp = np.tile(np.arange(0, 256, dtype=np.uint8), (2, 1))
    (line,) = rendered(ramp, color_system)
    assert line.cell_length == 256
    assert set(line.text) == set(DOTS)
    assert line.text[0] == " "
    assert line.text[-1] == " "  # a white background
    assert np.array_equal(rendered(np.dstack([ramp] * 3), color_system)[0].text, line.text)


def test_sixteen_colors_are_enough_for_the_shades() -> None:
    """A terminal with 16 colors is sent the codes of its own black, greys and white only."""
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
