"""What the tests of streams run on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.support.loops import LOOPS, run_on


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """`asyncio.run` on each of the event loops."""
    return partial(run_on, request.param)
