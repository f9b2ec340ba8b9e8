"""How a viewer wants to see a frame: viewers who want the same share one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from indifast.picture import Stretch
from indifast.protocol import similar
from indifast.web.bounds import PREVIEW_SIZES

JPEG, WEBP = "image/jpeg", "image/webp"
TYPES = (JPEG, WEBP)
"""The types of pictures, best first: a JPEG is made in a fiftieth of the time, and is only a fifth larger."""

PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
"""The colors of the first two pixels of the first two rows of a sensor with a mosaic of filters."""

SUFFIXES = {JPEG: ".jpg", WEBP: ".webp"}
"""The ends of their names."""

BAYER = ("auto", "off", *PATTERNS)


class NoView(ValueError):
    """What is wanted is not understood; the message is one sentence."""


class View(NamedTuple):
    """How a frame is to be shown."""

    size: int = PREVIEW_SIZES[2]
    """Pixels of the longer side of the picture, about."""
    region: tuple[float, float, float, float] | None = None
    """Left, top, width and height in pixels of the frame; None: all of it."""
    stretch: Stretch | None = None
    """None: what is good for the frame."""
    bayer: str = "auto"
    """The mosaic: what the camera says, none, or a pattern."""
    type: str = JPEG
    """The type of the picture."""

    @property
    def wanted(self) -> dict[str, Any]:
        """The keys from which `view_of` makes the same view."""
        changed = {key: value for key, value in self._asdict().items() if value != View._field_defaults[key]}
        changed.pop("type", None)
        if self.stretch is not None:
            changed["stretch"] = [self.stretch.black, self.stretch.middle, self.stretch.white]
        return changed | {"types": [self.type]}


def view_of(given: Mapping[str, Any]) -> View:
    """Return the view that the keys `size`, `region`, `stretch`, `bayer` and `types` describe.

    Raises:
        NoView: They describe none.
    """
    if unknown := set(given) - {"size", "region", "stretch", "bayer", "types"}:
        raise NoView(similar.not_a("key of a view", min(unknown), ["size", "region", "stretch", "bayer", "types"]))
    return View(
        _size(given.get("size", View().size)),
        _region(given.get("region")),
        _stretch(given.get("stretch")),
        _bayer(given.get("bayer", "auto")),
        type_among(given.get("types", [JPEG])),
    )


def type_among(wanted: Any) -> str:
    """Return the best type of those that a viewer can show."""
    if not isinstance(wanted, list) or not (found := [each for each in TYPES if each in wanted]):
        raise NoView(f"`types` must be a list with {' or '.join(TYPES)}")
    return found[0]


def _size(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0:
        raise NoView("`size` must be a number of pixels")
    return next((each for each in PREVIEW_SIZES if each >= given), PREVIEW_SIZES[-1])


def _region(given: Any) -> tuple[float, float, float, float] | None:
    if given is None:
        return None
    left, top, width, height = _numbers("region", given, ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1:
        raise NoView("`region` must lie in the frame and have at least one pixel")
    return left, top, width, height


def _stretch(given: Any) -> Stretch | None:
    if given is None:
        return None
    black, middle, white = _numbers("stretch", given, ("black", "middle", "white"))
    if not black <= middle <= white or not black < white:
        raise NoView("`stretch` must ascend: black, middle, white")
    return Stretch(black, middle, white)


def _numbers(key: str, given: Any, names: tuple[str, ...]) -> list[float]:
    if (
        not isinstance(given, list)
        or len(given) != len(names)
        or not all(isinstance(each, int | float) and abs(each) <= 1e300 for each in given)
    ):
        raise NoView(f"`{key}` must be a list of numbers: {', '.join(names)}")
    return [float(each) for each in given]


def _bayer(given: Any) -> str:
    if given not in BAYER:
        raise NoView(f"`bayer` must be one of {', '.join(BAYER)}")
    return str(given)
