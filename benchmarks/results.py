"""Results of benchmarks: rows of figures, one per run and contender, and the goals by which they are judged.

A `Result` is stored as one JSON file per program; tables and pages are made only from these files.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

OURS = "indifast"
OURS_UVLOOP = "indifast (uvloop)"
"""indifast on uvloop's event loop: an additional column, to which no goal applies."""
CPP = "indiserver (C++)"
PYTHON_PEER = "indipyserver"
RELAY = "relay in C"
"""The least that a server has to do, as a C program with a thread for each core."""
OURS_ALONE = "indifast, senders=0"
"""indifast without threads that send."""
OURS_BASE64 = "indifast, base64"
"""indifast without raw frames: what other programs would get."""
OURS_PLAIN = "indifast, not compressed"
"""indifast with raw frames as they are."""
KERNEL = "no server"
"""A C program that only sends: the limit set by the kernel."""
PASSING = "passing on (C)"
"""A C program that passes on what it reads without looking at it: the floor for servers between two processes."""


@dataclass(frozen=True)
class Row:
    """One quantity: the figures of every run of every contender.

    Attributes:
        title: Identifies the row.
        unit: Unit of the figures.
        figures: By contender.
        digits: Decimal places in tables.
        failures: By contender, why runs gave no figure (damaged bytes, a lost connection, an endless wait). A contender
            that failed once has no median.
        frames: By contender, how many frames were compared byte by byte in all runs.
        x: Position of the row on a curve.
    """

    title: str
    unit: str
    figures: Mapping[str, Sequence[float]]
    digits: int = 0
    failures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    x: float | None = None

    def median(self, contender: str) -> float | None:
        """Return the median, or None if the contender was not measured or failed."""
        figures = self.figures.get(contender)
        return statistics.median(figures) if figures and not self.failures.get(contender) else None

    def shown(self, contender: str) -> str:
        """Return the median for a table: "failed" if a run failed, "-" if there was none."""
        if self.failures.get(contender):
            return "failed"
        median = self.median(contender)
        return "-" if median is None else f"{median:.{self.digits}f}"


@dataclass(frozen=True)
class Bound:
    """A bound for a goal: `factor` times the median of the contender `of` in `row`, or `factor` itself without `of`.

    Without `row`, the row that is judged.
    """

    factor: float
    of: str = ""
    row: str = ""


@dataclass(frozen=True)
class Goal:
    """A goal: the median of a contender in a row must be at least (or at most) all of the bounds.

    Attributes:
        row: Title of the row.
        relation: ">=" (at least) or "<=" (at most).
        bounds: The bounds.
        contender: The contender whose median is judged.
        any_of: Whether one of the bounds is enough ("whichever is lower").
    """

    row: str
    relation: Literal[">=", "<="]
    bounds: tuple[Bound, ...]
    contender: str = OURS
    any_of: bool = False

    def text(self) -> str:
        """Return the goal as text for people, without the row."""
        parts = []
        for bound in self.bounds:
            figure = f"{bound.factor:g}"
            if bound.of:
                figure += f" times {bound.of}" if bound.of != self.contender else " times"
            if bound.row:
                figure += f" “{bound.row}”"
            parts.append(figure)
        sign = "≥" if self.relation == ">=" else "≤"
        return f"{self.contender} {sign} {(' or ' if self.any_of else ' and ').join(parts)}"

    def judge(self, rows: Sequence[Row]) -> Judgement:
        """Judge whether the goal is met."""
        by_title = {row.title: row for row in rows}
        judged = by_title.get(self.row)
        measured = judged.median(self.contender) if judged else None
        wanted: list[float] = []
        for bound in self.bounds:
            row = by_title.get(bound.row or self.row)
            base = (row.median(bound.of) if row else None) if bound.of else 1.0
            if base is not None:
                wanted.append(bound.factor * base)
        met: bool | None = None
        if judged is not None and judged.failures.get(self.contender):
            met = False
        elif measured is not None and wanted and (self.any_of or len(wanted) == len(self.bounds)):
            kept = [measured >= limit if self.relation == ">=" else measured <= limit for limit in wanted]
            met = any(kept) if self.any_of else all(kept)
            if self.any_of and not met and len(wanted) < len(self.bounds):
                met = None
        return Judgement(self.row, judged.unit if judged else "", self.text(), measured, wanted, met)


@dataclass(frozen=True)
class Judgement:
    """The outcome of a goal.

    Attributes:
        measured: The median of the contender, if there is one.
        wanted: The bounds as figures.
        met: Whether the goal is met; None if a figure that it needs was not measured.
    """

    row: str
    unit: str
    text: str
    measured: float | None
    wanted: Sequence[float]
    met: bool | None


@dataclass(frozen=True)
class Plot:
    """A picture in `docs/explanation/performance/`."""

    file: str
    caption: str


@dataclass(frozen=True)
class Result:
    """Everything that a program measured, with the facts needed to interpret it."""

    name: str
    title: str
    about: str
    date: str
    seconds: float
    """How long the whole program took."""
    machine: Mapping[str, str]
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    goals: Sequence[Judgement] = ()

    @property
    def contenders(self) -> list[str]:
        """All contenders that were measured: ours, the peers, the kernel."""
        found = list(dict.fromkeys(name for row in self.rows for name in (*row.figures, *row.failures)))
        first, last = (OURS, OURS_UVLOOP, CPP, PYTHON_PEER), (PASSING, KERNEL)
        others = [name for name in found if name not in first and name not in last]
        return [name for name in (*first, *others, *last) if name in found]

    @property
    def compared(self) -> dict[str, int]:
        """Number of frames compared byte by byte, by contender: the smallest among the rows that compare frames."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for name, frames in row.frames.items():
                counts[name] = min(frames, counts.get(name, frames))
        return counts

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """Row, contender and reason of every run that gave no figure."""
        return [(row.title, name, why) for row in self.rows for name, whys in row.failures.items() for why in whys]

    def save(self, folder: Path) -> Path:
        """Write `folder/NAME.json`, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {**asdict(self), "compared": self.compared}
        path.write_text(json.dumps(_rounded(content), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        content = json.loads(path.read_text())
        content.pop("compared")
        content["rows"] = [Row(**row) for row in content["rows"]]
        content["goals"] = [Judgement(**goal) for goal in content["goals"]]
        return cls(**content)


def _rounded(content: Any) -> Any:
    """Round all floats to six significant digits: no figure is more precise than that."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content
