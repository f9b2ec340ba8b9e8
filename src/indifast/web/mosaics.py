"""The mosaic of color filters on a sensor, as a camera describes it: in the header of a frame, or in a property."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from indifast.web.views import PATTERNS

_GUIDE_HEAD = "CCD2"
"""The frames of a camera's second sensor, which CCD_CFA is not about."""


class Mosaic(NamedTuple):
    """Where which filter is."""

    pattern: str
    """One of `PATTERNS`."""
    across: bool
    """Whether a frame begins with the second column of the pattern."""
    down: bool
    """Whether a frame begins with the second row of the pattern."""

    def from_top(self, *, flipped: bool) -> str:
        """Return the pattern with which a frame begins.

        Args:
            flipped: Whether turning the frame upside down has made its second row of filters the first one.
        """
        rows = [self.pattern[:2], self.pattern[2:]]
        if self.down != flipped:
            rows.reverse()
        if self.across:
            rows = [row[::-1] for row in rows]
        return "".join(rows)


def of_header(header: Mapping[str, Any]) -> Mosaic | None:
    """Return what the header of FITS says; None if that is no mosaic of red, green and blue."""
    return _mosaic(header.get("BAYERPAT"), header.get("XBAYROFF"), header.get("YBAYROFF"))


def of_camera(device: Any, name: str) -> Mosaic | None:
    """Return what CCD_CFA says about the frames of a property, for those whose content says nothing.

    Streams never say anything. Nothing is known of binned frames: some cameras add up pixels of different colors,
    others those of the same.

    Args:
        device: The camera; None if it is not known any more.
        name: The property with the frames.
    """
    if device is None or name == _GUIDE_HEAD or _is_binned(device):
        return None
    vector = device.data.get("CCD_CFA")
    if vector is None or not vector.enable or vector.vectortype != "TextVector":
        return None
    return _mosaic(vector.get("CFA_TYPE"), _whole(vector.get("CFA_OFFSET_X")), _whole(vector.get("CFA_OFFSET_Y")))


def _is_binned(device: Any) -> bool:
    vector = device.data.get("CCD_BINNING")
    if vector is None or not vector.enable or vector.vectortype != "NumberVector":
        return False
    return any(member.getfloatvalue() > 1 for member in vector.data.values())


def _mosaic(pattern: Any, across: Any, down: Any) -> Mosaic | None:
    known = str(pattern).strip().upper()
    return Mosaic(known, _odd(across), _odd(down)) if known in PATTERNS else None


def _whole(text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        return 0


def _odd(value: Any) -> bool:
    return isinstance(value, int | float) and value % 2 == 1
