"""A server with simulators and strange drivers, and the web application in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.blackbox import Child, free_port, python_environment
from tests.support.commands import INDIFAST
from tests.web.chromium import chromium
from tests.web.support import PROGRAMS, Site, site


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with libindi's camera and the drivers of `strange.py`."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [*INDIFAST, "serve", "-p", str(port), "--no-abstract", "indi_simulator_ccd", "strange:make"]
    environment = python_environment(HOME=str(folder))
    environment["PYTHONPATH"] += f":{PROGRAMS}"
    with Child(command, folder, env=environment, cwd=PROGRAMS) as running:
        running.until_stderr("listening on")
        yield port


@pytest.fixture(scope="session")
def web(server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The application, which anybody on this machine may use."""
    with site(tmp_path_factory.mktemp("web"), f"localhost:{server}") as running:
        for device, name in (("CCD Simulator", "CONNECTION"), ("Strange", "HEALTH"), ("Eye", "PICTURE")):
            running.wait_for(device, name)
        yield running


@pytest.fixture(scope="session")
def camera(web: Site) -> Site:
    """The same, with the camera connected."""
    answer = web.set("CCD Simulator", "CONNECTION", {"CONNECT": True}, timeout=60)
    assert answer.status == 200, answer.body
    web.wait_for("CCD Simulator", "CCD1")
    return web


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium."""
    with chromium(tmp_path_factory.mktemp("chromium"), 1100, 900) as running:
        yield running


@pytest.fixture
def browser(window: Any) -> Iterator[Any]:
    """Chromium with an empty page, which is no viewer any more after the test."""
    yield window
    window.get("about:blank")
    window.get_log("browser")


@pytest.fixture
def phone(browser: Any) -> Iterator[Any]:
    """The same, with the window of a phone."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    yield browser
    browser.execute_script("localStorage.clear()")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
