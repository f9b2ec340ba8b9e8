"""What the simulated camera takes pictures of, and how it writes them. Stands in for a camera and its library."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

BLOCK, CARD = 2880, 80  # FITS files consist of blocks, and their headers of cards
RADIUS, SIGMA = 6, 1.6  # pixels of a star
BIAS = 100  # value of a pixel without any light


class Sky:
    """Stars that sway 3 pixels to the left and right every two minutes, as above a mount with a worm gear."""

    def __init__(self, width: int, height: int, stars: int = 60) -> None:
        random = np.random.default_rng(1)  # the same sky every time
        self.shape = (height, width)
        self.places = random.uniform((RADIUS, RADIUS), (height - RADIUS, width - RADIUS), (stars, 2))
        self.brightness = 40_000 * random.power(0.3, stars)  # per second, in the brightest pixel

    def light(self, kind: str) -> np.ndarray:
        """Return the light that falls on each pixel in a second, for a kind of frame: `Light`, `Flat` or another."""
        if kind not in ("Light", "Flat"):
            return np.full(self.shape, 0.5)  # the shutter is closed
        light = np.full(self.shape, 20.0 if kind == "Light" else 8000.0)
        if kind == "Light":
            rows, columns = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
            sway = 3 * math.sin(2 * math.pi * time.time() / 120)
            for (y, x), brightness in zip(self.places + np.array((0, sway)), self.brightness, strict=True):
                row, column = round(y), min(max(round(x), RADIUS), self.shape[1] - RADIUS - 1)
                star = np.exp(-((rows + row - y) ** 2 + (columns + column - x) ** 2) / (2 * SIGMA**2))
                spot = light[row - RADIUS : row + RADIUS + 1, column - RADIUS : column + RADIUS + 1]
                spot += brightness * star[: spot.shape[0], : spot.shape[1]]
        return light

    def picture(self, seconds: float, kind: str, frame: tuple[slice, slice], binning: tuple[int, int]) -> np.ndarray:
        """Return a picture of part of the sky (rows and columns), with noise, as 16-bit pixels."""
        light = self.light(kind)[frame] * (0 if kind == "Bias" else seconds)
        down, right = binning
        height, width = light.shape[0] // down, light.shape[1] // right
        binned = light[: height * down, : width * right].reshape(height, down, width, right).sum(axis=(1, 3))
        random = np.random.default_rng()
        noisy = random.normal(BIAS + binned, np.sqrt(binned + 25))
        return noisy.clip(0, 65535).astype(np.uint16)


def fits_file(pixels: np.ndarray, cards: Mapping[str, str | float]) -> bytes:
    """Return a FITS file with these 16-bit pixels and header cards."""
    height, width = pixels.shape
    layout = {"BITPIX": 16, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height, "BZERO": 32768, "BSCALE": 1}
    header = [f"SIMPLE  = {'T':>20}", *(_card(name, value) for name, value in {**layout, **cards}.items()), "END"]
    start = "".join(card.ljust(CARD) for card in header).encode("ascii")
    data = (pixels ^ 0x8000).astype(">u2").tobytes()  # signed, with an offset of 32768
    return start + b" " * (-len(start) % BLOCK) + data + bytes(-len(data) % BLOCK)


def _card(name: str, value: str | float) -> str:
    if not isinstance(value, str):
        return f"{name:8}= {value:>#20.10G}" if isinstance(value, float) else f"{name:8}= {value:>20}"
    printable = "".join(character if " " <= character <= "~" else "?" for character in value)
    quoted = printable.replace("'", "''")[: CARD - 13]
    return f"{name:8}= '{quoted:8}'"
