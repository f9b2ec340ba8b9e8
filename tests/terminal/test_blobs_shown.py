"""BLOBs in the terminal client: requested with a key, and shown again when the user returns to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from indifast import BLOBMember, BLOBVector, Device, IPyDriver, newBLOBVector
from indifast.cli.demo.drivers import CameraDriver
from indifast.terminal.blobpane import BlobPane
from indifast.terminal.preview import Preview
from tests.terminal.support import blobs_requested, go_to, on_screen, screen_text, serving, terminal, until

CAMERA = "Demo Camera"


@pytest.mark.usefixtures("true_color")
async def test_a_stream_is_shown_and_its_last_frame_is_kept() -> None:
    camera = CameraDriver(320, 240)
    camera.rate["FPS"] = 50
    async with serving(camera) as port, terminal(port, (100, 40)) as (app, pilot):
        await go_to(app, pilot, CAMERA, "Main", "CCD1")
        await on_screen(app, "nothing received yet")
        await blobs_requested(app, pilot)
        await go_to(app, pilot, CAMERA, "Main", "STREAM")
        await on_screen(app, "OneOfMany")
        await pilot.press("right", "enter")
        await go_to(app, pilot, CAMERA, "Main", "CCD1")
        await on_screen(app, ".fits", "320 x 240 16 bit", "frames/s", "MB/s", "▀")
        await go_to(app, pilot, CAMERA, "Main", "STREAM")
        await on_screen(app, "OneOfMany")
        await pilot.press("right", "down", "enter")
        await until(lambda: camera.switch["ON"] == "Off")
        await go_to(app, pilot, CAMERA, "Main", "CCD1")
        await until(lambda: app.query_one(Preview).picture is not None)
        assert "nothing received" not in screen_text(app)


async def test_a_file_reaches_the_driver(tmp_path: Path) -> None:
    (tmp_path / "flat.dat").write_bytes(b"flat" * 1000)
    received: list[tuple[str, bytes]] = []

    class Taking(IPyDriver):
        async def rxevent(self, event: object) -> None:
            if isinstance(event, newBLOBVector):
                received.extend((event.sizeformat[name][1], bytes(value)) for name, value in event.items())
                await event.vector.send_setVectorMembers(state="Ok")

    flat = BLOBVector("FLAT", "Flat field", "Main", "rw", "Ok", [BLOBMember("FLAT", "Flat")])
    async with serving(Taking(Device("Taker", [flat]))) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Taker", "Main", "FLAT")
        await until(lambda: app.query(BlobPane))
        pane = app.query_one(BlobPane)
        pane.folder = tmp_path
        app.query_one(Preview).focus()
        await pilot.press("o")
        await on_screen(app, "Send a file", "flat.dat")
        await pilot.press(*"flat.dat", "enter")
        await until(lambda: received)
    assert received == [(".dat", b"flat" * 1000)]
