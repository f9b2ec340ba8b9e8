"""Complete screens, compared cell by cell, of a device whose values do not change."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits
from textual.app import App

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
    SwitchMember,
    SwitchVector,
    TextMember,
    TextVector,
)
from indifast.terminal import clock
from indifast.terminal.preview import Preview
from tests.support.blackbox import free_port
from tests.terminal.screens import differences, same
from tests.terminal.support import blobs_requested, go_to, off_screen, on_screen, serving, terminal, until

pytestmark = pytest.mark.usefixtures("true_color")

SIZES = {"80x24": (80, 24), "160x50": (160, 50)}
DOME = "Dome"


class Still(IPyDriver):
    """One property of each kind, and all states."""

    def __init__(self) -> None:
        azimuth = NumberMember("AZ", "Azimuth", "%10.6m", 0, 360, 0, 181.5)
        speed = NumberMember("SPEED", "Speed (°/s)", "%.2f", 0, 5, 0.5, 2.5)
        shutter = [SwitchMember("OPEN", "Open", "On"), SwitchMember("CLOSE", "Close", "Off")]
        self.frame = BLOBVector(
            "CAMERA", "All-sky camera", "Sky", "ro", "Ok", [BLOBMember("SKY", "Sky", blobformat=".fits")]
        )
        vectors = [
            NumberVector("POSITION", "Position", "Main", "rw", "Ok", [azimuth, speed]),
            SwitchVector("SHUTTER", "Shutter", "Main", "rw", "OneOfMany", "Idle", shutter),
            TextVector("OBSERVER", "Observer", "Main", "rw", "Idle", [TextMember("NAME", "Name", "Tycho [Brahe]")]),
            LightVector("WEATHER", "Weather", "Main", "Alert", [LightMember("WIND", "Wind", "Alert"),
                                                                LightMember("RAIN", "Rain", "Ok")]),
            self.frame,
        ]  # fmt: skip
        super().__init__(Device(DOME, vectors))

    async def take(self) -> None:
        """Send a picture, which is a gradient."""
        file = io.BytesIO()
        fits.PrimaryHDU(np.tile(np.arange(600, dtype=np.uint16), (400, 1))).writeto(file)
        self.frame["SKY"] = file.getvalue()
        await self.frame.send_setVectorMembers(state="Ok", members=["SKY"])


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same time of day on every screen. It cannot be replaced afterwards, as a window may cover part of it."""
    monkeypatch.setattr(clock, "local_time", lambda when: "hh:mm:ss")
    monkeypatch.setattr(clock, "zone", lambda when=None: "UTC+h")
    monkeypatch.setattr(clock, "utc_time", lambda when: "hh:mm:ss UTC")


@pytest.fixture
def port() -> int:
    """A port with five digits, so that the text after it is always in the same place."""
    return free_port()


async def becomes(app: App[int], name: str) -> None:
    """Wait until the screen is the one stored under this name."""
    await until(lambda: same(app, name), lambda: differences(app, name))


@pytest.mark.parametrize("size", SIZES)
async def test_properties_of_a_group(size: str, port: int) -> None:
    async with serving(Still(), port=port), terminal(port, SIZES[size]) as (app, pilot):
        await go_to(app, pilot, DOME, "Main")
        await on_screen(app, "Tycho [Brahe]", "Asked the server", "Azimuth")
        await becomes(app, f"group-{size}")


@pytest.mark.parametrize("size", SIZES)
async def test_a_picture(size: str, port: int) -> None:
    driver = Still()
    async with serving(driver, port=port), terminal(port, SIZES[size]) as (app, pilot):
        await go_to(app, pilot, DOME, "Sky", "CAMERA")
        await on_screen(app, "nothing received yet", "Asked the server")
        await blobs_requested(app, pilot)
        await driver.take()
        await until(lambda: app.query_one(Preview).picture)
        await off_screen(app, "frames/s")
        app.clear_notifications()
        await pilot.pause()
        await becomes(app, f"picture-{size}")


@pytest.mark.parametrize("size", SIZES)
async def test_help(size: str, port: int) -> None:
    async with serving(Still(), port=port), terminal(port, SIZES[size]) as (app, pilot):
        await go_to(app, pilot, DOME, "Main")
        await on_screen(app, "Tycho [Brahe]", "Asked the server")
        await pilot.press("question_mark")
        await on_screen(app, "Everywhere")
        await becomes(app, f"help-{size}")
