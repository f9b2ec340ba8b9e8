"""List of the benchmark programs, and access to their stored results."""

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
    "links",
    "beside",
    "memory",
    "start",
    "scaling",
    "driver",
    "client",
    "codec",
    "tokenizer",
    "recording",
    "web",
    "browser",
    "viewers",
)
"""The programs in the order in which they run and appear on the page."""


def load(name: str) -> Program:
    """Return the program of the module with this name."""
    found: Program = importlib.import_module(f"benchmarks.{name}").PROGRAM
    return found


def results_in(folder: Path, names: Iterable[str] = NAMES) -> list[Result]:
    """Return the stored results of these programs in the same order, without those that have none."""
    return [Result.load(path) for name in names if (path := folder / f"{name}.json").exists()]
