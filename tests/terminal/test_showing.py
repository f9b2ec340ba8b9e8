"""What the terminal shows of a server's devices."""

from __future__ import annotations

from indifast.cli.demo.drivers import CameraDriver, ThermostatDriver
from tests.terminal.support import go_to, on_screen, screen_text, serving, terminal, until


async def test_devices_groups_and_live_values() -> None:
    async with serving(CameraDriver(64, 48), ThermostatDriver()) as port, terminal(port) as (app, pilot):
        await on_screen(app, "Demo Camera", "Demo Thermostat")
        await go_to(app, pilot, "Demo Thermostat", "Main")
        await on_screen(app, "Wanted temperature", "ro read-only", "Heating")
        shown = app.board.properties["Demo Thermostat", "TEMPERATURE"]
        before = shown.vector["T"]
        await until(lambda: shown.vector["T"] != before)
        await until(lambda: shown.vector["T"] in screen_text(app), lambda: screen_text(app))
