"""`indifast bench`: how fast this machine is, in about a minute."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from indifast.cli.arguments import Parser, number
from indifast.cli.bench.children import Children, TurnFailed
from indifast.cli.bench.report import Results, as_json, as_text, machine
from indifast.cli.bench.sections import SECTIONS, Turn, find_indiserver, turns
from indifast.cli.bench.wire import make_frames
from indifast.cli.signals import noted_signals
from indifast.protocol import jsonform

DESCRIPTION = """\
Measure the codec, a relay, a full stack and the latency on this machine, in about a minute, and compare with indiserver
and pybase64 if they are installed. Each figure is the median of several turns; all contenders take turns."""

EXAMPLES = """\
examples:
  indifast bench
  indifast bench --only codec,relay --seconds 5
  indifast bench --json bench.json                 also writes all figures to a file

exit status: 0 done; 1 a byte was wrong, a frame was lost, or something did not run"""

OVERHEAD = 0.6
"""Seconds that a turn is assumed to take in addition to its measurement, until the first is done."""

NAMES = tuple(section.name for section in SECTIONS)


class Stopped(Exception):
    """A signal was received; its number is the argument."""


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks, and return the exit status: 1 if a byte was wrong or something did not run."""
    reader = parser()
    options = reader.parse_args(arguments)
    if why := _no_place(options.json):
        reader.error(f"--json {options.json}: {why}")
    try:
        with noted_signals() as received:
            return _run(options, received)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser("indifast bench", DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--seconds",
        type=number(float, 0.01, 600),
        default=1.0,
        metavar="S",
        help="length of each measurement (default: 1)",
    )
    parser.add_argument(
        "--runs", type=number(int, 1, 1000), default=3, metavar="N", help="turns for each figure (default: 3)"
    )
    parser.add_argument(
        "--only", type=_names, default=NAMES, metavar="NAMES", help=f"any of {','.join(NAMES)} (default: all)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all figures to this file; -: print only JSON")
    return parser


def _names(text: str) -> tuple[str, ...]:
    wanted = text.split(",")
    for name in wanted:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no benchmark {name!r}; use any of {', '.join(NAMES)}")
    return tuple(wanted)


def _no_place(path: str | None) -> str | None:
    """Return why a file can't be written, before the time for the measurements is spent."""
    if path is None or path == "-":
        return None
    if os.path.isdir(path):
        return "is a directory"
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return f"there is no directory {folder}"
    there = path if os.path.exists(path) else folder
    return None if os.access(there, os.W_OK) else f"no permission to write {there}"


def _run(options: argparse.Namespace, received: list[int]) -> int:
    path, release = find_indiserver()
    with tempfile.TemporaryDirectory(prefix="indifast-bench-") as name:
        folder = Path(name)
        if {"relay", "latency"} & set(options.only):
            make_frames(folder)
        results = _measure(options, turns(options.only, path, folder), folder, received)
    where = machine(release)
    settings = {"seconds": options.seconds, "runs": options.runs, "only": list(options.only)}
    if options.json != "-":
        print(as_text(results, where))
    if options.json is not None:
        status = _write_json(options.json, as_json(results, where, settings))
        if status:
            return status
    return 1 if results.faults else 0


def _measure(options: argparse.Namespace, round_: list[Turn], folder: Path, received: list[int]) -> Results:
    """Take all turns of a round, `options.runs` times. A turn that failed is not repeated."""
    results = Results()
    progress = Progress(len(round_) * options.runs, options.seconds)

    def look() -> None:
        if received:
            raise Stopped(received[0])
        progress.show()

    try:
        for turn in round_ * options.runs:
            progress.begin(turn.label)
            if results.failed(turn.section, turn.cells):
                continue
            try:
                with Children(folder, look) as children:
                    results.add(turn.section, turn.run(children, options.seconds))
            except TurnFailed as failure:
                results.fail(turn.section, turn.cells, str(failure))
        look()
    finally:
        progress.end()
    return results


class Progress:
    """A line on standard error, if that is a terminal: what is running, and the remaining time."""

    def __init__(self, count: int, seconds: float) -> None:
        self._write: Callable[[str], Any] | None = sys.stderr.write if sys.stderr.isatty() else None
        self._count = count
        self._guess = seconds + OVERHEAD
        self._start = time.monotonic()
        self._started = 0
        self._label = ""
        self._shown = ""

    def begin(self, label: str) -> None:
        """Count the next turn."""
        self._started += 1
        self._label = label

    def show(self) -> None:
        """Write the line if it has changed."""
        if self._write is None:
            return
        elapsed, done = time.monotonic() - self._start, self._started - 1
        each = elapsed / done if done else self._guess
        left = max(each * self._count - elapsed, 0)
        line = f"{self._started}/{self._count}  {self._label}, {left:.0f} s left"
        if line != self._shown:
            self._shown = line
            self._write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def end(self) -> None:
        """Clear the line."""
        if self._write is not None and self._shown:
            self._write("\r\x1b[K")
            sys.stderr.flush()


def _write_json(path: str, content: dict[str, Any]) -> int:
    text = jsonform.text(content, indent=1)
    if path == "-":
        print(text)
        return 0
    try:
        Path(path).write_text(text + "\n")
    except OSError as error:
        print(f"indifast bench: {path}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
