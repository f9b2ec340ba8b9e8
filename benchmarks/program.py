"""What all benchmark programs have in common: options, contenders that take turns, progress, and the stored result.

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

from benchmarks import report
from benchmarks.results import Goal, Plot, Result, Row

COMPARED = 100
"""Frames of each contender, at least, of which every byte is compared."""

Run = Callable[[float], Mapping[str, float]]
"""One timed run of so many seconds: figures by name. The figure "frames" counts frames that were compared."""


class Failed(Exception):
    """This run has no figure, and says why: bytes are wrong, a client was lost, nothing came."""


@dataclass(frozen=True)
class Turns:
    """What came of contenders that took turns."""

    runs: Mapping[str, Sequence[Mapping[str, float]]]
    failures: Mapping[str, Sequence[str]]

    def row(
        self, figure: str, title: str, unit: str, *, digits: int = 0, scale: float = 1.0, x: float | None = None
    ) -> Row:
        """The row of one of the figures."""
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
    """How often and how long to measure. `quick` is a try-out: nothing is judged, nothing is run longer than told."""

    runs: int = 5
    seconds: float = 5.0
    quick: bool = False
    options: Mapping[str, int] = field(default_factory=dict)
    """What the program itself can be told."""

    def turns(self, label: str, contenders: Mapping[str, Run]) -> Turns:
        """Every contender once per round; each round begins with another one, so that all see the same machine.

        Where frames are compared, a contender that got fewer than `COMPARED` in all its runs goes on until it has them;
        of these longer runs the failures count, the figures do not. Who has failed once has no more turns.
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
    """One benchmark program. `timed` is how many timed runs one round has, for telling how long it will take."""

    name: str
    title: str
    about: str
    measure: Callable[[Settings], Iterable[Row]]
    goals: Sequence[Goal] = ()
    timed: float = 1
    overhead: float = 1.0
    """Seconds around each timed run: processes that start and end."""
    options: Mapping[str, int] = field(default_factory=dict)
    draw: Callable[[Result, Path], Sequence[Plot]] | None = None
    """Makes pictures of a stored result in a folder."""

    def estimate(self, settings: Settings) -> float:
        """Seconds that it will take, about."""
        return settings.runs * self.timed * (settings.seconds + self.overhead)

    def run(self, settings: Settings) -> Result:
        """Measure, and judge by the goals unless this is quick."""
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
    """What is going on, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def settings_parser(prog: str, about: str) -> argparse.ArgumentParser:
    """The options that all programs take."""
    parser = argparse.ArgumentParser(prog=prog, description=about.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, help="per run (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one run of one second, nothing is judged")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="store the figures there as JSON")
    return parser


def settings_of(given: argparse.Namespace, options: Mapping[str, int]) -> Settings:
    """What was asked for. `--quick` may be combined with `--runs` and `--seconds`."""
    runs = given.runs if given.runs is not None else 1 if given.quick else 5
    seconds = given.seconds if given.seconds is not None else 1.0 if given.quick else 5.0
    return Settings(runs, seconds, given.quick, {name: getattr(given, name) for name in options})


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run one program: its table on standard output. 1 when indifast failed in any run."""
    parser = settings_parser(f"python -m benchmarks.{program.name}", program.about)
    for name, default in program.options.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    given = parser.parse_args(arguments)
    result = program.run(settings_of(given, program.options))
    print(report.section(result))
    if given.results:
        result.save(given.results)
    return int(any(contender.startswith("indifast") for _, contender, _ in result.failures))
