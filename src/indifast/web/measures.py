"""What is in a frame: header, statistics, histogram. Runs in any thread."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from indifast.client.formats import Kind, format_of, inflated
from indifast.client.frames import Frame
from indifast.fits import read_header
from indifast.protocol.jsonform import Plain, number
from indifast.web.bounds import BINS, PIXELS_MEASURED


def measured(frame: Frame) -> Plain:
    """Return the shape of a frame, its header if it is FITS, statistics and a histogram, or why there are none."""
    plain: Plain = dict.fromkeys(("shape", "header", "statistics", "histogram", "problem"))
    try:
        if format_of(frame.format).kind is Kind.FITS:
            plain["header"] = dict(read_header(inflated(frame.data, frame.format, frame.size)))
        pixels = frame.array()
        plain["shape"] = list(pixels.shape)
        plain |= _statistics(pixels)
    except Exception as error:  # a decoder may raise anything for a damaged frame
        plain["problem"] = str(error).strip().partition("\n")[0] or type(error).__name__
    return plain


def _statistics(pixels: np.ndarray[Any, Any]) -> Plain:
    step = max(1, ceil((pixels.size / PIXELS_MEASURED) ** 0.5))
    if pixels.ndim > 1:
        pixels = pixels[::step, ::step] if pixels.ndim == 3 and pixels.shape[-1] == 3 else pixels[..., ::step, ::step]
    values = pixels.astype(np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return {"problem": "no pixel has a value"}
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high if high > low else low + 1))
    return {
        "statistics": {
            "pixels": int(values.size),
            "min": low,
            "max": high,
            "mean": number(float(values.mean())),
            "median": number(float(np.median(values))),
            "deviation": number(float(values.std())),
        },
        "histogram": {"low": low, "high": high, "counts": [int(count) for count in counts]},
    }
