"""Run everything that belongs to indifast, and make one fault after the other.

    python -m tests.soak [--seconds 100 | --once] [--seed N] [--folder FOLDER] [--fault NAME ...] [--loop NAME]

The seed determines the order of the faults and all choices within them. The exit status is 0 if all checks passed.
`docs/explanation/reliability.md` says what is checked.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.soak.checks import Checks, check_recording
from tests.soak.faults import FAULTS, Fault, Skipped
from tests.soak.processes import Failure, SmallDisks, slow_listeners
from tests.soak.report import in_words
from tests.soak.world import ROOT, World

LOOPS = ("ours", "uvloop", "asyncio")
ROUND = 240.0  # seconds
FEWEST_ROUNDS = 2


class Log:
    """Writes what is done to a file, as one JSON object per line, and to the screen."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, event: str, detail: object = "") -> None:
        self._file.write(json.dumps({"seconds": round(self.seconds, 3), "event": event, "detail": str(detail)}) + "\n")
        print(f"{self.seconds:8.1f}  {event}{f': {detail}' if detail else ''}", flush=True)


def deck(draw: random.Random, names: list[str]) -> Iterator[Fault]:
    """Yield faults without end: each of them once, then each of them again, in another order."""
    while True:
        for name in draw.sample(names, len(names)):
            yield FAULTS[name]


def build_clock(folder: Path) -> Path:
    """Compile the library that moves the clock of a program."""
    library = folder / "clock.so"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", *flags, str(source), "-o", str(library), "-ldl"], check=True)
    return library


class Soak:
    """A run consists of rounds. In each, everything is started again, on another event loop."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.log = Log(folder / "events.jsonl")
        slow_listeners.append(lambda text: self.log("  slow", text))
        self.faults = deck(random.Random(options.seed), options.fault or list(FAULTS))
        self.made = 0
        self.disks = SmallDisks()
        self.rounds: list[dict[str, Any]] = []
        self.skipped: Counter[str] = Counter()
        self.failure = ""
        self.preload = build_clock(folder)
        peers = Path(os.environ.get("INDIFAST_PEERS") or ROOT / ".venv-peers")
        peer = peers / "d31" / "bin" / "python"
        self.peer = peer if peer.exists() else None

    def run(self) -> bool:
        """Run everything, and return whether all was well."""
        options = self.options
        self.log("begin", f"seed {options.seed}, {'each fault once' if options.once else f'{options.seconds:g} s'}")
        if self.disks.missing:
            self.log("no small disks", self.disks.missing)
        if self.peer is None:
            self.log("no indipydriver", "run `make peers`")
        try:
            for number, lasts in enumerate(self.durations()):
                self.round(number, options.loop or LOOPS[number % len(LOOPS)], lasts)
        except Failure as failure:
            self.failure = str(failure)
            self.log("failure", failure)
        except KeyboardInterrupt:
            self.failure = "interrupted"
        except Exception:
            self.failure = traceback.format_exc()
            self.log("failure", self.failure)
        return not self.failure

    def durations(self) -> Iterator[Callable[[], bool]]:
        """Yield a function for each round that returns whether the round continues."""
        options = self.options
        if options.once:
            kinds = len(options.fault or FAULTS)
            count = min(FEWEST_ROUNDS, kinds)
            for number in range(1, count + 1):
                yield lambda until=kinds * number // count: self.made < until  # type: ignore[misc]
        else:
            count = max(FEWEST_ROUNDS, round(options.seconds / ROUND))
            for number in range(1, count + 1):
                yield lambda until=options.seconds * number / count: self.log.seconds < until  # type: ignore[misc]

    def round(self, number: int, loop: str, lasts: Callable[[], bool]) -> None:
        """Start everything, make faults until the round is over, and end everything."""
        self.log("round", f"{number + 1}, event loop {loop}")
        began = time.monotonic()
        folder = self.folder / f"round-{number + 1}"
        world = World(folder, loop, self.peer, self.disks, self.preload)
        checks = Checks(world, random.Random(f"{self.options.seed} round {number}"))
        try:
            world.start()
            checks.all_is_well()
            checks.measure()
            self.log("started")
            while lasts():
                self.make(world, checks, next(self.faults))
            checks.count()
            world.stop()
            check_recording(world, world.recording, cut=False)
            checks.logs()
            self.log("stopped", f"{world.figures.stop_seconds:.1f} s")
        finally:
            world.kill()
            world.figures.seconds = time.monotonic() - began
            self.rounds.append(dataclasses.asdict(world.figures))
        shutil.rmtree(folder)

    def make(self, world: World, checks: Checks, fault: Fault) -> None:
        """Make a fault, and wait until everything has recovered from it."""
        self.made += 1
        draw = random.Random(f"{self.options.seed} fault {self.made}")  # the same, however long it takes to get here
        self.log(fault.name)
        try:
            how = fault.make(world, draw)
        except Skipped as why:
            self.skipped[fault.name] += 1
            self.log("  skipped", why)
            return
        world.figures.faults[fault.name] = world.figures.faults.get(fault.name, 0) + 1
        began = time.monotonic()
        self.log("  made", how)
        checks.all_is_well(frames_may_be_lost=fault.loses_frames)
        self.log("  recovered", f"{time.monotonic() - began:.1f} s")

    def report(self) -> dict[str, Any]:
        """Return the figures of the run."""
        return {
            "seed": self.options.seed,
            "seconds": round(self.log.seconds, 1),
            "failure": self.failure,
            "python": platform.python_version(),
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "skipped": dict(self.skipped),
            "rounds": self.rounds,
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="how long (default: 100)")
    parser.add_argument(
        "--once", action="store_true", help="make each fault once, in two rounds, however long that takes"
    )
    parser.add_argument("--seed", type=int, help="repeats the faults of another run; chosen by chance otherwise")
    parser.add_argument("--folder", type=Path, help="where logs and the report go; a new one in /tmp otherwise")
    parser.add_argument(
        "--fault", action="append", choices=list(FAULTS), metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument("--loop", choices=LOOPS, help="only this event loop; all in turn otherwise")
    parser.add_argument("--list", action="store_true", help="print the names of the faults")
    options = parser.parse_args()
    if options.list:
        for name, fault in FAULTS.items():
            print(f"{name}: {(fault.make.__doc__ or '').splitlines()[0]}")
        return 0
    if options.seed is None:
        options.seed = random.randrange(1 << 31)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="indifast-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    # Programs that are started here must not inherit that these are ignored, as under nohup or behind `&` in a script.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    soak = Soak(options, folder)
    good = soak.run()
    report = soak.report()
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    text = in_words(report)
    (folder / "report.txt").write_text(text)
    print(text, end="")
    print(f"{folder}: events.jsonl, report.json, report.txt" + ("" if good else f"; again: --seed {options.seed}"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
