"""The page about reliability lists all invariants and all planted faults, in the words that the simulation uses."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.checkers import CHECKERS
from tests.simulation.faults import FAULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "reliability.md"


def test_all_invariants_and_all_planted_faults_are_listed() -> None:
    rows = [f"| `{checker.__name__}` | {(checker.__doc__ or '').partition(chr(10))[0]} |" for checker in CHECKERS]
    rows += [f"| {fault.name} | {fault.reason} |" for fault in FAULTS]
    section = PAGE.read_text().partition("\n## Simulated sites\n")[2].partition("\n## ")[0]
    lists = section.partition("\n**Invariants.**")[2]
    listed = [line for line in lists.splitlines() if line.startswith("| ") and line != "| | |"]
    assert listed == rows, "\n".join(rows)
