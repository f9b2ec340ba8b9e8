"""The BLOB pane, operated with keys: what it states and shows, saving and sending."""

from __future__ import annotations

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
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Select, Static

from indifast import IPyServer
from indifast.client import IPyClient, frame_sizes, setBLOBVector
from indifast.terminal import blobpane
from indifast.terminal.blobpane import BlobPane
from indifast.terminal.files import Folders, SaveDialog, SendDialog
from indifast.terminal.preview import Preview
from tests.support.blackbox import LIMIT
from tests.terminal.support import until

pytestmark = pytest.mark.usefixtures("true_color")

STAMP = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)  # noqa: UP017 - as the client passes it
ONE = (("CCD1", "Image"),)
TWO = (("a", "Guide head"), ("b", ""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    empty = tmp_path / "folder"
    empty.mkdir()
    return empty


class Holder(App[None]):
    """An application that consists of the pane."""

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


async def opened(pilot: Pilot[None], kind: type[ModalScreen[Any]], *keys: str) -> ModalScreen[Any]:
    """Press keys, wait for a dialog, and return it."""
    await pilot.press(*keys)
    await until(lambda: isinstance(pilot.app.screen, kind), f"a {kind.__name__}")
    dialog = pilot.app.screen
    assert isinstance(dialog, kind)
    return dialog


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def text_of(widget: Static) -> str:
    return str(widget.render())


def facts(pane: BlobPane) -> str:
    return text_of(pane.query_one(".facts", Static))


def note(pane: Any) -> str:
    return text_of(pane.query_one(".note", Static))


async def test_a_frame_is_described_and_shown() -> None:
    pane = BlobPane("CCD", "CCD1", ONE, clock=lambda: 0.0)
    async with holding(pane):
        preview = pane.query_one(Preview)
        assert preview.sentence == "nothing received yet"
        assert pane.query_one("#save", Button).disabled
        content = gradient_fits()
        pane.arrived("CCD1", len(content))
        pane.received("CCD1", content, ".fits", len(content), STAMP)
        await until(lambda: preview.picture)
        assert facts(pane) == f"Image  .fits · {len(content) / 1000:.1f} kB · 60 x 40 16 bit · 03:04:05 UTC"
        assert preview.picture is not None
        assert preview.picture.pixels.shape[0] in (2 * preview.size.height, 2 * preview.size.height - 1)
        cells = [preview.render_line(y) for y in range(preview.size.height)]
        assert all(line.cell_length == preview.size.width for line in cells)
        assert any("▀" in line.text for line in cells)
        assert not pane.query_one("#save", Button).disabled
        assert not pane.query_one("#send", Button).display


async def test_rates_count_all_frames_not_only_those_shown() -> None:
    now = 0.0
    pane = BlobPane("CCD", "CCD1", ONE, clock=lambda: now)
    async with holding(pane):
        for step in range(31):
            now = step / 10
            pane.arrived("CCD1", 2_000_000, 2)
        pane.received("CCD1", b"x", ".xyz", 1, STAMP)
        assert "20.0 frames/s · 20.0 MB/s" in facts(pane)
        now += 10
        pane.received("CCD1", b"x", ".xyz", 1, STAMP)
        assert "frames/s" not in facts(pane)


@pytest.mark.parametrize(
    ("content", "form", "sentence"),
    [
        (b"x", ".xyz", "no preview of .xyz"),
        (b"not FITS", ".fits", "frame cannot be read"),
        (b"", ".fits", "without content"),
        (b"abcdefg", ".stream", "7 bytes fit none"),
    ],
)
async def test_a_sentence_replaces_a_missing_picture_until_the_next_one(
    content: bytes, form: str, sentence: str
) -> None:
    pane = BlobPane("CCD", "CCD1", ONE)
    async with holding(pane):
        preview = pane.query_one(Preview)
        pane.received("CCD1", content, form, 7, STAMP, [(60, 40)])
        await until(lambda: sentence in preview.sentence)
        screen = " ".join(preview.render_line(y).text.strip() for y in range(preview.size.height))
        assert sentence in screen
        pane.received("CCD1", gradient_fits(), ".fits", 1, STAMP)
        await until(lambda: preview.picture)


async def test_the_newest_frame_wins_and_nothing_waits_for_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred frames arrive while the first one is turned into a picture; only the last of them is read."""
    started, go_on = threading.Event(), threading.Event()
    read = []
    real = blobpane.picture

    def slow(content: Any, form: str, **more: Any) -> Any:
        read.append(bytes(content)[:4])
        started.set()
        assert go_on.wait(LIMIT)
        return real(content, form, **more)

    monkeypatch.setattr(blobpane, "picture", slow)
    pane = BlobPane("CCD", "CCD1", ONE)
    async with holding(pane) as pilot:
        preview = pane.query_one(Preview)
        frames = [b"%04d" % number + bytes(2396) for number in range(101)]
        pane.received("CCD1", frames[0], ".stream", 2400, STAMP, [(60, 40)])
        await until(started.is_set)
        for frame in frames[1:]:
            pane.received("CCD1", frame, ".stream", 2400, STAMP, [(60, 40)])
        await opened(pilot, SaveDialog, "s")  # keys still work
        await pilot.press("escape")
        assert preview.picture is None
        go_on.set()
        await until(lambda: len(read) == 2 and preview.picture)
    assert read == [b"0000", b"0100"]


async def test_saving_suggests_a_free_name_and_replaces_nothing(folder: Path) -> None:
    pane = BlobPane("CCD 1/2", "CCD1", ONE, folder=folder)
    async with holding(pane, 120) as pilot:
        pane.received("CCD1", b"first", ".xyz", 5, STAMP)
        dialog = await opened(pilot, SaveDialog, "tab", "s")
        name = "CCD_1_2_CCD1_20260102_030405"
        assert dialog.query_one(Input).value == str(folder / f"{name}.xyz")
        await pilot.press("enter")
        await until(lambda: "Saved as" in note(pane))
        assert (folder / f"{name}.xyz").read_bytes() == b"first"

        dialog = await opened(pilot, SaveDialog, "s")
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
            await until(lambda sentence=sentence: sentence in note(dialog))
        await pilot.press("escape")
        await until(lambda: pilot.app.screen is not dialog)
    assert only_file(folder).read_bytes() == b"first"


async def test_an_unwritable_folder_is_named() -> None:
    pane = BlobPane("CCD", "CCD1", ONE, folder=Path("/proc"))
    async with holding(pane) as pilot:
        pane.received("CCD1", b"first", ".xyz", 5, STAMP)
        dialog = await opened(pilot, SaveDialog, "tab", "s")
        await pilot.press("enter")
        await until(lambda: note(dialog))
        assert "/proc" in note(dialog)


async def test_sending_a_file(folder: Path) -> None:
    (folder / ".hidden").write_bytes(b"h")
    (folder / "flat.fits").write_bytes(b"f")
    sent: list[tuple[Path, str]] = []
    pane = BlobPane("CCD", "UPLOAD", TWO, folder=folder, on_send=lambda path, member: sent.append((path, member)))
    async with holding(pane, 120) as pilot:
        pane.shown("rw", "Ok")
        assert pane.query_one("#send", Button).display
        dialog = await opened(pilot, SendDialog, "tab", "o")
        tree = dialog.query_one(Folders)
        await until(lambda: len(tree.root.children) == 2)
        assert [str(child.label) for child in tree.root.children] == [".hidden", "flat.fits"]
        field = dialog.query_one(Input)
        assert field.value == f"{folder}/"
        await pilot.press("enter")
        await until(lambda: "Is a directory" in note(dialog))
        field.value += "no such"
        await pilot.press("enter")
        await until(lambda: "There is no file" in note(dialog))
        field.value = f"{folder}/fla"
        field.cursor_position = len(field.value)
        await until(lambda: field._suggestion == f"{folder}/flat.fits")
        await pilot.press("right")
        assert field.value == f"{folder}/flat.fits"
        dialog.query_one(Select).value = "b"
        await pilot.press("enter")
        await until(lambda: sent)
    assert sent == [(folder / "flat.fits", "b")]


async def test_a_reason_is_given_why_a_file_cannot_be_sent(folder: Path) -> None:
    (folder / "a").write_bytes(b"h")

    def refused(path: Path, member: str) -> None:
        raise ValueError("the server is not there")

    pane = BlobPane("CCD", "UPLOAD", ONE, folder=folder, on_send=refused)
    async with holding(pane) as pilot:
        await pilot.press("tab", "o")
        assert note(pane) == "This property is read-only."
        pane.shown("wo", "Ok")
        assert "nothing is received" in pane.query_one(Preview).sentence
        assert not pane.query_one("#save", Button).display
        await opened(pilot, SendDialog, "o")
        await pilot.press("a", "enter")
        await until(lambda: note(pane) == "a was not sent: the server is not there.")


async def test_an_unreadable_folder_is_named(folder: Path) -> None:
    """The folder is removed while the dialog is open: permissions would not keep root from reading it."""
    (folder / "gone").mkdir()
    pane = BlobPane("CCD", "UPLOAD", ONE, folder=folder)
    async with holding(pane) as pilot:
        pane.shown("rw", "Ok")
        dialog = await opened(pilot, SendDialog, "tab", "o")
        tree = dialog.query_one(Folders)
        await until(lambda: tree.root.children)
        (folder / "gone").rmdir()
        tree.root.children[0].expand()
        await until(lambda: str(folder / "gone") in note(dialog))


async def test_one_of_several_members_is_previewed() -> None:
    pane = BlobPane("CCD", "HEADS", TWO, clock=lambda: 0.0)
    async with holding(pane) as pilot:
        preview = pane.query_one(Preview)
        pane.received("b", b"x", ".b", 1, STAMP)
        await until(lambda: preview.sentence == "no preview of .b")
        pane.received("a", b"xy", ".a", 2, STAMP)
        pane.received("unknown", b"xy", ".a", 2, STAMP)
        assert facts(pane).splitlines() == [
            "  Guide head  .a · 2 B · 03:04:05 UTC",
            "▸ b  .b · 1 B · 03:04:05 UTC",
        ]
        await pilot.press("tab", "m")
        await until(lambda: preview.sentence == "no preview of .a")
        assert facts(pane).startswith("▸ Guide head")
        await pilot.press("m")
        await until(lambda: preview.sentence == "no preview of .b")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 8), (5, 3), (1, 1)])
async def test_any_terminal_size_works(width: int, height: int) -> None:
    pane = BlobPane("CCD", "CCD1", ONE)
    async with holding(pane, width, height) as pilot:
        pane.received("CCD1", gradient_fits(), ".fits", 1, STAMP)
        await pilot.pause()
        await pilot.resize_terminal(70, 30)
        await until(lambda: pane.query_one(Preview).picture)


async def test_labels_are_not_read_as_markup() -> None:
    pane = BlobPane("CCD", "CCD1", [("CCD1", "[red]Image[/nope]")])
    async with holding(pane):
        pane.received("CCD1", b"x", ".[b]", 1, STAMP)
        await until(lambda: pane.query_one(Preview).sentence == "no preview of .[b]")
        assert facts(pane).startswith("[red]Image[/nope]  .[b]")


async def test_labels_of_members_in_the_send_dialog_are_not_read_as_markup(folder: Path) -> None:
    sent: list[str] = []
    members = [("a", "[/red] A ["), ("b", "[@click=app.quit]B[/]")]
    pane = BlobPane("CCD", "UPLOAD", members, folder=folder, on_send=lambda path, member: sent.append(member))
    async with holding(pane) as pilot:
        pane.shown("wo", "Ok")
        dialog = await opened(pilot, SendDialog, "tab", "o")
        select = dialog.query_one(Select)
        assert text_of(select.query_one("#label", Static)) == "[/red] A ["
        select.value = "b"
        field = dialog.query_one(Input)
        os.mkfifo(folder / "pipe")  # opening it would block until someone writes to it
        field.value = str(folder / "pipe")
        await pilot.press("enter")
        await until(lambda: "is not a file" in note(dialog))
        (folder / "file").write_bytes(b"x")
        field.value = str(folder / "file")
        await pilot.press("enter")
        await until(lambda: sent)
    assert sent == ["b"]


async def test_exposures_of_the_simulator(program: Callable[[str], str], folder: Path) -> None:
    """From the C++ driver through server, client and pane to the file."""
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
        await until(lambda: preview.picture)
        assert "1280 x 1024 16 bit" in facts(pane)
        assert preview.picture is not None
        assert np.ptp(preview.picture.pixels) > 100
        await opened(pilot, SaveDialog, "tab", "s")
        await pilot.press("enter")
        await until(lambda: "Saved as" in note(pane))
        received = client[device]["CCD1"]["CCD1"]
    assert only_file(folder).read_bytes() == received
    assert fits.getdata(only_file(folder)).shape == (1024, 1280)
