"""Servers that go away and come back, and the choice of another server."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.color import Color

from indifast import Device, IPyDriver, IPyServer, NumberMember, NumberVector, SwitchMember, SwitchVector
from indifast.cli.toolkit.address import Address, parse_address
from indifast.terminal.app import TermApp
from indifast.terminal.board import Board
from indifast.terminal.numberpane import NumberPane
from indifast.terminal.session import Session
from indifast.terminal.tree import Place
from tests.support.blackbox import free_port
from tests.support.libindi import Indiserver
from tests.terminal.support import choose_server, go_to, off_screen, on_screen, serving, terminal, until


class Box(IPyDriver):
    """A driver with one number, which does not change."""

    def __init__(self, name: str = "Box", value: float = 7.25, group: str = "Main") -> None:
        self.level = NumberVector(
            "LEVEL", "Level", group, "rw", "Ok", [NumberMember("L", "Litres", "%.2f", 0, 10, 0, value)]
        )
        super().__init__(Device(name, [self.level]))


async def test_the_screen_is_kept_while_the_link_is_lost() -> None:
    port = free_port()
    async with terminal(port) as (app, pilot):
        async with serving(Box(), Box("Other"), port=port):
            await go_to(app, pilot, "Box", "Main", "LEVEL")
            await on_screen(app, "7.25", "connected, 2 devices")
            await pilot.press("right")
        await on_screen(app, "lost link, trying again", "these are old values", "7.25", "Box")
        await pilot.press("5")
        await on_screen(app, "nothing can be sent: the link is lost")
        async with serving(Box(value=8.5), port=port):
            await on_screen(app, "connected", "8.50")
            await off_screen(app, "these are old values")
            await pilot.press("enter", *"9", "enter")
            await until(lambda: app.board.properties["Box", "LEVEL"].state == "Busy")
            await go_to(app, pilot, "Other", "Main", "LEVEL")
            await on_screen(app, "not back since the link was lost")
            await pilot.press("x")
            await until(lambda: ("Other", "LEVEL") not in app.board.properties)
            await off_screen(app, "Other")


class Cooler(IPyDriver):
    """A device whose temperature exists only while it is connected, as most devices of libindi."""

    def __init__(self, connected: bool) -> None:
        on, off = ("On", "Off") if connected else ("Off", "On")
        members = [SwitchMember("CONNECT", "Connect", on), SwitchMember("DISCONNECT", "Disconnect", off)]
        self.connection = SwitchVector("CONNECTION", "Connection", "Main", "rw", "OneOfMany", "Ok", members)
        self.level = NumberVector(
            "LEVEL", "Level", "Main", "rw", "Ok", [NumberMember("L", "Litres", "%.2f", 0, 9, 0, 7)]
        )
        self.level.enable = connected
        super().__init__(Device("Cooler", [self.connection, self.level]))

    async def rxevent(self, event: Any) -> None:
        connected = event["CONNECT"] == "On"
        self.connection["CONNECT"], self.connection["DISCONNECT"] = ("On", "Off") if connected else ("Off", "On")
        await self.connection.send_setVector(state="Ok")
        if connected:
            self.level.enable = True
            await self.level.send_defVector()


async def test_a_device_that_comes_back_disconnected() -> None:
    """The terminal says what to do, everywhere one may look, until it is done."""
    port = free_port()
    async with terminal(port, (120, 40)) as (app, pilot):
        async with serving(Cooler(connected=True), port=port):
            await go_to(app, pilot, "Cooler", "Main")
            await on_screen(app, "7.00", "connected, 1 device")
        await on_screen(app, "lost link, trying again", "these are old values")
        cooler = Cooler(connected=False)
        async with serving(cooler, port=port):
            await on_screen(
                app,
                "▲ 127.0.0.1",
                "connected, 1 device; connect Cooler again",
                "Cooler CONNECTION: is back, but no longer connected: turn Connect on",
                "was connected, and is not since it came back",
                "not back since the link was lost (connect the device again, or x forgets it)",
            )
            await pilot.press("tab", "enter")
            await off_screen(app, "connect Cooler again")
            await off_screen(app, "was connected, and is not")
            await off_screen(app, "not back since the link was lost")
            await on_screen(app, "7.00")


async def test_a_device_that_was_not_connected_needs_no_advice() -> None:
    port = free_port()
    async with terminal(port, (120, 40)) as (app, pilot):
        async with serving(Cooler(connected=True), port=port):
            await go_to(app, pilot, "Cooler", "Main")
            await on_screen(app, "7.00")
            await pilot.press("tab", "down", "enter")  # disconnect
            await until(lambda: app.board.properties["Cooler", "CONNECTION"].vector["DISCONNECT"] == "On")
        await on_screen(app, "lost link, trying again")
        async with serving(Cooler(connected=False), port=port):
            await on_screen(app, "● 127.0.0.1", "connected, 1 device")
            assert not app.board.to_connect


async def test_the_advice_to_connect_a_device_can_be_forgotten() -> None:
    port = free_port()
    async with terminal(port, (120, 40)) as (app, pilot):
        async with serving(Cooler(connected=True), port=port):
            await go_to(app, pilot, "Cooler", "Main")
            await on_screen(app, "7.00")
        async with serving(Cooler(connected=False), port=port):
            await on_screen(app, "connect Cooler again")
            await pilot.press("x")
            await off_screen(app, "connect Cooler again")
            await off_screen(app, "was connected, and is not")


async def test_the_order_of_devices_does_not_depend_on_the_order_of_their_definitions() -> None:
    port = free_port()
    names = ["alpha", "Beta", "Camera 1", "Camera 2", "delta"]

    def shown() -> list[str]:
        return [str(node.data.device) for node in app.property_tree.root.children if node.data is not None]

    async with terminal(port) as (app, pilot):
        for order in ([3, 0, 4, 2, 1], [1, 2, 0, 4, 3]):
            async with serving(*(Box(names[number]) for number in order), port=port):
                await on_screen(app, "connected, 5 devices")
                await until(lambda: not any(shown.lost for shown in app.board))
                await until(lambda: shown() == names, lambda: str(shown()))
                await go_to(app, pilot, "Camera 2")
            await on_screen(app, "lost link")
            assert shown() == names
            assert app.panes.place == Place("Camera 2")
        second = Box("Camera 1b")
        async with serving(*(Box(name) for name in names), second, port=port):
            await on_screen(app, "connected, 6 devices")
            await until(lambda: shown() == [*names[:3], "Camera 1b", *names[3:]], lambda: str(shown()))
            assert app.panes.place == Place("Camera 2")
            await second.level.send_delProperty()
            await until(lambda: shown() == names)


async def test_a_property_that_does_not_come_back_says_so_without_being_selected_again() -> None:
    """The property was found by a search, which stays open while the server restarts."""
    port = free_port()
    async with terminal(port) as (app, pilot):
        async with serving(Box(), Box("Other"), port=port):
            await on_screen(app, "Other", "7.25")
            await pilot.press("slash", *"other level", "enter")
            await until(lambda: app.panes.place == Place("Other", "Main", "LEVEL"))
        await on_screen(app, "lost link, trying again: these are old values")
        async with serving(Box(), port=port):
            await on_screen(app, "connected, 2 devices", "not back since the link was lost (x forgets it)")
        await on_screen(app, "▲", "lost link, trying again: these are old values")
        app.disconnect_now()
        await on_screen(app, "not connected: c connects", "not connected: these are old values")
        app.connect_to(Address("127.0.0.1", port))
        await on_screen(app, "▲", "lost link, trying again: these are old values")


@pytest.fixture
def long_path() -> Iterator[str]:
    """A path of 100 characters, almost the most that a socket can have, wherever temporary files are stored."""
    folder = tempfile.mkdtemp(prefix="indifast-", dir="/tmp")
    yield f"{folder}/socket".ljust(100, "x")
    shutil.rmtree(folder)


async def test_a_long_path_leaves_room_for_the_state_of_the_link(long_path: str) -> None:
    server = IPyServer(Box(), port=None, unix_socket=long_path)
    running = asyncio.create_task(server.asyncrun())
    await server.ready()
    async with terminal(None, app=TermApp(Address(unix=long_path), parse_address)) as (app, pilot):
        await on_screen(app, "● the local socket /", "…xxx", "x  connected, 1 device")
        await pilot.resize_terminal(160, 24)
        await on_screen(app, f"● the local socket {long_path}  connected, 1 device")
        server.shutdown()
        await running
        await pilot.resize_terminal(80, 24)
        await on_screen(app, "…xxx", "x  lost link, trying again")


async def test_a_server_that_is_killed(program: Callable[[str], str], tmp_path: Path) -> None:
    """The C++ server does not announce its end."""
    port = free_port()
    driver = program("indi_simulator_telescope")
    servers: list[Indiserver] = []

    def linked() -> bool:
        """Start the server if necessary, perhaps more than once, because its port may not be free at once."""
        if not servers or not servers[-1].running():
            servers.append(Indiserver(tmp_path, driver, port=port))
        return app.board.linked

    try:
        async with terminal(port) as (app, pilot):
            await until(linked)
            await go_to(app, pilot, "Telescope Simulator", "Main Control", "CONNECTION")
            await on_screen(app, "OneOfMany", "connected")
            servers[-1].kill()
            await on_screen(app, "lost link, trying again", "these are old values", "OneOfMany")
            await until(linked)
            await off_screen(app, "these are old values")
            await on_screen(app, "connected, 1 device", "OneOfMany")
    finally:
        for server in servers:
            server.kill()


async def test_old_values_are_dimmed() -> None:
    port = free_port()
    async with terminal(port) as (app, pilot):
        async with serving(Box(), port=port):
            await go_to(app, pilot, "Box", "Main", "LEVEL")
            await on_screen(app, "7.25")
            pane = app.panes.pane_of("Box", "LEVEL")
            assert isinstance(pane, NumberPane)
            member = pane.shown.vector.member("L")
            assert not pane.value_style(member).dim
        await on_screen(app, "these are old values")
        assert pane.value_style(member).dim


async def test_another_server_can_be_chosen_while_the_terminal_runs() -> None:
    async with serving(Box("First")) as one, serving(Box("Second")) as two, terminal(one) as (app, pilot):
        await on_screen(app, "First", "connected")
        await choose_server(app, pilot, "nonsense:port")
        await on_screen(app, "the port must be a number")
        await pilot.press("ctrl+u", *f"127.0.0.1:{two}", "enter")
        await on_screen(app, "Second", f"127.0.0.1:{two}")
        await off_screen(app, "First")


@pytest.mark.parametrize("written", ["[::1]:{port}", "[::1]:{port} "])
async def test_ipv6_addresses(written: str) -> None:
    async with serving(Box("Six"), host="::1") as port, terminal(None) as (app, pilot):
        await on_screen(app, "no server: c connects")
        await choose_server(app, pilot, written.format(port=port))
        await on_screen(app, f"[::1]:{port}", "Six")


async def test_the_screen_is_kept_after_disconnecting() -> None:
    async with serving(Box()) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Box", "Main", "LEVEL")
        await on_screen(app, "7.25")
        await pilot.press("c")
        await until(lambda: app.screen.query("#disconnect"))
        await pilot.click("#disconnect")
        await on_screen(app, "not connected: c connects", "not connected: these are old values", "7.25")
        assert not app.session.running
        await pilot.press("c", "enter")
        await on_screen(app, "connected, 1 device")


async def test_choices_that_follow_faster_than_a_connection_ends() -> None:
    """The last choice wins, and no client of an earlier one keeps running."""
    board = Board(lambda: None)
    session = Session(board)
    async with serving(Box("First")) as one, serving(Box("Second")) as two:
        await session.connect(parse_address(f"127.0.0.1:{one}"))
        await until(lambda: board.linked)
        for last in (one, two):
            others = [one, two, one, two, last]
            await asyncio.gather(*(session.connect(parse_address(f"127.0.0.1:{port}")) for port in others))
            await until(lambda last=last: ("First" if last == one else "Second", "LEVEL") in board.properties)
            running = [task for task in asyncio.all_tasks() if task.get_name() == "terminal client"]
            assert len(running) == 1
        await asyncio.gather(session.connect(parse_address(f"127.0.0.1:{one}")), session.disconnect())
        assert not session.running
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "terminal client"]


async def test_the_first_screen_says_what_to_do_where_no_server_answers() -> None:
    port = free_port()
    async with terminal(port) as (app, _):
        await on_screen(app, "connecting", "trying again in", f"No answer yet from 127.0.0.1:{port}")
        await on_screen(app, "c  choose a server", "indifast serve indi_simulator_ccd")
        async with serving(Box(), port=port):
            await on_screen(app, "7.25")
            await off_screen(app, "No answer yet")


async def test_the_first_screen_says_what_to_do_without_a_server_and_without_devices() -> None:
    async with serving() as port, terminal(None) as (app, pilot):
        await on_screen(app, "No server is connected", "c  choose a server", "?  show all keys", "q  quit")
        await choose_server(app, pilot, f"127.0.0.1:{port}")
        await on_screen(app, "The server has no devices yet", "c  choose another server")
        await off_screen(app, "No server is connected")
        await pilot.press("c")
        await until(lambda: app.screen.query("#disconnect"))
        await pilot.click("#disconnect")
        await on_screen(app, "No server is connected")


async def test_deletions_and_definitions_are_shown() -> None:
    box = Box()
    async with serving(box) as port, terminal(port) as (app, pilot):
        await go_to(app, pilot, "Box", "Main", "LEVEL")
        await on_screen(app, "Litres")
        await box.level.send_delProperty("gone now")
        await off_screen(app, "Litres")
        await on_screen(app, "gone now")
        box.level.enable = True
        await box.level.send_defVector()
        await go_to(app, pilot, "Box", "Main", "LEVEL")
        await on_screen(app, "Litres")


async def test_a_key_switches_between_dark_and_light() -> None:
    async with serving(Box()) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Box")
        dark = Color.parse(app.theme_variables["background"]).brightness
        await pilot.press("t")
        await until(lambda: Color.parse(app.theme_variables["background"]).brightness > dark)
