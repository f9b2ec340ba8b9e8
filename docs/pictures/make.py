"""Makes the pictures of the terminal client and of the page: the real programs in front of real drivers.

`make pictures`, or `python docs/pictures/make.py [NAME…]`. It needs what the tests need, and the font DejaVu Sans Mono
(Debian: fonts-dejavu-core).
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver.common.by import By

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from screen import saved  # noqa: E402

from indifast.cli.demo.drivers import CameraDriver, ThermostatDriver  # noqa: E402
from tests.support.blackbox import until  # noqa: E402
from tests.terminal.pty_support import Terminal, served  # noqa: E402
from tests.web.chromium import chromium  # noqa: E402
from tests.web.support import site  # noqa: E402

PROGRAMS = ("indi_simulator_ccd", "indi_simulator_telescope")
LARGEST = 300 << 10
QUIET = 1.5
"""Seconds without output after which a screen counts as finished."""


def settled(terminal: Terminal, most: float = 6.0) -> None:
    """Read until the program says nothing more for a while, or says something all the time."""
    end = time.monotonic() + most
    before, since = len(terminal.output), time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < QUIET:
        terminal.read()
        if len(terminal.output) != before:
            before, since = len(terminal.output), time.monotonic()


def typed(terminal: Terminal, *keys: str) -> None:
    """Type, and let the screen follow after each."""
    for key in keys:
        terminal.type(key)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            terminal.read()


def found(terminal: Terminal, words: str) -> None:
    """Search for a property and go to it."""
    typed(terminal, "/", words, "\r")


def commanded(port: int, *values: str) -> None:
    """Set values, each DEVICE.VECTOR.MEMBER=VALUE."""
    for value in values:
        subprocess.run(["indi_setprop", "-p", str(port), value], check=True, timeout=30)


def image(terminal: Terminal, port: int) -> None:
    """Frames of a camera as they stream in."""
    found(terminal, "demo camera image")
    typed(terminal, "\x1b", "b")
    commanded(port, "Demo Camera.RATE.FPS=5", "Demo Camera.STREAM.ON=On")
    terminal.shows("frames/s", "▀")
    settled(terminal)


def telescope(terminal: Terminal, port: int) -> None:
    """The properties of a mount, one of them being changed."""
    found(terminal, "scope location")
    typed(terminal, "\x1b", "\x1b[D", "\x1b[C", "\r", "48:08:10")
    settled(terminal)


def exposure(terminal: Terminal, port: int) -> None:
    """A camera while it exposes."""
    found(terminal, "ccd main control")
    typed(terminal, "\x1b", "\x1b[D")
    commanded(port, "CCD Simulator.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=15")
    settled(terminal, 4.0)


def thermostat(terminal: Terminal, port: int) -> None:
    """Numbers that change, and one of them over time."""
    found(terminal, "demo thermostat")
    typed(terminal, "\x1b", "\x1b[D", "\x1b[C")
    settled(terminal)


SCENES: dict[str, tuple[Callable[[Terminal, int], None], int, int, dict[str, str], tuple[str, ...]]] = {
    "term-image": (image, 120, 40, {"COLORTERM": "truecolor"}, ()),
    "term-telescope": (telescope, 110, 30, {"COLORTERM": "truecolor"}, ()),
    "term-light": (exposure, 110, 30, {"COLORTERM": "truecolor"}, ("--light",)),
    "term-80x24": (thermostat, 80, 24, {"TERM": "xterm"}, ()),
}


PAGE = "web-camera"
"""The picture of the page."""


def page() -> int:
    """Make the picture of the page: a camera that streams. Gives its size."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(CameraDriver(1280, 1024), ThermostatDriver()) as port,
        site(Path(folder), f"127.0.0.1:{port}") as web,
        chromium(Path(folder), 1000, 1160) as browser,
    ):
        commanded(port, "Demo Camera.RATE.FPS=1", "Demo Camera.STREAM.ON=On")
        browser.get(f"http://127.0.0.1:{web.port}/")
        shows = "//button[starts-with(., 'Show')]"
        until(lambda: browser.find_elements(By.XPATH, shows))
        browser.find_element(By.XPATH, shows).click()
        until(lambda: "frames/s" in browser.find_element(By.CSS_SELECTOR, ".facts").text)
        browser.execute_script("document.querySelector('.wide').scrollIntoView()")
        return photograph(browser, PAGE)


def photograph(browser: Any, name: str) -> int:
    """Write a picture of what is in a browser. Gives its size."""
    picture = HERE / f"{name}.png"
    with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as seen:
        seen.convert("RGB").quantize(48, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            picture, optimize=True
        )
    return picture.stat().st_size


WALL = "web-wall"
"""The picture of the page for the wall."""


def wall() -> int:
    """Make the picture of the page for the wall: a camera that exposes. Gives its size."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(ThermostatDriver(), *PROGRAMS) as port,
        site(Path(folder), f"127.0.0.1:{port}") as web,
        chromium(Path(folder), 1000, 560) as browser,
    ):
        commanded(port, "CCD Simulator.CONNECTION.CONNECT=On")
        commanded(port, "CCD Simulator.CCD_EXPOSURE.CCD_EXPOSURE_VALUE=60")
        browser.get(f"http://127.0.0.1:{web.port}/wall#red")
        until(lambda: browser.execute_script("return document.querySelector('progress')?.value ?? 0") > 5)
        return photograph(browser, WALL)


def main(names: list[str]) -> int:
    """Make the pictures of these names, or all of them; gives the exit status."""
    pages = {PAGE: page, WALL: wall}
    for name in names or [*SCENES, *pages]:
        if name in pages:
            print(f"{name}.png: {pages[name]()} bytes")
            continue
        scene, columns, lines, environment, options = SCENES[name]
        with served(CameraDriver(1280, 1024), ThermostatDriver(), *PROGRAMS) as port:
            commanded(port, "Telescope Simulator.CONNECTION.CONNECT=On", "CCD Simulator.CONNECTION.CONNECT=On")
            arguments = ("-m", "indifast", "term", f"127.0.0.1:{port}", *options)
            with Terminal(*arguments, columns=columns, lines=lines, environment=environment) as terminal:
                terminal.shows("4 devices")
                settled(terminal)
                scene(terminal, port)
                size = saved(terminal.screen, HERE / f"{name}.png")
        print(f"{name}.png: {size} bytes")
        if size > LARGEST:
            print(f"{name}.png is too large for a page: more than {LARGEST} bytes", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
