"""The camera of `programs/strange.py`: has it take frames."""

from __future__ import annotations

from tests.support.blackbox import until
from tests.web.programs.strange import fits
from tests.web.support import Site, path

EYE = ("Eye", "PICTURE", "LEFT")
"""Where its frames are: device, property and member."""


def take(web: Site, frames: int, damaged: bool = False, plain: bool = False, **headers: str) -> int:
    """Have the camera take frames, perhaps silent about their colors. Gives how many it has taken altogether."""
    members = {"FRAMES": frames, "DAMAGED": int(damaged), "PLAIN": int(plain)}
    command = {"members": members, "timeout": 60}
    answer = web.ask("POST", path("Eye", "TAKE"), command, **headers).json("web_answer")
    return int(answer["property"]["members"]["FRAMES"]["value"])


def number_of(web: Site, taken: int, **headers: str) -> int:
    """Wait until the newest frame is the one that the camera has taken as its `taken`th, and return its number."""
    newest = fits(taken)
    until(lambda: web.ask("GET", path(*EYE), **headers).body == newest, what=f"frame {taken} of the camera")
    return int(web.ask("GET", path(*EYE), **headers).headers["Indifast-Frame"])
