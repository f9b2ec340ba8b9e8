"""Reports of `indifast bench`: tables for people, JSON for programs."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from indifast import codec, version
from indifast.cli.bench.sections import SECTIONS, Cell, Section
from indifast.transport.cores import usable_cores


class Results:
    """Figures of all turns by section, row and contender, and what went wrong."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[Cell, list[float]]] = {}
        self.faults: dict[str, dict[Cell, str]] = {}

    def add(self, section: str, figures: dict[Cell, float]) -> None:
        for cell, figure in figures.items():
            self.runs.setdefault(section, {}).setdefault(cell, []).append(figure)

    def fail(self, section: str, cells: Sequence[Cell], why: str) -> None:
        for cell in cells:
            self.faults.setdefault(section, {})[cell] = why

    def failed(self, section: str, cells: Sequence[Cell]) -> bool:
        return any(cell in self.faults.get(section, {}) for cell in cells)

    def median(self, section: str, cell: Cell) -> float | None:
        """Return the median, or None if there are no figures or something failed: wrong bytes have no speed."""
        runs = self.runs.get(section, {}).get(cell)
        return None if not runs or self.failed(section, [cell]) else statistics.median(runs)

    def ratio(self, section: Section, row: str) -> float | None:
        """Return how many times as fast as its peer indifast is."""
        ours = self.median(section.name, (row, "indifast"))
        theirs = self.median(section.name, (row, section.peer)) if section.peer else None
        if ours is None or theirs is None:
            return None
        return theirs / ours if section.falling else ours / theirs

    def sections(self) -> list[Section]:
        return [each for each in SECTIONS if each.name in self.runs or each.name in self.faults]


def machine(indiserver: str) -> dict[str, Any]:
    """Describe the machine and the software. `indiserver` is its release."""
    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": _release("numpy"),
        "indifast": version,
        "codec": codec.paths()[0],
        "pybase64": _release("pybase64"),
        "indiserver": indiserver,
    }


def _release(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """Return the model of the processor, if the system knows it, otherwise its architecture."""
    try:
        with open("/proc/cpuinfo") as file:
            found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            model = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
        except OSError:
            model = ""
        return model or platform.machine()
    return found[1].strip() if found else platform.processor() or platform.machine()


def as_json(results: Results, where: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return all results for programs. A missing figure is null."""
    return {
        "benchmark": "indifast bench",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": where,
        "settings": settings,
        "sections": {
            section.name: {
                "title": section.title,
                "unit": section.unit,
                "peer": section.peer,
                "rows": {
                    row: {
                        "figures": {
                            name: {
                                "median": results.median(section.name, (row, name)),
                                "runs": results.runs.get(section.name, {}).get((row, name), []),
                                "fault": results.faults.get(section.name, {}).get((row, name)),
                            }
                            for name in _columns(results, section)
                        },
                        "ratio": results.ratio(section, row),
                    }
                    for row in section.rows
                },
            }
            for section in results.sections()
        },
    }


def as_text(results: Results, where: dict[str, Any]) -> str:
    """Return all results as aligned tables for people."""
    lines = [
        f"indifast {where['indifast']}, {where['python']}, NumPy {where['numpy']}, codec {where['codec']}",
        f"{where['cpu']}, {where['cores']} cores, {where['system']}",
        f"indiserver: {where['indiserver']}; pybase64: {where['pybase64']}",
    ]
    tables = [(section, _table(results, section)) for section in results.sections()]
    columns = max((len(table[0]) for _, table in tables), default=1)
    widths = [
        max((len(row[at]) for _, table in tables for row in table if at < len(row)), default=0) for at in range(columns)
    ]
    for section, table in tables:
        lines += ["", f"{section.name}: {section.title}"]
        for cells in table:
            shown = [cells[0].ljust(widths[0]), *(cell.rjust(widths[at + 1]) for at, cell in enumerate(cells[1:]))]
            lines.append("  " + "  ".join(shown).rstrip())
    if any(results.ratio(section, row) is not None for section in results.sections() for row in section.rows):
        lines += ["", "times: how many times as fast as the peer on its left indifast is"]
    faults = [
        f"{section.name}, {row}, {name}: {why}"
        for section in results.sections()
        for (row, name), why in results.faults.get(section.name, {}).items()
    ]
    return "\n".join([*lines, *([""] if faults else []), *faults])


def _columns(results: Results, section: Section) -> list[str]:
    """Return the contenders that took part."""
    cells = {*results.runs.get(section.name, {}), *results.faults.get(section.name, {})}
    return [name for name in section.columns if any(name == who for _, who in cells)]


def _table(results: Results, section: Section) -> list[list[str]]:
    columns = _columns(results, section)
    header, rows = [section.unit], [[row] for row in section.rows]
    for name in columns:
        header.append(name)
        for cells, row in zip(rows, section.rows, strict=True):
            cells.append(_shown(results, section, (row, name)))
        if name == section.peer:
            header.append("times")
            for cells, row in zip(rows, section.rows, strict=True):
                ratio = results.ratio(section, row)
                cells.append("" if ratio is None else f"{ratio:.2f}")
    return [header, *rows]


def _shown(results: Results, section: Section, cell: Cell) -> str:
    fault = results.faults.get(section.name, {}).get(cell)
    if fault is not None:
        return next((word for word in ("wrong", "lost") if word in fault), "failed")
    median = results.median(section.name, cell)
    return "" if median is None else f"{median:.{section.digits}f}"
