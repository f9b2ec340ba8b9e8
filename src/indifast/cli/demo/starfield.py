"""Simulated sky: FITS frames of drifting stars over noise, generated faster than most cameras read out."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from indifast.fits import BLOCK, CARD

_STAMP = 13
_STEPS = 4
_SPARE = 1 << 16
_DATE, _FRAME = 8, 9


class StarField:
    """Pictures of the same stars, which drift a little from one picture to the next.

    Pixels are unsigned 16-bit, stored as FITS requires: signed, big-endian, BZERO 32768.

    Args:
        width: Pixels, at least 16.
        height: Pixels, at least 16.
        stars: Number of stars.
        seed: The same seed gives the same sky.

    Raises:
        ValueError: The size is too small.
    """

    def __init__(self, width: int, height: int, *, stars: int = 60, seed: int = 1) -> None:
        if min(width, height) < _STAMP + 3:
            raise ValueError(f"a star field needs at least 16x16 pixels, not {width}x{height}")
        self.width, self.height, self.number = width, height, 0
        random = np.random.default_rng(seed)
        grain = random.normal(1200.0, 35.0, min(width * height, 1 << 20)) - 32768
        # Each frame copies a slice of this from a random offset: it looks like fresh noise, and costs only a copy.
        self._noise = np.resize(grain.astype(">i2"), width * height + _SPARE)
        self._random = random
        self._places = random.uniform((0, 0), (height - _STAMP, width - _STAMP), (stars, 2))
        self._drift = np.array((0.11, 0.37))
        self._brightness = 60000 * random.power(0.35, stars) ** 2 + 500
        self._stamps = _stamps()
        size = width * height * 2
        self._file = bytearray(BLOCK + -(-size // BLOCK) * BLOCK)
        self._file[:BLOCK] = _header(width, height)
        self._pixels = np.frombuffer(self._file, ">i2", width * height, BLOCK).reshape(height, width)

    def frame(self) -> bytearray:
        """Return the next picture as a FITS file. Each call returns the same buffer, with new content."""
        offset = int(self._random.integers(_SPARE))
        self._pixels[...] = self._noise[offset : offset + self._pixels.size].reshape(self._pixels.shape)
        room = np.array((self.height - _STAMP, self.width - _STAMP))
        places = (self._places + self.number * self._drift) % room
        whole = places.astype(int)
        steps = ((places - whole) * _STEPS).astype(int)
        for (row, column), (down, right), brightness in zip(whole, steps, self._brightness, strict=True):
            spot = self._pixels[row : row + _STAMP, column : column + _STAMP]
            light = spot + (self._stamps[down, right] * brightness).astype(np.int32)
            spot[...] = np.minimum(light, 32767)
        self.number += 1
        self._card(_DATE, "DATE-OBS", f"'{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}'")
        self._card(_FRAME, "FRAME", str(self.number))
        return self._file

    def _card(self, index: int, name: str, value: str) -> None:
        self._file[index * CARD : (index + 1) * CARD] = _card(name, value)


def number_of(fits: bytes | memoryview) -> int:
    """Return the number of a frame in its star field, counted from 1."""
    return int(bytes(fits[_FRAME * CARD + 10 : _FRAME * CARD + 30]))


def _stamps() -> np.ndarray:
    """Return images of a star with peak 1 for each of 4 x 4 positions within a pixel."""
    axis = np.arange(_STAMP) - _STAMP // 2
    shifts = np.arange(_STEPS) / _STEPS
    profile = np.exp(-((axis - shifts[:, None]) ** 2) / (2 * 1.6**2))
    return np.asarray(profile[:, None, :, None] * profile[None, :, None, :])


def _card(name: str, value: str) -> bytes:
    """Return a header card: fixed format for numbers and logicals, free format for strings.

    See the FITS standard 4.0, section 4.2.
    """
    text = f"{name:8}= {value:<20}" if value.startswith("'") else f"{name:8}= {value:>20}"
    return text.ljust(CARD).encode("ascii")


def _header(width: int, height: int) -> bytes:
    cards = [
        ("SIMPLE", "T"),
        ("BITPIX", "16"),
        ("NAXIS", "2"),
        ("NAXIS1", str(width)),
        ("NAXIS2", str(height)),
        ("BZERO", "32768"),
        ("BSCALE", "1"),
        ("OBJECT", "'simulated stars'"),
        ("DATE-OBS", "''"),
        ("FRAME", "0"),
    ]
    return (b"".join(_card(*card) for card in cards) + b"END").ljust(BLOCK)
