"""Markdown tables of results, and a description of the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from benchmarks import network, peers
from benchmarks.baseline import machine_key
from benchmarks.results import Judgement, Result


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. All columns except the first are right-aligned."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(result: Result, level: int = 2) -> str:
    """Return a program's result as Markdown: heading, table of medians, goals, failures, facts."""
    parts = [f"{'#' * level} {result.title}", result.about, rows_table(result)]
    if result.goals:
        parts.append(goals_table(result.goals))
    if result.failures:
        seen = dict.fromkeys(f"* {row}: {name} failed: {why}" for row, name, why in result.failures)
        parts.append("\n".join(seen))
    parts.append(_facts(result))
    return "\n\n".join(parts) + "\n"


def rows_table(result: Result) -> str:
    """Return a table of medians, with one column per contender."""
    names = result.contenders
    rows = [[row.title, row.unit, *(row.shown(name) for name in names)] for row in result.rows]
    lines = table(["", "", *names], rows).split("\n")
    lines[1] = lines[1].replace("--:", "---", 1)  # the unit is text
    return "\n".join(lines)


def goals_table(goals: Sequence[Judgement]) -> str:
    """Return a table of goals with the measured figures, and whether they are met."""
    header = ["goal", "", "wanted", "measured", "met"]
    rows = [[goal.row, goal.text, _figures(goal.wanted), _figures([goal.measured]), _verdict(goal)] for goal in goals]
    lines = table(header, rows).split("\n")
    lines[1] = lines[1].replace("--:", "---", 1)
    return "\n".join(lines)


def _figures(values: Sequence[float | None]) -> str:
    shown = [f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in values if value is not None]
    return ", ".join(shown) or "-"


def _verdict(goal: Judgement) -> str:
    return {True: "yes", False: "**no**", None: "not judged"}[goal.met]


def _facts(result: Result) -> str:
    options = {name: value for name, value in result.settings.items() if name not in ("runs", "seconds", "quick")}
    runs = result.settings["runs"]
    once = runs > 1 and all(len(figures) <= 1 for row in result.rows for figures in row.figures.values())
    facts = ["one run for each point" if once else f"{runs} runs of {result.settings['seconds']:g} s"]
    facts += [f"{name} {value}" for name, value in options.items() if value != ""]
    facts.append(f"{result.date[:10]}, took {result.seconds:.0f} s")
    if result.compared:
        counts = ", ".join(f"{name} {frames}" for name, frames in result.compared.items())
        facts.append(f"frames compared byte by byte: {counts}")
    return "; ".join(facts) + "."


@cache
def machine() -> dict[str, str]:
    """Return what the figures depend on: processor, kernel, interpreter, and the versions of all contenders."""
    found = {
        "machine": machine_key(),
        "kernel": f"{platform.system()} {platform.release()}",
        "TCP on links": network.congestion_control(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in ("indifast", "numpy", "uvloop", "pybase64"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "in the source tree" if package == "indifast" else "not installed"
    found["indiserver"] = indiserver_version()
    found |= peers.python_versions()
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False).stdout
    found["C compiler"] = compiler.partition("\n")[0] or "none"
    return found


def indiserver_version() -> str:
    if not shutil.which("indiserver"):
        return "not installed"
    usage = subprocess.run(["indiserver", "--help"], capture_output=True, text=True, check=False)
    version = re.search(r"INDI Library: (\S+)", usage.stdout + usage.stderr)
    return version[1] if version else "of unknown version"


def machine_table(facts: Sequence[tuple[str, str]]) -> str:
    return table(["", ""], [[name, value] for name, value in facts]).replace("--:", "---")
