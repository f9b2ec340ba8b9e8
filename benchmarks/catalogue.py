"""Which benchmark programs there are, and where each one's results are stored."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

from benchmarks.program import Program
from benchmarks.results import Result

NAMES = (
    "relay",
    "fanout",
    "upload",
    "latency",
    "flood",
    "attached",
    "stalled",
    "stack",
    "chain",
    "memory",
    "start",
    "scaling",
    "driver",
    "client",
    "codec",
    "tokenizer",
)
"""In the order in which they run and stand on the page."""


def load(name: str) -> Program:
    """What the module of this name measures."""
    found: Program = importlib.import_module(f"benchmarks.{name}").PROGRAM
    return found


def results_in(folder: Path, names: Iterable[str] = NAMES) -> list[Result]:
    """The stored results of these programs, in the same order; of those that have any."""
    return [Result.load(path) for name in names if (path := folder / f"{name}.json").exists()]
