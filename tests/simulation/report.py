"""Runs seeds, and says what went wrong in a way that can be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.simulation.faults import FAULTS, Fault
from tests.simulation.script import Script, make, write_steps
from tests.simulation.shrink import Runner, run, shrink
from tests.simulation.site import Outcome, Violation

FIRST = 0
"""The first seed with which planted faults are searched for."""

MOST_SEEDS = 100
"""Seeds within which each planted fault is found."""


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


class Found(NamedTuple):
    """How a planted fault was found."""

    seed: int
    violation: Violation


def find(fault: Fault, *, first: int | None = None, runner: Runner = run) -> Found | None:
    """Plant a fault, and run seeds until one breaks an invariant; None if `MOST_SEEDS` do not.

    Args:
        fault: The fault.
        first: The first seed; None for the one that has found the fault before, and then those from `FIRST` on.
        runner: What runs a script.

    Raises:
        Failure: The invariant does not hold without the fault either.
    """
    begin = FIRST if first is None else first
    seeds = [*([fault.seed] if first is None else []), *range(begin, begin + MOST_SEEDS)]
    for seed in seeds:
        script = make(seed, fault.shape, fault.theme)
        with fault.planted():
            violation = runner(script, None).violation
        if violation is None:
            continue
        sound = runner(script, None).violation
        if sound is not None:
            raise Failure(explain(script, sound, range(len(script.steps)), fault.shape, fault.theme))
        return Found(seed, violation)
    return None


def find_all(tell: Callable[[str], None], *, first: int | None = None) -> bool:
    """Plant one fault after the other, and say what has found it; return whether all were found. See `find`.

    Raises:
        Failure: An invariant does not hold without a fault either.
    """
    missed = 0
    for fault in FAULTS:
        found = find(fault, first=first)
        if found is None:
            missed += 1
            tell(f"{fault.name}: not found by {MOST_SEEDS} seeds")
        else:
            note = "" if first is not None or found.seed == fault.seed else f" (no longer by seed {fault.seed})"
            tell(f"{fault.name}: {found.violation.invariant}, seed {found.seed}{note}")
    tell(f"{len(FAULTS) - missed} of {len(FAULTS)} planted faults were found")
    return not missed
