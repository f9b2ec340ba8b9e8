"""What the tests reach: Python by lines and branches, Cython by lines, C by lines; and the limits that must be met."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from instrumented.tree import HOME, Tree

LIMITS = HOME / "limits.toml"
PACKAGE = "src/indifast"


@dataclass
class Reached:
    """How much of a file the tests reach: so many lines and branches of so many, and what is missing."""

    lines: int = 0
    of_lines: int = 0
    branches: int = 0
    of_branches: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def percent(self) -> float:
        return _percent(self.lines + self.branches, self.of_lines + self.of_branches)

    def add(self, other: Reached) -> None:
        self.lines += other.lines
        self.of_lines += other.of_lines
        self.branches += other.branches
        self.of_branches += other.of_branches


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 100.0


def spans(numbers: Iterable[int]) -> list[str]:
    """Return numbers as spans: 1, 2, 3, 7 is "1-3", "7"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return [str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in found]


class Measured:
    """What is measured while tests run in a tree that was built with line tracing."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._data = tree.root / "build" / "measured"
        self._native = tree.root / "build" / "native"

    def start(self, add: bool) -> dict[str, str]:
        """Return the environment of what is to be measured. Forget earlier measurements, unless it adds to them."""
        for folder in (self._data, self._native):
            if not add:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        for counts in [] if add else self._tree.root.glob("build/temp.*/**/*.gcda"):
            counts.unlink()
        return {"COVERAGE_PROCESS_START": str(self._tree.root / "pyproject.toml"), **self._variables()}

    def _variables(self) -> dict[str, str]:
        return {
            "COVERAGE_FILE": str(self._data / "coverage"),
            "INDIFAST_COVERED": str(self._tree.root / PACKAGE),
            "INDIFAST_GCOV": str(self._native),
        }

    def report(self) -> int:
        """Print the table. Return 1 if a file is below its limit."""
        files = dict(sorted((self._python() | self._c()).items()))
        missed = check(files, Limits.read(LIMITS))
        print("\n".join([*rows(files), "", *missed]))
        return bool(missed)

    def _python(self) -> dict[str, Reached]:
        for path in self._data.glob("coverage.*"):
            if not is_whole(path):
                path.unlink()
        result = self._data / "result.json"
        for words in (["combine", "--quiet", "--append"], ["json", "--quiet", "-o", str(result)]):
            if self._tree.run("-m", "coverage", *words, **self._variables()):
                raise SystemExit("coverage.py has failed")
        found = {}
        for name, file in json.loads(result.read_text())["files"].items():
            numbers = file["summary"]
            missing = [*spans(file["missing_lines"]), *(f"{a}→{b}" for a, b in file.get("missing_branches", []))]
            found[str((self._tree.root / name).relative_to(self._tree.root))] = Reached(
                numbers["covered_lines"],
                numbers["num_statements"],
                numbers.get("covered_branches", 0),
                numbers.get("num_branches", 0),
                missing,
            )
        return found

    def _c(self) -> dict[str, Reached]:
        """Add up what the extension modules and the native programs of the tests have reached of csrc."""
        counts: dict[str, dict[int, bool]] = {}
        for path in [*self._tree.root.glob("build/temp.*/**/*.gcda"), *self._native.glob("*.gcda")]:
            done = subprocess.run(
                ["gcov", "--json-format", "--stdout", path], cwd=self._tree.root, capture_output=True, check=False
            )
            if done.returncode:  # these counts are of an earlier build
                continue
            for file in _gcov_files(done.stdout):
                folder, name = Path(file["file"]).parts[-2:] if "/" in file["file"] else ("", "")
                if folder == "csrc":
                    lines = counts.setdefault(f"{PACKAGE}/csrc/{name}", {})
                    for line in file["lines"]:
                        number = line["line_number"]
                        lines[number] = lines.get(number, False) or line["count"] > 0
        return {
            name: Reached(sum(lines.values()), len(lines), missing=spans(n for n, hit in lines.items() if not hit))
            for name, lines in counts.items()
        }


def is_whole(path: Path) -> bool:
    """Return whether a data file of coverage.py is complete. A process that was killed may have left half a file.

    coverage.py would refuse it together with all others: Cython files have a plugin that measures them, which is noted
    last.
    """
    with contextlib.closing(sqlite3.connect(path)) as data:
        try:
            files = data.execute(
                "select path, tracer from file left join tracer on file.id = tracer.file_id"
            ).fetchall()
        except sqlite3.DatabaseError:
            return False
    return all(tracer for name, tracer in files if name.endswith((".pyx", ".pxi")))


def _gcov_files(output: bytes) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        yield from json.loads(line)["files"]


@dataclass(frozen=True)
class Limits:
    """What must be reached.

    Attributes:
        percent: By the names of folders and files; the longest name counts.
        lower: Files of which less must be reached, each with the reason.
    """

    percent: dict[str, float]
    lower: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Limits:
        found = tomllib.loads(path.read_text())
        return cls(found["percent"], found["lower"])

    def of(self, name: str) -> float:
        """Return the limit of a file; 0 if it has none."""
        if name in self.lower:
            return float(self.lower[name]["percent"])
        return max(
            ((len(part), limit) for part, limit in self.percent.items() if name.startswith(part)), default=(0, 0)
        )[1]


def check(files: Mapping[str, Reached], limits: Limits) -> list[str]:
    """Return a line for each file that is below its limit, and for each entry of the limits that names none."""
    problems = []
    for name, reached in files.items():
        if reached.percent < (limit := limits.of(name)):
            missing = ", ".join(reached.missing)
            problems.append(f"{name}: {reached.percent:.1f} % is reached, less than {limit:g} %; missing: {missing}")
    for part in [*limits.percent, *limits.lower]:
        if not any(name.startswith(part) for name in files):
            problems.append(f"{LIMITS.name}: no file is named {part}")
    return problems


def rows(files: Mapping[str, Reached]) -> Iterator[str]:
    """Yield the lines of the table: one for each file, one for each folder."""
    yield f"{'':48}{'lines':>13}{'branches':>13}{'%':>7}"
    for folder, names in groupby(files, lambda name: str(Path(name).parent)):
        total = Reached()
        for name in names:
            total.add(files[name])
            yield _row(f"  {Path(name).name}", files[name])
        yield _row(folder, total)


def _row(name: str, reached: Reached) -> str:
    lines, branches = f"{reached.lines}/{reached.of_lines}", f"{reached.branches}/{reached.of_branches}"
    return f"{name:48}{lines:>13}{branches if reached.of_branches else '':>13}{reached.percent:7.1f}"
