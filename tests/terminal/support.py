"""Helpers for tests that run the terminal in front of real servers: waiting, and reading the screen."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from indifast import IPyDriver, IPyServer
from indifast.cli.toolkit.address import Address, parse_address
from indifast.terminal.app import TermApp
from indifast.terminal.tree import Place
from tests.support import blackbox
from tests.support.blackbox import LIMIT
from tests.support.libindi import value


def screen_text(app: TermApp) -> str:
    """Return the text on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def until(condition: Callable[[], Any], what: Callable[[], str] | str = "the condition") -> Any:
    """Wait until `condition()` is true, and return its value."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.01)
    return found


async def on_screen(app: TermApp, *texts: str) -> None:
    """Wait until all these texts are on the screen."""

    def missing() -> list[str]:
        screen = screen_text(app)
        return [text for text in texts if text not in screen]

    await until(lambda: not missing(), lambda: f"{missing()} in\n{screen_text(app)}")


async def off_screen(app: TermApp, text: str) -> None:
    """Wait until a text is no longer on the screen."""
    await until(lambda: text not in screen_text(app), lambda: f"{text!r} to disappear from\n{screen_text(app)}")


@contextlib.asynccontextmanager
async def serving(
    *drivers: IPyDriver, programs: tuple[str, ...] = (), port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """A server with drivers of this process and executable drivers; yields its port."""
    server = IPyServer(*drivers, host=host, port=port)
    for program in programs:
        server.add_exdriver(program)
    running = asyncio.create_task(server.asyncrun())
    try:
        await server.ready()
        yield server.port
    finally:
        server.shutdown()
        await running


@contextlib.asynccontextmanager
async def terminal(
    port: int | None, size: tuple[int, int] = (80, 24), app: TermApp | None = None
) -> AsyncIterator[tuple[TermApp, Pilot[int]]]:
    """The terminal client of a server on this machine, or without a server if `port` is None."""
    if app is None:
        app = TermApp(Address("127.0.0.1", port) if port else None, parse_address)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def go_to(app: TermApp, pilot: Pilot[int], *place: str) -> None:
    """Wait until a device, group or property is in the tree, and move the tree's cursor to it."""
    target = Place(*place)
    await until(lambda: app.property_tree.go_to(target), f"{target} in the tree")
    await until(lambda: app.panes.place == target, f"the panes of {target}")
    await pilot.pause()


async def choose_server(app: TermApp, pilot: Pilot[int], text: str) -> None:
    """Open the window for the choice of a server, wait until it takes text, and type this one."""
    await pilot.press("c")
    await until(lambda: isinstance(app.focused, Input) and app.screen.query("#disconnect"), "the window")
    await pilot.press("ctrl+u", *text, "enter")


async def blobs_requested(app: TermApp, pilot: Pilot[int]) -> None:
    """Press the key that requests the BLOBs of the property at the cursor, and wait until the server knows."""
    await pilot.press("b")
    await on_screen(app, "BLOBs are requested: b stops them")
    await server_reached(app)


async def server_reached(app: TermApp) -> None:
    """Wait until the server has handled everything that the client has sent."""
    assert app.session.client is not None
    await app.session.client.ping(LIMIT)


async def simulator_has(port: int, name: str, wanted: float | str) -> None:
    """Wait until DEVICE.VECTOR.MEMBER has a value, according to `indi_getprop`."""

    def reached() -> bool:
        seen = value(port, name)
        return float(seen or "nan") == wanted if isinstance(wanted, float) else seen == wanted

    await asyncio.to_thread(blackbox.until, reached, what=f"{name}={wanted}")


@contextlib.contextmanager
def server_process(*arguments: str) -> Iterator[int]:
    """Python with `arguments`, in a separate process, which runs a server; yields the port, which it prints first."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            yield int(program.stdout.readline())
        finally:
            program.kill()


def demo_drivers() -> contextlib.AbstractContextManager[int]:
    """A server with the camera and the thermostat of `indifast demo`, in a separate process; yields its port."""
    return server_process("-m", "indifast.cli.demo.drivers", "64", "48")
