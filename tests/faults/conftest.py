"""Servers and drivers in processes of their own, for the tests of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.support import Served
from tests.support.blackbox import Hub


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts `programs/served.py` with the options given; all are ended after the test."""
    started: list[Served] = []

    def start(**options: object) -> Served:
        started.append(Served(tmp_path, options))
        return started[-1]

    yield start
    for served in started:
        served.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Executable drivers that the test itself plays."""
    made = Hub(tmp_path)
    yield made
    made.close()
