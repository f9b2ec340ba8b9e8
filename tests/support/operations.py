"""What something costs, as a number that neither the clock nor a busy machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def operations(work: Callable[[], object]) -> int:
    """How many lines Python runs for a call, all that it calls included; a loop counts each time round.

    A loop inside of a function in C counts as one, unless it calls Python: searches do where `__eq__` is a function.
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
