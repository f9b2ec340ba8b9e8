"""Servers and drivers in separate processes, for the tests of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.support import Serve, Served, ServeDriver
from tests.support.blackbox import Channel, Hub


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts `programs/served.py` with options, and returns the server; all servers are ended after the test."""
    started: list[Served] = []

    def start(**options: object) -> Served:
        started.append(Served(tmp_path, options))
        return started[-1]

    yield start
    for served in started:
        served.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Executable drivers that are played by the test."""
    made = Hub(tmp_path)
    yield made
    made.close()


@pytest.fixture
def serve_driver(serve: Serve, hub: Hub) -> ServeDriver:
    """Starts a server with options and an executable driver, and returns the server and the stream to the driver."""

    def start(**options: object) -> tuple[Served, Channel]:
        served = serve(programs=[[hub.program("one")]], **options)
        _, driver = hub.accept()
        return served, driver

    return start
