"""Counting the steps that Python executes: a measure of cost that depends on neither the clock nor the load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any


def operations(work: Callable[[], object]) -> int:
    """Return how many lines Python executes for a call, including everything it calls.

    A line in a loop counts each time. A loop inside a C function counts once, unless it calls Python, as a search does
    where `__eq__` is a Python function.
    """
    counted = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal counted
        if event == "line" or event == "call":
            counted += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


def assert_constant_cost(
    cost: Callable[[int], float], sizes: Sequence[int] = (100, 1_000, 20_000), *, factor: float = 1.5, slack: int = 10
) -> None:
    """Check that `cost(size)` operations do not depend on the size."""
    costs = {size: cost(size) for size in sizes}
    assert max(costs.values()) < factor * costs[sizes[0]] + slack, costs
