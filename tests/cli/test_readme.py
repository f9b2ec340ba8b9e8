"""The figures of the README are those that were measured. Its programs are run by tests/documentation."""

from __future__ import annotations

from pathlib import Path

from benchmarks import catalogue, page
from benchmarks.results import OURS, Result, Row

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_figures_are_those_of_the_stored_results() -> None:
    text = README.read_text()
    assert page.BEGIN in text and page.END in text
    assert page.with_figures(text, catalogue.results_in(page.RESULTS)) == text, "run python -m benchmarks.page"


def test_new_results_change_the_figures(tmp_path: Path) -> None:
    row = Row("with enclen", "MB/s", {OURS: [1233.0, 1235.0, 1234.0]})
    settings = {"runs": 3, "seconds": 5.0, "quick": False}
    date, machine = "2026-01-01T00:00:00Z", {"machine": "an abacus"}
    Result("relay", "Relay", "", date, 1.0, machine, settings, [row]).save(tmp_path)
    curve = [Row("time by servers: 1", "µs", {OURS: [5.0]}), Row("time by servers: 2", "µs", {OURS: [7.0]})]
    Result("scaling", "Scaling", "", date, 2.0, machine, settings, curve).save(tmp_path)
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())
    assert not page.main(["--results", str(tmp_path), "--page", str(tmp_path / "page.md"), "--readme", str(copy)])
    figures = copy.read_text().partition(page.BEGIN)[2].partition(page.END)[0]
    assert "an abacus; medians of 3 runs of 5 s" in figures
    assert "| 1234 |" in figures
    assert "## Development" in copy.read_text()
    written = (tmp_path / "page.md").read_text()
    assert "\n3 runs of 5 s; 2026-01-01, took 1 s.\n" in written
    assert "\none run for each point; 2026-01-01, took 2 s.\n" in written
