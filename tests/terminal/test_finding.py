"""Search, messages, history, help, small terminals, and BLOBs on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input

from indifast import (
    BLOBMember,
    BLOBVector,
    Device,
    IPyDriver,
    LightMember,
    LightVector,
    NumberMember,
    NumberVector,
)
from indifast.cli.demo.drivers import CameraDriver, ThermostatDriver
from indifast.cli.toolkit.address import Address, parse_address
from indifast.terminal.app import SERVERS, TermApp
from indifast.terminal.tree import Place
from tests.support import commands
from tests.support.blackbox import LIMIT, free_port
from tests.support.servers import await_listener
from tests.terminal.support import (
    blobs_requested,
    go_to,
    off_screen,
    on_screen,
    screen_text,
    server_reached,
    serving,
    terminal,
    until,
)


@pytest.mark.parametrize("line", [line for line in SERVERS.splitlines() if line.startswith("indifast ")])
def test_what_is_recommended_without_a_server_works(line: str, program: Callable[[str], str], tmp_path: Path) -> None:
    _, command, driver = line.split()
    if ":" not in driver:
        driver = program(driver)
    port = free_port()
    with commands.start(tmp_path, command, "-p", port, "--no-abstract", driver) as child:
        await_listener(child, port)
        found = commands.run("devices", "-p", port, "-t", LIMIT)
        assert found.returncode == 0, (found.stderr, child.stderr)


class Mixed(IPyDriver):
    """A device with groups, a counter, lights, and a BLOB in each direction."""

    def __init__(self) -> None:
        self.count = NumberVector("COUNT", "Count", "Main", "ro", "Ok", [NumberMember("N", "N", "%g", 0, 0, 0, 0)])
        self.lights = LightVector("STATUS", "Status lights", "Signals", "Ok", [LightMember("L", "Link", "Busy")])
        self.image = BLOBVector("IMAGE", "Image", "Pictures", "ro", "Ok", [BLOBMember("I", "Image", blobformat=".txt")])
        self.mask = BLOBVector("MASK", "Mask", "Pictures", "wo", "Ok", [BLOBMember("M", "Mask")])
        self.masks: list[tuple[bytes, str]] = []
        super().__init__(Device("Mixed", [self.count, self.lights, self.image, self.mask]))

    async def rxevent(self, event: object) -> None:
        if getattr(event, "vectorname", None) == "MASK" and hasattr(event, "sizeformat"):
            self.masks.append((bytes(event["M"]), event.sizeformat["M"][1]))
            await self.mask.send_setVector(state="Ok")

    async def send_image(self, content: bytes) -> None:
        self.image["I"] = content
        await self.image.send_setVectorMembers(members=["I"])


async def test_search() -> None:
    async with serving(Mixed(), ThermostatDriver(), CameraDriver(64, 48)) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Mixed", "Demo Camera", "Demo Thermostat")
        await pilot.press("slash", *"wanted temp")
        await on_screen(app, "Demo Thermostat", "Wanted temperature")
        await off_screen(app, "Demo Camera")
        await pilot.press("enter")
        await until(lambda: app.panes.place == Place("Demo Thermostat", "Main", "TARGET"))
        assert app.focused is app.property_tree
        await pilot.press("escape")
        await on_screen(app, "Demo Camera")
        await pilot.press("slash", *"no such thing")
        await off_screen(app, "Demo Thermostat")


async def test_messages_are_filtered_and_kept() -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Mixed")
        device = mixed["Mixed"]
        for number in range(150):
            await device.send_device_message(f"line {number} is {'odd' if number % 2 else 'even'}")
        await on_screen(app, "line 149 is odd")
        await until(lambda: len(app.message_log.lines) > 150)
        await pilot.press("f", *"mixed EVEN 12")
        await on_screen(app, "line 128 is even")
        await off_screen(app, "line 149")
        await pilot.press("escape")
        await on_screen(app, "line 149 is odd")
        await pilot.press("l")
        await off_screen(app, "Signals")
        await pilot.press("pageup")
        await off_screen(app, "line 149 is odd")
        await device.send_device_message("one more")
        await until(lambda: app.board.messages.entries[-1].text == "one more")
        await until(lambda: app.message_log.lines[-1].text.rstrip().endswith("one more"))
        assert "one more" not in screen_text(app)  # the log stays where it was scrolled to
        await pilot.press("end")
        await on_screen(app, "one more")
        await pilot.press("l")
        await on_screen(app, "Signals")


async def test_a_flood_of_messages_is_counted_instead_of_drawn() -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Mixed")
        written = len(app.message_log.lines)
        for number in range(1000):
            app.board.note(f"number {number}", "")
        await on_screen(app, "number 999")
        assert len(app.message_log.lines) == written + 201
        assert "(800 messages at once" in app.message_log.lines[written].text
        await pilot.press("f", *"number 17")
        await on_screen(app, "number 717", "number 817", "number 917")


async def test_messages_are_folded_anew_when_the_width_changes() -> None:
    text = " ".join(f"word{number}" for number in range(20))  # 149 characters
    async with terminal(None, (200, 24)) as (app, pilot):
        app.board.note("the first one", "")
        app.board.note(text, "")
        await on_screen(app, text)
        await pilot.resize_terminal(80, 24)
        await until(lambda: len(app.message_log.lines) == 3, lambda: screen_text(app))
        await on_screen(app, "word0 ", " word19 ", "the first one")
        await pilot.resize_terminal(200, 24)
        await on_screen(app, text, "the first one")
        for number in range(50):
            app.board.note(f"number {number}", "")
        await on_screen(app, "number 49")
        await pilot.press("l", "home")
        await on_screen(app, "the first one")
        await pilot.resize_terminal(80, 24)
        await until(lambda: len(app.message_log.lines) == 53)
        await on_screen(app, "the first one")  # where one reads, one stays
        await off_screen(app, "number 49")


async def test_the_history_of_a_number() -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed", "Main", "COUNT")
        await pilot.press("right")
        await until(lambda: app.panes.number_at_cursor() == ("Mixed", "COUNT", "N"))
        assert not app.history.display
        for value in (3, 1, 4, 1.5):
            mixed.count["N"] = value
            await mixed.count.send_setVector()
            await until(lambda value=value: app.board.properties["Mixed", "COUNT"].seen.get("N") == str(value))
        await on_screen(app, "N: 5 values, 0 to 4")
        assert list(app.history.spark.data or ()) == [0, 3, 1, 4, 1.5]


async def test_lights_and_the_state_of_a_device() -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed", "Signals", "STATUS")
        await on_screen(app, "◐ Busy")
        mixed.lights["L"] = "Alert"
        await mixed.lights.send_setVector(state="Alert")
        await on_screen(app, "▲ Alert", "▾ ▲ Mixed")  # the device shows its most urgent state


async def test_help_opens_and_closes() -> None:
    async with serving(Mixed()) as port, terminal(port, (100, 40)) as (app, pilot):
        await on_screen(app, "Mixed")
        await pilot.press("question_mark")
        await on_screen(app, "search devices", "numbers: a step up or down")
        await pilot.press("escape")
        await off_screen(app, "numbers: a step up or down")


async def test_a_terminal_that_is_too_small_says_so() -> None:
    async with serving(Mixed()) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Mixed")
        await pilot.resize_terminal(40, 10)
        await on_screen(app, "has 40 columns and 10")
        await pilot.resize_terminal(80, 24)
        await off_screen(app, "40 columns")
        await on_screen(app, "Mixed")


async def test_blobs_are_received_only_on_request() -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed", "Pictures", "IMAGE")
        await on_screen(app, "BLOBs are not requested: press b", "nothing received yet")
        await mixed.send_image(b"unseen")
        await server_reached(app)
        await blobs_requested(app, pilot)
        member = app.board.properties["Mixed", "IMAGE"].vector.member("I")
        assert member.membervalue is None
        await mixed.send_image(b"some text")
        await until(lambda: member.membervalue == b"some text")
        await on_screen(app, ".txt", "9 B")
        await pilot.press("b")
        await on_screen(app, "BLOBs are not requested: press b")


async def test_a_key_goes_to_the_newest_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = Mixed()
    said: list[str] = []
    monkeypatch.setattr(TermApp, "notify", lambda app, text, **options: said.append(text))
    async with serving(mixed, ThermostatDriver()) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed", "Pictures", "IMAGE")
        await pilot.press("n")
        assert said == ["No BLOB has arrived yet: b requests those of what is chosen"]
        await blobs_requested(app, pilot)
        await mixed.send_image(b"some text")
        await on_screen(app, "9 B")
        for keys in ((), ("slash", *"thermo", "enter"), ("l",)):
            await go_to(app, pilot, "Demo Thermostat")
            await off_screen(app, "9 B")
            await pilot.press(*keys, "n")
            await until(lambda: app.panes.place == Place("Mixed", "Pictures", "IMAGE"))
            await on_screen(app, "9 B", "Demo Thermostat")
            assert app.focused is app.property_tree


async def test_the_folder_for_blobs_can_be_chosen_while_the_terminal_runs(tmp_path: Path) -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Mixed")
        await pilot.press("c")
        await until(lambda: isinstance(app.focused, Input))
        await pilot.press("tab", *"/nowhere/at/all", "enter")
        await on_screen(app, "is not an existing folder")
        app.screen.query_one("Input:focus", Input).value = str(tmp_path)
        await pilot.press("enter")
        await on_screen(app, "BLOBs to")
        await image_is_saved(app, mixed, tmp_path)


async def test_the_path_of_a_saved_blob_is_shown_at_80_columns(tmp_path: Path) -> None:
    """As long as it is, it is folded, not cut, and nothing follows that could be taken for a part of it."""
    mixed = Mixed()
    folder = tmp_path / "a-folder-with-a-rather-long-name" / "in-another-one-of-this-kind"
    folder.mkdir(parents=True)
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed", "Pictures", "IMAGE")
        await blobs_requested(app, pilot)
        await mixed.send_image(b"some text")
        await on_screen(app, "9 B")
        await pilot.press("tab", "s")
        await on_screen(app, "Save the last BLOB as")
        path = folder / "frame.txt"
        app.screen.query_one(Input).value = str(path)
        await pilot.press("enter")
        await until(path.exists)
        left = app.panes.region.x

        def said() -> str:
            lines = (line[left:].lstrip("▌▐▎▊█ ").rstrip("▁▂▃▄▅▆▇█ ") for line in screen_text(app).splitlines())
            return "".join(lines)

        await until(lambda: f"Saved as{path}" in said().replace("Saved as ", "Saved as"), lambda: screen_text(app))


async def image_is_saved(app: TermApp, mixed: Mixed, folder: Path) -> None:
    """Send an image, and wait for it in the folder for BLOBs."""
    await server_reached(app)
    await mixed.send_image(b"some text")
    await until(lambda: [path.read_bytes() for path in folder.glob("I_*.txt")] == [b"some text"])


async def test_connecting_works_although_the_folder_for_blobs_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    async with serving(Mixed()) as port, terminal(port, app=saving_app(port, folder)) as (app, _):
        await on_screen(app, "Mixed", "BLOBs to")
        await app.session.disconnect()
        with pytest.raises(KeyError, match="does not exist"):
            app.session.save_to(tmp_path / "nowhere")
        folder.rmdir()
        await app.session.connect(Address("127.0.0.1", port))
        assert any("no longer saved" in entry.text for entry in app.board.messages.since(0))
        await until(lambda: app.session.client is not None and app.session.client.connected)
        assert app.session.folder is None


def saving_app(port: int, folder: Path) -> TermApp:
    return TermApp(Address("127.0.0.1", port), parse_address, folder=folder)


async def test_the_folder_for_blobs_can_be_given_at_the_start(tmp_path: Path) -> None:
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port, app=saving_app(port, tmp_path)) as (app, _):
        await on_screen(app, "Mixed", "BLOBs to")
        await image_is_saved(app, mixed, tmp_path)


async def test_a_file_is_sent_as_a_blob(tmp_path: Path) -> None:
    mixed = Mixed()
    file = tmp_path / "mask.fits.gz"
    file.write_bytes(b"not really")
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed", "Pictures", "MASK")
        await on_screen(app, "wo write-only", "Send")
        box = app.panes.pane_of("Mixed", "MASK")
        box.blobs.on_send(file, "M")
        await until(lambda: mixed.masks)
        assert mixed.masks == [(b"not really", ".fits.gz")]
        box.blobs.on_send(tmp_path / "missing", "M")
        await on_screen(app, "the BLOB cannot be read")


async def test_nothing_runs_while_nothing_changes() -> None:
    """With everything open, after an update and two BLOBs, there is neither another refresh nor a timer."""
    mixed = Mixed()
    async with serving(mixed) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Mixed")
        await on_screen(app, "Count", "Status lights", "nothing received yet")
        await blobs_requested(app, pilot)
        mixed.count["N"] = 5
        await mixed.count.send_setVector()
        for content in (b"one", b"another"):
            await server_reached(app)
            await mixed.send_image(content)
        await on_screen(app, "7 B")
        await pilot.press("tab")  # away from the tree
        await until(lambda: not any(shown.moving() for shown in app.board))
        await until(lambda: not running_timers(app), lambda: f"the end of {running_timers(app)}")


def running_timers(app: TermApp) -> list[object]:
    """Return what would wake the app although nothing arrives."""
    timers = [timer for node in (app, *app.screen.walk_children(with_self=True)) for timer in node._timers]
    running: list[object] = [timer for timer in timers if timer._active.is_set()]
    return running if app._timer is None else [*running, app._timer]
