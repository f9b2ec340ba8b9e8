"""A server of libindi with two simulators, connected, for all tests of the tools."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.blackbox import Child, free_port, until
from tests.tools.support import CAMERA, MOUNT, libindi

SIMULATORS = {CAMERA: "indi_simulator_ccd", MOUNT: "indi_simulator_telescope"}


@pytest.fixture(scope="module")
def server(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an indiserver with a camera and a mount, both connected."""
    folder = tmp_path_factory.mktemp("indiserver")
    port = free_port()
    words = [program("indiserver"), "-p", str(port), "-u", f"{folder}/socket", *map(program, SIMULATORS.values())]
    with Child(words, folder, env={"HOME": str(folder)}):
        for device in SIMULATORS:
            until(lambda device=device: not libindi("getprop", port, f"{device}.CONNECTION.CONNECT").returncode)
            libindi("setprop", port, f"{device}.CONNECTION.CONNECT=On")
            until(lambda device=device: connected(port, device))
        until(lambda: CAMERA in libindi("getprop", port, f"{CAMERA}.CCD_EXPOSURE._STATE").stdout)
        until(lambda: MOUNT in libindi("getprop", port, f"{MOUNT}.EQUATORIAL_EOD_COORD._STATE").stdout)
        yield port


def connected(port: int, device: str) -> bool:
    found: subprocess.CompletedProcess[str] = libindi("getprop", port, f"{device}.CONNECTION.CONNECT")
    return found.stdout.strip().endswith("=On")
