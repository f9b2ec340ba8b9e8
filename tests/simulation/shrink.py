"""Makes failures small: which steps of a script are needed for the same invariant to break."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.simulation.script import Script
from tests.simulation.site import Outcome, Site

Runner = Callable[[Script, Sequence[int] | None], Outcome]


def run(script: Script, steps: Sequence[int] | None = None) -> Outcome:
    """Run a script, or some of its steps."""
    return Site(script, steps).run()


def shrink(
    script: Script, invariant: str, *, seconds: float = 60.0, runner: Runner = run, steps: Sequence[int] | None = None
) -> list[int]:
    """Return as few steps as can be found in some seconds of processor time that break the invariant as well.

    This is delta debugging: leave out large parts, then smaller ones, until no single step can be left out.
    """
    deadline = time.process_time() + seconds
    kept = list(range(len(script.steps)) if steps is None else steps)

    def fails(chosen: Sequence[int]) -> bool:
        violation = runner(script, chosen).violation
        return violation is not None and violation.invariant == invariant

    size = max(1, len(kept) // 2)
    while kept:
        removed = False
        begin = 0
        while begin < len(kept) and time.process_time() < deadline:
            without = kept[:begin] + kept[begin + size :]
            if fails(without):
                kept = without
                removed = True
            else:
                begin += size
        if time.process_time() >= deadline or (size == 1 and not removed):
            break
        size = max(1, min(size // 2, len(kept) // 2))
    return kept
