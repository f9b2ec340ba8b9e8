"""What a benchmark found: rows of figures, one per run and contender, and the goals that they are held against.

A `Result` is stored as one JSON file per program; tables and pages are made from these files alone.
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
"""The same under uvloop's event loop: a second column, never the one that a goal is about."""
CPP = "indiserver (C++)"
PYTHON_PEER = "indipyserver"
KERNEL = "no server"
"""A C program that only sends: what the kernel gives."""


@dataclass(frozen=True)
class Row:
    """One quantity: every run's figure of every contender.

    `failures` says why runs of a contender gave no figure (damaged bytes, a lost connection, a wait without end): they
    count, a contender that failed once has no median. `frames` is how many frames were compared byte by byte, all
    runs together. `x` is the place of a row on a curve.
    """

    title: str
    unit: str
    figures: Mapping[str, Sequence[float]]
    digits: int = 0
    failures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    x: float | None = None

    def median(self, contender: str) -> float | None:
        """None: not measured here, or failed."""
        figures = self.figures.get(contender)
        return statistics.median(figures) if figures and not self.failures.get(contender) else None

    def shown(self, contender: str) -> str:
        """The median for a table; "failed" when a run failed, "-" when there was none."""
        if self.failures.get(contender):
            return "failed"
        median = self.median(contender)
        return "-" if median is None else f"{median:.{self.digits}f}"


@dataclass(frozen=True)
class Bound:
    """`factor` times the median of a contender in a row (default: the row that is judged), or `factor` itself."""

    factor: float
    of: str = ""
    row: str = ""


@dataclass(frozen=True)
class Goal:
    """The median of a row, for one contender, has to be at least (or at most) every one of the bounds.

    `any_of`: one bound kept is enough ("whichever is lower"). `row` is the row's title.
    """

    row: str
    relation: Literal[">=", "<="]
    bounds: tuple[Bound, ...]
    contender: str = OURS
    any_of: bool = False

    def text(self) -> str:
        """As a person says it, without the row."""
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
        """Whether it is met; None where what it needs was not measured here."""
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
    """What became of a goal: the figure measured, the figures wanted, and whether it is met (None: can't be said)."""

    row: str
    unit: str
    text: str
    measured: float | None
    wanted: Sequence[float]
    met: bool | None


@dataclass(frozen=True)
class Plot:
    """A picture in `docs/performance/`."""

    file: str
    caption: str


@dataclass(frozen=True)
class Result:
    """All that one program measured, with what is needed to judge it."""

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
        """Everybody who was measured: ours, the peers, the kernel."""
        found = list(dict.fromkeys(name for row in self.rows for name in (*row.figures, *row.failures)))
        order = (OURS, OURS_UVLOOP, CPP, PYTHON_PEER)
        return sorted(found, key=lambda name: order.index(name) if name in order else len(order) + (name == KERNEL))

    @property
    def compared(self) -> dict[str, int]:
        """Frames of which every byte was compared, by contender: the fewest of any row that compares frames."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for name, frames in row.frames.items():
                counts[name] = min(frames, counts.get(name, frames))
        return counts

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """(row, contender, reason) of every run that gave no figure."""
        return [(row.title, name, why) for row in self.rows for name, whys in row.failures.items() for why in whys]

    def save(self, folder: Path) -> Path:
        """Write `folder/NAME.json`."""
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
    """Six significant digits are more than any of these figures has."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content
