"""What counts as a regression, and what the baseline file contains."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import baseline
from benchmarks.baseline import Measurement, Verdict


@pytest.mark.parametrize(
    ("minimum", "calibration", "pinned", "regressed"),
    [
        (1.24, 1.0, 1.0, False),
        (1.26, 1.0, 1.0, True),
        (2.52, 2.0, 1.0, True),  # the machine is half as fast, and the code is slower too
        (2.0, 2.0, 1.0, False),  # only the machine is slower
        (0.5, 1.0, 1.0, False),
        (99.0, 1.0, None, False),
    ],
)
def test_regression_is_judged_on_the_normalised_minimum(
    minimum: float, calibration: float, pinned: float | None, regressed: bool
) -> None:
    assert Verdict("b", Measurement(minimum, calibration), pinned, 0.25).regressed is regressed


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_calibration_has_at_least_one_pass(seconds: float) -> None:
    assert 0 < baseline.calibrate(seconds) < 60


def test_accepting_some_benchmarks_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "below" / "baseline.json"
    baseline.accept(path, "m", {"a": Measurement(1, 1), "b": Measurement(2, 1)}, complete=True)
    baseline.accept(path, "m", {"b": Measurement(3, 1)}, complete=False)
    assert baseline.load(path, "m") == {"a": 1.0, "b": 3.0}
    baseline.accept(path, "m", {"b": Measurement(4, 1)}, complete=True)
    assert baseline.load(path, "m") == {"b": 4.0}


def test_each_machine_has_its_own_baseline(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.accept(path, "one", {"a": Measurement(1, 1)}, complete=True)
    assert baseline.load(path, "other") == {}
    baseline.accept(path, "other", {"a": Measurement(5, 1)}, complete=True)
    assert baseline.load(path, "one") == {"a": 1.0}


def test_without_a_file_nothing_is_pinned(tmp_path: Path) -> None:
    assert baseline.load(tmp_path / "none.json", "m") == {}
