"""The BLOB pane, driven by keys: what it says and shows, saving, sending."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static

from indifast import IPyServer
from indifast.client import IPyClient, frame_sizes, setBLOBVector
from indifast.terminal import blobpane
from indifast.terminal.blobpane import BlobPane
from indifast.terminal.files import Folders, SaveDialog, SendDialog
from indifast.terminal.preview import Preview
from tests.support.blackbox import LIMIT

STAMP = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)  # noqa: UP017 - as the client gives it
ONE = (("CCD1", "Image"),)
TWO = (("a", "Guide head"), ("b", ""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which there is nothing."""
    empty = tmp_path / "folder"
    empty.mkdir()
    return empty


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal of all tests here."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Holder(App[None]):
    """An application that is nothing but the pane."""

    def __init__(self, pane: BlobPane) -> None:
        super().__init__()
        self.pane = pane

    def compose(self) -> ComposeResult:
        yield self.pane


def gradient_fits(height: int = 40, width: int = 60) -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(np.broadcast_to(np.linspace(0, 60_000, width), (height, width)).astype("u2")).writeto(file)
    return file.getvalue()


@asynccontextmanager
async def holding(pane: BlobPane, width: int = 80, height: int = 24) -> AsyncIterator[Pilot[None]]:
    async with Holder(pane).run_test(size=(width, height)) as pilot:
        yield pilot


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await pilot.pause(0.01)


def text_of(widget: Static) -> str:
    return str(widget.render())


def facts(pane: BlobPane) -> str:
    return text_of(pane.query_one(".facts", Static))


def note(pane: Any) -> str:
    return text_of(pane.query_one(".note", Static))


def test_a_frame_is_named_and_shown() -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", ONE, clock=lambda: 0.0)
        async with holding(pane) as pilot:
            preview = pane.query_one(Preview)
            assert preview.sentence == "nothing received yet"
            assert pane.query_one("#save", Button).disabled
            content = gradient_fits()
            pane.arrived("CCD1", len(content))
            pane.received("CCD1", content, ".fits", len(content), STAMP)
            await until(pilot, lambda: preview.picture)
            assert facts(pane) == f"Image  .fits · {len(content) / 1000:.1f} kB · 60 x 40 16 bit · 03:04:05 UTC"
            assert preview.picture is not None
            assert preview.picture.pixels.shape[0] in (2 * preview.size.height, 2 * preview.size.height - 1)
            cells = [preview.render_line(y) for y in range(preview.size.height)]
            assert all(line.cell_length == preview.size.width for line in cells)
            assert any("▀" in line.text for line in cells)
            assert not pane.query_one("#save", Button).disabled
            assert not pane.query_one("#send", Button).display

    asyncio.run(scenario())


def test_rates_are_of_all_frames_not_of_those_shown() -> None:
    now = [0.0]

    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", ONE, clock=lambda: now[0])
        async with holding(pane):
            for step in range(31):
                now[0] = step / 10
                pane.arrived("CCD1", 2_000_000, 2)
            pane.received("CCD1", b"x", ".xyz", 1, STAMP)
            assert "20.0 frames/s · 20.0 MB/s" in facts(pane)
            now[0] += 10
            pane.received("CCD1", b"x", ".xyz", 1, STAMP)
            assert "frames/s" not in facts(pane)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "form", "sentence"),
    [
        (b"x", ".xyz", "no preview of .xyz"),
        (b"not FITS", ".fits", "frame cannot be read"),
        (b"", ".fits", "without content"),
        (b"abcdefg", ".stream", "7 bytes fit none"),
    ],
)
def test_what_is_no_picture_is_a_sentence_and_the_next_picture_comes(content: bytes, form: str, sentence: str) -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", ONE)
        async with holding(pane) as pilot:
            preview = pane.query_one(Preview)
            pane.received("CCD1", content, form, 7, STAMP, [(60, 40)])
            await until(pilot, lambda: sentence in preview.sentence)
            screen = " ".join(preview.render_line(y).text.strip() for y in range(preview.size.height))
            assert sentence in screen
            pane.received("CCD1", gradient_fits(), ".fits", 1, STAMP)
            await until(pilot, lambda: preview.picture)

    asyncio.run(scenario())


def test_the_newest_frame_wins_and_nothing_waits_for_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first frame is being made into a picture, a hundred come: only the last of them is looked at."""
    begun, go_on = threading.Event(), threading.Event()
    looked_at = []
    real = blobpane.picture

    def slow(content: Any, form: str, **more: Any) -> Any:
        looked_at.append(bytes(content)[:4])
        begun.set()
        assert go_on.wait(LIMIT)
        return real(content, form, **more)

    monkeypatch.setattr(blobpane, "picture", slow)

    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", ONE)
        async with holding(pane) as pilot:
            preview = pane.query_one(Preview)
            frames = [b"%04d" % number + bytes(2396) for number in range(101)]
            pane.received("CCD1", frames[0], ".stream", 2400, STAMP, [(60, 40)])
            await until(pilot, begun.is_set)
            for frame in frames[1:]:
                pane.received("CCD1", frame, ".stream", 2400, STAMP, [(60, 40)])
            await pilot.press("s")
            await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))  # keys are heard meanwhile
            await pilot.press("escape")
            assert preview.picture is None
            go_on.set()
            await until(pilot, lambda: len(looked_at) == 2 and preview.picture)
        assert looked_at == [b"0000", b"0100"]

    asyncio.run(scenario())


def test_saving_suggests_a_free_name_and_replaces_nothing(folder: Path) -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD 1/2", "CCD1", ONE, folder=folder)
        async with holding(pane, 120) as pilot:
            pane.received("CCD1", b"first", ".xyz", 5, STAMP)
            await pilot.press("tab", "s")
            await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
            field = pilot.app.screen.query_one(Input)
            name = "CCD_1_2_CCD1_20260102_030405"
            assert field.value == str(folder / f"{name}.xyz")
            await pilot.press("enter")
            await until(pilot, lambda: "Saved as" in note(pane))
            assert (folder / f"{name}.xyz").read_bytes() == b"first"

            await pilot.press("s")
            await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
            dialog = pilot.app.screen
            field = dialog.query_one(Input)
            assert field.value == str(folder / f"{name}_1.xyz")
            for bad, sentence in [
                (str(folder / f"{name}.xyz"), "already exists: choose another name"),
                (str(folder / "none" / "x"), "There is no folder"),
                (str(folder), "needs a name"),
                ("", "needs a name"),
                (str(folder / ("n" * 300)), "File name too long"),
                ("a\0b", "NUL"),
                ("~nobody-of-this-name/x", "no home folder"),
            ]:
                field.value = bad
                await pilot.press("enter")
                await until(pilot, lambda sentence=sentence: sentence in note(dialog))
            await pilot.press("escape")
            await until(pilot, lambda: pilot.app.screen is not dialog)

    asyncio.run(scenario())
    (saved,) = folder.iterdir()
    assert saved.read_bytes() == b"first"


def test_a_folder_where_nothing_can_be_written_is_named() -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", ONE, folder=Path("/proc"))
        async with holding(pane) as pilot:
            pane.received("CCD1", b"first", ".xyz", 5, STAMP)
            await pilot.press("tab", "s")
            await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
            dialog = pilot.app.screen
            await pilot.press("enter")
            await until(pilot, lambda: note(dialog))
            assert "/proc" in note(dialog)

    asyncio.run(scenario())


def test_sending_a_file(folder: Path) -> None:
    (folder / ".hidden").write_bytes(b"h")
    (folder / "flat.fits").write_bytes(b"f")
    sent: list[tuple[Path, str]] = []

    async def scenario() -> None:
        pane = BlobPane("CCD", "UPLOAD", TWO, folder=folder, on_send=lambda path, member: sent.append((path, member)))
        async with holding(pane, 120) as pilot:
            pane.shown("rw", "Ok")
            assert pane.query_one("#send", Button).display
            await pilot.press("tab", "o")
            await until(pilot, lambda: isinstance(pilot.app.screen, SendDialog))
            dialog = pilot.app.screen
            tree = dialog.query_one(Folders)
            await until(pilot, lambda: len(tree.root.children) == 2)
            assert [str(child.label) for child in tree.root.children] == [".hidden", "flat.fits"]
            field = dialog.query_one(Input)
            assert field.value == f"{folder}/"
            await pilot.press("enter")
            await until(pilot, lambda: "Is a directory" in note(dialog))
            field.value += "no such"
            await pilot.press("enter")
            await until(pilot, lambda: "There is no file" in note(dialog))
            field.value = f"{folder}/fla"
            field.cursor_position = len(field.value)
            await until(pilot, lambda: field._suggestion == f"{folder}/flat.fits")
            await pilot.press("right")
            assert field.value == f"{folder}/flat.fits"
            dialog.query_one(Select).value = "b"
            await pilot.press("enter")
            await until(pilot, lambda: sent)
        assert sent == [(folder / "flat.fits", "b")]

    asyncio.run(scenario())


def test_a_file_that_cannot_be_sent_is_a_sentence(folder: Path) -> None:
    (folder / "a").write_bytes(b"h")

    def refused(path: Path, member: str) -> None:
        raise ValueError("the server is not there")

    async def scenario() -> None:
        pane = BlobPane("CCD", "UPLOAD", ONE, folder=folder, on_send=refused)
        async with holding(pane) as pilot:
            await pilot.press("tab", "o")
            assert note(pane) == "This property is read-only."
            pane.shown("wo", "Ok")
            assert "nothing is received" in pane.query_one(Preview).sentence
            assert not pane.query_one("#save", Button).display
            await pilot.press("o")
            await until(pilot, lambda: isinstance(pilot.app.screen, SendDialog))
            await pilot.press("a", "enter")
            await until(pilot, lambda: note(pane) == "a was not sent: the server is not there.")

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_read_is_named(folder: Path) -> None:
    """One that has gone meanwhile: what a user without rights sees, root sees too."""
    (folder / "gone").mkdir()

    async def scenario() -> None:
        pane = BlobPane("CCD", "UPLOAD", ONE, folder=folder)
        async with holding(pane) as pilot:
            pane.shown("rw", "Ok")
            await pilot.press("tab", "o")
            await until(pilot, lambda: isinstance(pilot.app.screen, SendDialog))
            dialog = pilot.app.screen
            tree = dialog.query_one(Folders)
            await until(pilot, lambda: tree.root.children)
            (folder / "gone").rmdir()
            tree.root.children[0].expand()
            await until(pilot, lambda: str(folder / "gone") in note(dialog))

    asyncio.run(scenario())


def test_several_members_one_is_looked_at() -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD", "HEADS", TWO, clock=lambda: 0.0)
        async with holding(pane) as pilot:
            preview = pane.query_one(Preview)
            pane.received("b", b"x", ".b", 1, STAMP)
            await until(pilot, lambda: preview.sentence == "no preview of .b")
            pane.received("a", b"xy", ".a", 2, STAMP)
            pane.received("unknown", b"xy", ".a", 2, STAMP)
            assert facts(pane).splitlines() == [
                "  Guide head  .a · 2 B · 03:04:05 UTC",
                "▸ b  .b · 1 B · 03:04:05 UTC",
            ]
            await pilot.press("tab", "m")
            await until(pilot, lambda: preview.sentence == "no preview of .a")
            assert facts(pane).startswith("▸ Guide head")
            await pilot.press("m")
            await until(pilot, lambda: preview.sentence == "no preview of .b")

    asyncio.run(scenario())


@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 8), (5, 3), (1, 1)])
def test_any_size_will_do(width: int, height: int) -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", ONE)
        async with holding(pane, width, height) as pilot:
            pane.received("CCD1", gradient_fits(), ".fits", 1, STAMP)
            await pilot.pause()
            await pilot.resize_terminal(70, 30)
            await until(pilot, lambda: pane.query_one(Preview).picture)

    asyncio.run(scenario())


def test_labels_of_drivers_are_no_markup() -> None:
    async def scenario() -> None:
        pane = BlobPane("CCD", "CCD1", [("CCD1", "[red]Image[/nope]")])
        async with holding(pane) as pilot:
            pane.received("CCD1", b"x", ".[b]", 1, STAMP)
            await until(pilot, lambda: pane.query_one(Preview).sentence == "no preview of .[b]")
            assert facts(pane).startswith("[red]Image[/nope]  .[b]")

    asyncio.run(scenario())


def test_labels_in_the_choice_of_a_member_are_no_markup(folder: Path) -> None:
    sent: list[str] = []

    async def scenario() -> None:
        members = [("a", "[/red] A ["), ("b", "[@click=app.quit]B[/]")]
        pane = BlobPane("CCD", "UPLOAD", members, folder=folder, on_send=lambda path, member: sent.append(member))
        async with holding(pane) as pilot:
            pane.shown("wo", "Ok")
            await pilot.press("tab", "o")
            await until(pilot, lambda: isinstance(pilot.app.screen, SendDialog))
            select = pilot.app.screen.query_one(Select)
            assert text_of(select.query_one("#label", Static)) == "[/red] A ["
            select.value = "b"
            field = pilot.app.screen.query_one(Input)
            os.mkfifo(folder / "pipe")  # opening it would wait for whoever writes into it
            field.value = str(folder / "pipe")
            await pilot.press("enter")
            await until(pilot, lambda: "is not a file" in note(pilot.app.screen))
            (folder / "file").write_bytes(b"x")
            field.value = str(folder / "file")
            await pilot.press("enter")
            await until(pilot, lambda: sent)

    asyncio.run(scenario())
    assert sent == ["b"]


def test_exposures_of_the_simulator(program: Callable[[str], str], folder: Path) -> None:
    """The whole way: C++ driver, server, client, pane, file."""
    received: list[bytes] = []

    async def scenario() -> None:
        pane = BlobPane("CCD Simulator", "CCD1", [("CCD1", "Image")], folder=folder)

        class Feeding(IPyClient):
            async def rxevent(self, event: Any) -> None:
                if isinstance(event, setBLOBVector):
                    for name, content in event.data.items():
                        size, form = event.sizeformat[name]
                        pane.arrived(name, len(content))
                        pane.received(name, content, form, size, event.timestamp, frame_sizes(event.device))

        server = IPyServer(port=0)
        server.add_exdriver(program("indi_simulator_ccd"))
        async with server, Feeding("127.0.0.1", server.port) as client, holding(pane) as pilot:
            device = "CCD Simulator"
            await client.ready(LIMIT, (device, "CONNECTION"))
            await client.send_newVector(device, "CONNECTION", members={"CONNECT": "On"}, wait=True, timeout=LIMIT)
            await client.wait_for(device, "CCD1", timeout=LIMIT)
            await client.send_enableBLOB("Also", device)
            await client.send_newVector(device, "CCD_EXPOSURE", members={"CCD_EXPOSURE_VALUE": 0.1})
            preview = pane.query_one(Preview)
            await until(pilot, lambda: preview.picture)
            assert "1280 x 1024 16 bit" in facts(pane)
            assert preview.picture is not None
            assert np.ptp(preview.picture.pixels) > 100
            await pilot.press("tab", "s")
            await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
            await pilot.press("enter")
            await until(pilot, lambda: "Saved as" in note(pane))
            received.append(client[device]["CCD1"]["CCD1"])

    asyncio.run(scenario())
    (saved,) = folder.iterdir()
    assert saved.read_bytes() == received[0]
    assert fits.getdata(saved).shape == (1024, 1280)
