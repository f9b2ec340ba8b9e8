"""Fixtures for the tests of streams."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.descriptors import open_fds
from tests.support.loops import LOOPS, run_on


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine as `asyncio.run` does, once on each event loop."""
    return partial(run_on, request.param)


@pytest.fixture
def no_fd_left_open() -> Iterator[None]:
    """Check that all descriptors that the test opens are closed at its end."""
    before = open_fds()
    yield
    assert not open_fds() - before
