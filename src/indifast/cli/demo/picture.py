"""Conversion of a FITS image to a PNG for viewing."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from indifast.cli.demo.starfield import BLOCK, CARD


def pixels_of(fits: bytes | memoryview) -> np.ndarray:
    """Return the pixels of a plain 16-bit FITS image, as stored in its primary array.

    Raises:
        ValueError: The data is anything else.
    """
    cards: dict[str, str] = {}
    for start in range(0, len(fits), CARD):
        card = bytes(fits[start : start + CARD]).decode("ascii", "replace")
        if card.startswith("END"):
            break
        cards[card[:8].strip()] = card[10:].partition("/")[0].strip()
    else:
        raise ValueError("not a FITS file: no END card")
    if cards.get("SIMPLE") != "T" or cards.get("BITPIX") != "16" or cards.get("NAXIS") != "2":
        raise ValueError("not a plain 16-bit FITS image")
    width, height = int(cards["NAXIS1"]), int(cards["NAXIS2"])
    offset = -(-(start + CARD) // BLOCK) * BLOCK
    return np.frombuffer(fits, ">i2", width * height, offset).reshape(height, width)


def stretched(pixels: np.ndarray) -> np.ndarray:
    """Scale to 8-bit gray: the background becomes nearly black, the brighter stars white, faint ones are lifted."""
    sample = pixels.ravel()[:: max(1, pixels.size // 1_000_000)]
    black, white = np.percentile(sample, (20, 99.95))
    scaled = np.clip((pixels.astype(np.float32) - black) / max(white - black, 1.0), 0, 1)
    return np.asarray(255 * np.sqrt(scaled)).astype(np.uint8)


def write_png(path: Path, grey: np.ndarray) -> None:
    """Write 8-bit gray pixels, first row at the top (PNG specification, sections 5 and 11)."""
    height, width = grey.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter type: 0, none
    rows[:, 1:] = grey
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows.tobytes(), 3)),
            (b"IEND", b""),
        ):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
