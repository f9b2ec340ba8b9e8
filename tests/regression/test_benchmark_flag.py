"""`pytest --benchmark` in a small separate project, with the repository's conftest.py and plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # several test runs or measurements in each, on a machine that may be busy

ROOT = Path(__file__).resolve().parents[2]

# So far apart that noise of a busy machine can neither hide the change nor be mistaken for it.
SLOWER_BY = 100
LIMIT = ("--benchmark-regression", "900")


class Project:
    """A folder with the conftest.py, the plugin, one test and one benchmark."""

    def __init__(self, home: Path) -> None:
        self.home = home
        shutil.copy(ROOT / "conftest.py", home)
        (home / "benchmarks").mkdir()
        for name in ("__init__.py", "plugin.py", "baseline.py"):
            shutil.copy(ROOT / "benchmarks" / name, home / "benchmarks")
        (home / "tests").mkdir()
        (home / "tests/test_plain.py").write_text("def test_plain():\n    pass\n")
        (home / "pyproject.toml").write_text(
            '[tool.pytest.ini_options]\ntestpaths = ["tests"]\npython_files = ["test_*.py", "bench_*.py"]\n'
        )
        self.benchmark("work", 1)

    def benchmark(self, name: str, work: int) -> None:
        """Write a benchmark that does about `work` times 20 µs of work."""
        (self.home / f"benchmarks/bench_{name}.py").write_text(
            f"def test_{name}(benchmark):\n    benchmark(lambda: sum(range({1000 * work})))\n"
        )

    @property
    def baseline(self) -> Path:
        return self.home / ".benchmarks/baseline.json"

    def pinned(self) -> set[str]:
        (section,) = json.loads(self.baseline.read_text())["machines"].values()
        return set(section["benchmarks"])

    def run(self, *arguments: str, plugins: Sequence[str] | None = ("pytest_benchmark.plugin",)) -> tuple[int, str]:
        """Run pytest, and return its exit status and output. `plugins` are those that it loads; None: all."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        if plugins is not None:
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            arguments = (*(word for plugin in plugins for word in ("-p", plugin)), *arguments)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--benchmark-max-time", "0.05", *arguments],
            cwd=self.home,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=800,
        )
        return done.returncode, done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_without_the_flag_benchmarks_are_not_collected(project: Project) -> None:
    status, output = project.run()
    assert status == 0
    assert "1 passed" in output
    for named in ("benchmarks", "benchmarks/bench_work.py", "."):
        _, output = project.run("-v", named)
        assert "test_work" not in output


def test_with_the_flag_only_benchmarks_run_and_the_run_is_stored(project: Project) -> None:
    status, output = project.run("--benchmark", plugins=None)
    assert status == 0, output
    assert "1 passed" in output
    assert "1 without a baseline" in output
    assert not project.baseline.exists()
    (stored,) = project.home.glob(".benchmarks/local/*/*.json")
    (entry,) = json.loads(stored.read_text())["benchmarks"]
    assert entry["extra_info"]["normalised"] == pytest.approx(
        entry["stats"]["min"] / entry["extra_info"]["calibration"]
    )


def test_a_slower_function_fails_in_every_run_until_it_is_accepted(project: Project) -> None:
    status, output = project.run("--benchmark", "--benchmark-accept")
    assert status == 0, output
    pinned = project.baseline.read_text()

    status, output = project.run("--benchmark", *LIMIT)
    assert status == 0, output

    project.benchmark("work", SLOWER_BY)
    for _ in range(2):
        status, output = project.run("--benchmark", *LIMIT)
        assert status == 1, output
        assert "REGRESSED" in output
        assert "1 failed" in output
        assert project.baseline.read_text() == pinned

    status, output = project.run("--benchmark", "--benchmark-accept")
    assert status == 0, output
    assert project.baseline.read_text() != pinned
    status, output = project.run("--benchmark", *LIMIT)
    assert status == 0, output


def test_a_new_benchmark_is_reported_and_does_not_fail(project: Project) -> None:
    project.run("--benchmark", "--benchmark-accept")
    project.benchmark("other", 1)
    status, output = project.run("--benchmark", *LIMIT)
    assert status == 0, output
    assert "test_other" in output
    assert "1 without a baseline" in output
    assert project.pinned() == {"benchmarks/bench_work.py::test_work"}


def test_a_run_with_a_failing_benchmark_is_not_accepted(project: Project) -> None:
    (project.home / "benchmarks/bench_broken.py").write_text("def test_broken(benchmark):\n    assert False\n")
    status, output = project.run("--benchmark", "--benchmark-accept")
    assert status == 1
    assert "not accepted" in output
    assert not project.baseline.exists()


def test_accepting_requires_measuring(project: Project) -> None:
    status, output = project.run("--benchmark-accept")
    assert status == 4
    assert "give both" in output


def test_marks_widen_the_limit_and_exclude_peers(project: Project) -> None:
    for name, mark in (("noisy", "noisy(1000)"), ("peer", "peer")):
        project.benchmark(name, 1)
        path = project.home / f"benchmarks/bench_{name}.py"
        path.write_text(f"import pytest\n\n@pytest.mark.{mark}\n{path.read_text()}")
    status, output = project.run("--benchmark", "--benchmark-accept")
    assert status == 0, output
    assert project.pinned() == {"benchmarks/bench_work.py::test_work", "benchmarks/bench_noisy.py::test_noisy"}
    for name in ("noisy", "peer"):
        path = project.home / f"benchmarks/bench_{name}.py"
        path.write_text(path.read_text().replace("range(1000)", f"range({1000 * SLOWER_BY})"))
    status, output = project.run("--benchmark", *LIMIT)
    assert status == 0, output


def test_parallel_workers_are_refused_because_they_disturb_measurements(project: Project) -> None:
    status, output = project.run("--benchmark", "-n", "2", plugins=None)
    assert status == 4
    assert "--benchmark cannot measure with parallel workers" in output
    status, output = project.run("-n", "2", plugins=None)
    assert status == 0
    assert "1 passed" in output
