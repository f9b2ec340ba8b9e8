"""Servers of libindi with connected simulators, for the tests of the tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.blackbox import until
from tests.support.libindi import Indiserver, libindi, value
from tests.tools.support import CAMERA, MOUNT

SIMULATORS = {CAMERA: "indi_simulator_ccd", MOUNT: "indi_simulator_telescope"}
DEFINED_LATE = {CAMERA: "CCD_EXPOSURE._STATE", MOUNT: "EQUATORIAL_EOD_COORD._STATE"}
"""What the simulators define only when they are connected."""


def connect(server: Indiserver, device: str) -> None:
    """Connect a device and wait for its definitions."""
    name = f"{device}.CONNECTION.CONNECT"
    server.until_defined(name)
    libindi("setprop", server.port, f"{name}=On")
    until(lambda: value(server.port, name) == "On", what=f"{name}=On")
    server.until_defined(f"{device}.{DEFINED_LATE[device]}")


@pytest.fixture(scope="module")
def server(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an indiserver with a camera and a mount, both connected."""
    folder = tmp_path_factory.mktemp("indiserver")
    with Indiserver(folder, *map(program, SIMULATORS.values())) as running:
        for device in SIMULATORS:
            connect(running, device)
        yield running.port


@pytest.fixture
def camera_server(program: Callable[[str], str], tmp_path: Path) -> Iterator[Indiserver]:
    """An indiserver with a connected camera, for a single test, which may end it."""
    with Indiserver(tmp_path, program(SIMULATORS[CAMERA])) as running:
        connect(running, CAMERA)
        yield running
