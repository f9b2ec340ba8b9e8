"""The targets in Python: one module each, with a function `run` that takes an input and raises if a check fails."""

from __future__ import annotations

import importlib
from collections.abc import Callable

NAMES = ("tokenizer", "codec", "recording", "fifo", "options", "client", "driver", "server")


def load(name: str) -> Callable[[bytes], None]:
    """Return the function of a target."""
    run: Callable[[bytes], None] = importlib.import_module(f"{__name__}.{name}").run
    return run
