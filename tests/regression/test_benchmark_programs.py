"""The benchmark programs run, and store what they should. The measured speeds do not matter here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import attached, chain, codec, latency, page, peers, report
from benchmarks.catalogue import NAMES, load
from benchmarks.program import Failed, Program, Settings
from benchmarks.results import CPP, KERNEL, OURS, Bound, Goal, Result, Row

pytestmark = pytest.mark.timeout(900)  # several test runs or measurements in each, on a machine that may be busy

ROOT = Path(__file__).resolve().parents[2]


def quick(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=800).stdout


def test_results_are_stored_and_shown_on_the_page(tmp_path: Path) -> None:
    options = ("--quick", "--seconds", "0.1", "--only", "relay", "--results", str(tmp_path))
    output = quick("benchmarks.everything", *options)
    stored = json.loads((tmp_path / "relay.json").read_text())
    assert stored["settings"] == {"runs": 1, "seconds": 0.1, "quick": True, "size": 4 << 20}
    assert stored["goals"] == []
    assert [row["title"] for row in stored["rows"]] == ["with enclen", "without enclen"]
    for row in stored["rows"]:
        assert row["figures"].keys() >= {OURS, CPP, KERNEL}
        assert not row["failures"]
        assert all(len(runs) == 1 and runs[0] > 0 for runs in row["figures"].values())
        assert row["frames"][OURS] >= 2
    assert {"machine", "kernel", "Python", "numpy", "indiserver"} <= stored["machine"].keys()
    assert (tmp_path / "results.md").read_text() in output
    quick("benchmarks.page", "--results", str(tmp_path), "--page", str(tmp_path / "page.md"))
    assert "| with enclen | MB/s |" in (tmp_path / "page.md").read_text()


def test_the_floor_passes_on_text_and_descriptors() -> None:
    assert latency.measure_one(peers.passing, "2", 0.1)["p50"] > 0
    assert attached.measure_one(peers.passing, True, 1 << 20, 0.1)["frames"] >= 3
    found = chain.latencies(peers.passing, 0.3)
    assert all(found[str(hops)] > 0 for hops in range(1, chain.HOPS + 1))


def test_every_goal_is_well_formed() -> None:
    for name in NAMES:
        program = load(name)
        assert program.name == name
        for goal in program.goals:
            assert goal.bounds and goal.contender.startswith(OURS), (name, goal)


@pytest.mark.parametrize("name", ["codec", "tokenizer", "driver", "client"])
def test_everything_that_the_goals_need_is_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(name)
    monkeypatch.setitem(codec.SIZES, "64 MiB", 4 << 20)  # as the speed does not matter
    rows = list(program.measure(Settings(runs=1, seconds=0.1, quick=True)))
    assert program.goals
    for judged in [goal.judge(rows) for goal in program.goals]:
        assert judged.met is not None, judged


ROW = Row("speed", "MB/s", {OURS: [3.0, 1.0, 2.0], CPP: [1.0, 1.0, 1.0], KERNEL: [10.0, 8.0, 9.0]})


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("speed", ">=", (Bound(2, CPP),)), True),
        (Goal("speed", ">=", (Bound(2.01, CPP),)), False),
        (Goal("speed", "<=", (Bound(2),)), True),
        (Goal("speed", ">=", (Bound(1, CPP), Bound(0.5, KERNEL))), False),
        (Goal("speed", ">=", (Bound(1, CPP), Bound(0.5, KERNEL)), any_of=True), True),
        (Goal("speed", ">=", (Bound(1, "nobody"),)), None),
        (Goal("speed", ">=", (Bound(3), Bound(1, "nobody")), any_of=True), None),
        (Goal("no such row", ">=", (Bound(1),)), None),
    ],
)
def test_a_goal_is_judged_by_medians(goal: Goal, met: bool | None) -> None:
    assert goal.judge([ROW]).met is met


def test_a_contender_that_failed_once_has_no_speed() -> None:
    row = Row("speed", "MB/s", ROW.figures, failures={OURS: ["1 of 9 frames damaged"], CPP: ["lost"]})
    assert row.shown(OURS) == "failed"
    assert Goal("speed", ">=", (Bound(1),)).judge([row]).met is False
    assert Goal("speed", ">=", (Bound(1, CPP),)).judge([row]).met is False


def test_contenders_take_turns_to_start_a_round() -> None:
    order: list[str] = []

    def run(name: str) -> Mapping[str, float]:
        order.append(name)
        return {"rate": 1.0}

    contenders = {name: (lambda _, name=name: run(name)) for name in "abc"}
    Settings(runs=3, seconds=0).turns("", contenders)
    assert "".join(order) == "abcbcacab"


def test_a_slow_contender_continues_until_enough_frames_are_compared() -> None:
    durations: list[float] = []

    def slow(seconds: float) -> Mapping[str, float]:
        durations.append(seconds)
        return {"rate": 1.0, "frames": 2 * seconds}

    row = Settings(runs=2, seconds=5.0).turns("", {OURS: slow}).row("rate", "r", "")
    assert len(durations) == 3
    assert row.frames[OURS] >= 100
    assert row.figures[OURS] == [1.0, 1.0]


def test_a_failure_is_shown_with_its_reason(tmp_path: Path) -> None:
    def damaged(_: float) -> Mapping[str, float]:
        raise Failed("1 of 9 frames damaged")

    def measure(settings: Settings) -> list[Row]:
        return [settings.turns("", {OURS: damaged}).row("rate", "r", "MB/s")]

    result = Program("name", "Title", "First line.\n\nText.", measure).run(Settings(runs=1))
    loaded = Result.load(result.save(tmp_path))
    assert (loaded.rows, loaded.failures) == (result.rows, result.failures)
    shown = report.section(result)
    assert "| r | MB/s | failed |" in shown
    assert "r: indifast failed: 1 of 9 frames damaged" in shown
    assert "Title" in page.tables([result])
