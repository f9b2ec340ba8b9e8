"""The event loops that everything runs on: asyncio's, ours, and uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from indifast.transport.epoll import EventLoop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "ours": EventLoop, "uvloop": uvloop.new_event_loop}

on_every_loop = pytest.mark.parametrize("loop", LOOPS)
"""Runs a test once with the name of each loop, for `run_on`."""


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine as `asyncio.run` does, on the loop of this name."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)
