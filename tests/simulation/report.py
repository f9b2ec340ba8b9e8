"""Runs seeds, and says what went wrong in a way that can be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.simulation.faults import Fault
from tests.simulation.script import Script, make, write_steps
from tests.simulation.shrink import Runner, run, shrink
from tests.simulation.site import Outcome, Violation


@dataclass
class Totals:
    """What many runs have done."""

    runs: int = 0
    events: int = 0
    messages: int = 0
    virtual: float = 0.0
    seconds: float = 0.0

    def add(self, outcome: Outcome, seconds: float) -> None:
        self.runs += 1
        self.events += outcome.events
        self.messages += outcome.messages
        self.virtual += outcome.seconds
        self.seconds += seconds

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.events} events, {self.messages} messages routed, {self.virtual:.0f} simulated "
            f"seconds in {self.seconds:.1f} s: {self.events / max(self.seconds, 1e-9):.0f} events/s"
        )


class Failure(AssertionError):
    """A run has broken an invariant."""


def explain(script: Script, violation: Violation, steps: Sequence[int], shape: str | None, theme: str | None) -> str:
    """Return what happened, where, and how to see it again."""
    command = f"python -m tests.simulation --seed {script.seed}"
    if shape is not None:
        command += f" --shape '{shape}'"
    if theme is not None:
        command += f" --theme '{theme}'"
    if len(steps) < len(script.steps):
        command += f" --steps {write_steps(steps)}"
    return f"{violation}\n{script.describe()}\n{script.listing(steps)}\nAgain: {command}"


def run_seed(
    seed: int,
    *,
    shape: str | None = None,
    theme: str | None = None,
    steps: Sequence[int] | None = None,
    shrinking: float = 60.0,
    runner: Runner = run,
    totals: Totals | None = None,
) -> Outcome:
    """Run one seed.

    Args:
        shape: A site other than the one that the seed chooses.
        theme: What happens often, if not what the seed chooses.
        steps: Some of its steps.
        shrinking: Seconds to look for a smaller failure.
        runner: What runs a script.
        totals: What the run is added to.

    Raises:
        Failure: An invariant does not hold; the text says all.
    """
    script = make(seed, shape, theme)
    begin = time.perf_counter()
    outcome = runner(script, steps)
    if totals is not None:
        totals.add(outcome, time.perf_counter() - begin)
    if outcome.violation is not None:
        chosen = list(range(len(script.steps)) if steps is None else steps)
        if shrinking:
            chosen = shrink(script, outcome.violation.invariant, seconds=shrinking, runner=runner, steps=chosen)
            outcome = runner(script, chosen)
            assert outcome.violation is not None
        raise Failure(explain(script, outcome.violation, chosen, shape, theme))
    return outcome


def run_for(
    seconds: float,
    seeds: Iterable[int],
    tell: Callable[[str], None],
    *,
    shape: str | None = None,
    theme: str | None = None,
    every: float = 30.0,
    shrinking: float = 60.0,
) -> Totals:
    """Run one seed after the other for some time, or until one fails.

    Raises:
        Failure: An invariant does not hold.
    """
    totals = Totals()
    begin = told = time.monotonic()
    for seed in seeds:
        run_seed(seed, shape=shape, theme=theme, totals=totals, shrinking=shrinking)
        now = time.monotonic()
        if now - told > every:
            told = now
            tell(f"seed {seed}: {totals}")
        if now - begin > seconds:
            break
    return totals


def seeds_until_found(fault: Fault, first: int = 5000, runner: Runner = run) -> tuple[int, Violation] | None:
    """Plant a fault, and return after how many seeds it has broken an invariant, and which; None if it has not."""
    with fault.planted():
        for count in range(fault.most_seeds):
            violation = runner(make(first + count, fault.shape, fault.theme), None).violation
            if violation is not None:
                return count + 1, violation
    return None
