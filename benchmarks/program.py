"""Common parts of all benchmark programs: options, contenders that take turns, progress output, the stored result.

A program is a module with a `PROGRAM` and, at its end, `sys.exit(main(PROGRAM))`:

    def measure(settings: Settings) -> Iterable[Row]:
        turns = settings.turns("10 clients", {OURS: …, CPP: …})     # each call is one timed run: {"rate": MB/s, …}
        yield turns.row("rate", "10 clients", "MB/s on the wire")

    PROGRAM = Program("fanout", "Many clients", __doc__, measure, timed=2, goals=(Goal(…),))
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.results import Goal, Plot, Result, Row

COMPARED = 100
"""Minimum number of frames of each contender of which every byte is compared."""

Run = Callable[[float], Mapping[str, float]]
"""One timed run of the given seconds; returns figures by name. The figure "frames" counts frames that were compared."""


class Failed(Exception):
    """The reason why a run gave no figure: wrong bytes, a lost client, no answer."""


@dataclass(frozen=True)
class Turns:
    """Figures and failures of contenders that took turns."""

    runs: Mapping[str, Sequence[Mapping[str, float]]]
    failures: Mapping[str, Sequence[str]]

    def row(
        self, figure: str, title: str, unit: str, *, digits: int = 0, scale: float = 1.0, x: float | None = None
    ) -> Row:
        """Make a row of one of the figures.

        Args:
            figure: Name of the figure.
            title: Title of the row.
            unit: Unit of the scaled figures.
            digits: Decimal places in tables.
            scale: Factor for the figures.
            x: Position of the row on a curve.
        """
        figures = {name: [run[figure] * scale for run in runs if figure in run] for name, runs in self.runs.items()}
        frames = {
            name: int(sum(run["frames"] for run in runs))
            for name, runs in self.runs.items()
            if runs and "frames" in runs[0]
        }
        failures = {name: list(whys) for name, whys in self.failures.items() if whys}
        return Row(
            title, unit, {name: values for name, values in figures.items() if values}, digits, failures, frames, x
        )


@dataclass(frozen=True)
class Settings:
    """How often and how long to measure. `quick` is a trial: no goals are judged, and no run is extended."""

    runs: int = 5
    seconds: float = 5.0
    quick: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """The program's own options: numbers, or texts that are empty if not given."""

    def turns(self, label: str, contenders: Mapping[str, Run]) -> Turns:
        """Run every contender once per round. Each round begins with a different one, so that conditions are the same.

        If frames are compared, a contender with fewer than `COMPARED` of them in all its runs continues until it has
        them; of such an extra run, failures count but figures do not. A contender that failed gets no more turns.
        """
        runs: dict[str, list[Mapping[str, float]]] = {name: [] for name in contenders}
        failures: dict[str, list[str]] = {name: [] for name in contenders}
        extra: dict[str, float] = {}
        names = list(contenders)
        for number in range(self.runs):
            first = number % len(names) if names else 0
            for name in names[first:] + names[:first]:
                if failures[name]:
                    continue
                tell(f"{label}, run {number + 1} of {self.runs}: {name}")
                self._run(contenders[name], self.seconds, runs[name], failures[name])
        for name, done in runs.items():
            frames = sum(run.get("frames", COMPARED) for run in done)
            if done and frames < COMPARED and not failures[name] and not self.quick:
                seconds = 1.2 * self.seconds * len(done) * (COMPARED - frames) / max(frames, 1) + 1
                tell(f"{label}, until {COMPARED} frames are compared: {name}, {seconds:.0f} s")
                more: list[Mapping[str, float]] = []
                self._run(contenders[name], seconds, more, failures[name])
                extra[name] = sum(run["frames"] for run in more)
        for name, frames in extra.items():
            runs[name][-1] = {**runs[name][-1], "frames": runs[name][-1]["frames"] + frames}
        return Turns(runs, failures)

    def _run(self, run: Run, seconds: float, runs: list[Mapping[str, float]], failures: list[str]) -> None:
        try:
            runs.append(run(seconds))
        except (Failed, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as exc:
            failures.append(f"{type(exc).__name__}: {exc}" if not isinstance(exc, Failed) else str(exc))
            tell(f"  failed: {failures[-1]}")


@dataclass(frozen=True)
class Program:
    """A benchmark program. `timed` is the number of timed runs in a round, used to estimate the duration."""

    name: str
    title: str
    about: str
    measure: Callable[[Settings], Iterable[Row]]
    goals: Sequence[Goal] = ()
    timed: float = 1
    overhead: float = 1.0
    """Seconds in addition to each timed run, for starting and ending processes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Result, Path], Sequence[Plot]] | None = None
    """Draws plots of a stored result in a directory."""
    apart: bool = False
    """Whether it takes so long that it runs only if it is named."""

    def estimate(self, settings: Settings) -> float:
        """Estimate the duration in seconds."""
        return settings.runs * self.timed * (settings.seconds + self.overhead)

    def run(self, settings: Settings) -> Result:
        """Measure, and judge the result by the goals unless `settings.quick` is set."""
        start = time.monotonic()
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = list(self.measure(settings))
        stored = {"runs": settings.runs, "seconds": settings.seconds, "quick": settings.quick, **settings.options}
        judged = [] if settings.quick else [goal.judge(rows) for goal in self.goals]
        about = self.about.partition("\n\n")[2].strip()
        return Result(
            self.name, self.title, about, date, time.monotonic() - start, report.machine(), stored, rows, judged
        )


def tell(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def settings_parser(prog: str, about: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all programs have."""
    parser = argparse.ArgumentParser(prog=prog, description=about.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="runs of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, help="length of each run (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one run of one second, without judging goals")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="store the figures in this folder as JSON")
    return parser


def settings_of(given: argparse.Namespace, options: Mapping[str, Any]) -> Settings:
    """Return the settings for the given arguments. `--runs` and `--seconds` override what `--quick` implies."""
    runs = given.runs if given.runs is not None else 1 if given.quick else 5
    seconds = given.seconds if given.seconds is not None else 1.0 if given.quick else 5.0
    return Settings(runs, seconds, given.quick, {name: getattr(given, name) for name in options})


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run a program and print its tables; return 1 if indifast failed in any run, otherwise 0."""
    parser = settings_parser(f"python -m benchmarks.{program.name}", program.about)
    for name, default in program.options.items():
        shown = f"default: {default}" if default != "" else "words separated by commas"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=shown)
    given = parser.parse_args(arguments)
    result = program.run(settings_of(given, program.options))
    print(report.section(result))
    if given.results:
        result.save(given.results)
    return int(any(contender.startswith("indifast") for _, contender, _ in result.failures))
