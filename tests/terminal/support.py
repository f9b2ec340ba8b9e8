"""The terminal in front of real servers: what tests wait for, and how they read the screen."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from textual.pilot import Pilot

from indifast import IPyDriver, IPyServer
from indifast.cli.toolkit.address import Address, parse_address
from indifast.terminal.app import TermApp
from indifast.terminal.tree import Place
from tests.support.blackbox import LIMIT


def screen_text(app: TermApp) -> str:
    """What stands on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def until(condition: Callable[[], Any], what: Callable[[], str] | str = "", limit: float = LIMIT) -> Any:
    """Wait for a condition; gives its value."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.01)
    return value


async def on_screen(app: TermApp, *texts: str) -> None:
    """Wait until all these texts are on the screen."""

    def missing() -> list[str]:
        screen = screen_text(app)
        return [text for text in texts if text not in screen]

    await until(lambda: not missing(), lambda: f"{missing()} in\n{screen_text(app)}")


async def off_screen(app: TermApp, text: str) -> None:
    """Wait until a text is on the screen no more."""
    await until(lambda: text not in screen_text(app), lambda: f"to go: {text!r} in\n{screen_text(app)}")


@contextlib.asynccontextmanager
async def serving(
    *drivers: IPyDriver, programs: tuple[str, ...] = (), port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """A server with drivers of this process and programs; gives its port."""
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
    """The terminal client of a server on this machine."""
    if app is None:
        app = TermApp(Address("127.0.0.1", port) if port else None, parse_address)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def go_to(app: TermApp, pilot: Pilot[int], *place: str) -> None:
    """Wait until something is in the tree, and put the tree's cursor on it."""
    target = Place(*place)
    await until(lambda: app.property_tree.go_to(target), f"{target} in the tree")
    await until(lambda: app.panes.place == target, f"the panes of {target}")
    await pilot.pause()


async def simulator_has(port: int, name: str, wanted: float | str) -> None:
    """Wait until DEVICE.VECTOR.MEMBER has a value, as the C++ tool tells it."""
    deadline = time.monotonic() + LIMIT
    while (told := await asyncio.to_thread(_getprop, port, name)) != wanted:
        if isinstance(wanted, float) and told and float(told) == wanted:
            return
        assert time.monotonic() < deadline, f"{name} is {told!r}, not {wanted!r}"


def _getprop(port: int, name: str) -> str:
    command = ["indi_getprop", "-p", str(port), "-t", "10", "-1", name]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


@contextlib.contextmanager
def serving_apart() -> Iterator[int]:
    """The demonstration's camera and thermostat in a process of their own; gives their port."""
    command = [sys.executable, "-m", "indifast.cli.demo.drivers", "64", "48"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            yield int(program.stdout.readline())
        finally:
            program.kill()
