"""pytest plugin of the regression guard: `pytest --benchmark`.

pytest-benchmark measures and stores the runs; this plugin collects `benchmarks/` only when asked to, times the
calibration loop before and after each benchmark, and fails those that are slower than the pinned baseline. A benchmark
that looks slower is measured again before it counts as a regression, because noise only ever makes code look slower.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from benchmarks import baseline

ATTEMPTS = 5
BASELINE = Path(".benchmarks/baseline.json")
STORAGE = Path(".benchmarks/local")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark regressions")
    group.addoption("--benchmark", action="store_true", help="Run benchmarks/ and compare with the pinned baseline.")
    group.addoption(
        "--benchmark-regression",
        type=float,
        default=25.0,
        metavar="PERCENT",
        help="Fail a benchmark that is slower than the baseline by more than this (default: 25).",
    )
    group.addoption("--benchmark-accept", action="store_true", help="Make this run the pinned baseline.")
    group.addoption(
        "--benchmark-baseline",
        type=Path,
        default=BASELINE,
        metavar="FILE",
        help=f"The pinned baseline (default: {BASELINE} in the project).",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect benchmarks without `--benchmark`, even if they are named on the command line."""
    if config.getoption("--benchmark"):
        return
    home = config.rootpath / "benchmarks"
    inside = {path for path in {item.path for item in items} if home in path.parents}
    if inside:
        config.hook.pytest_deselected(items=[item for item in items if item.path in inside])
        items[:] = [item for item in items if item.path not in inside]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peer: measured for comparison only, never a regression of ours.")
    config.addinivalue_line("markers", "noisy(factor): multiplies the limit for a regression.")
    if not config.getoption("--benchmark"):
        if config.getoption("--benchmark-accept"):
            raise pytest.UsageError("--benchmark-accept pins what --benchmark measures: give both options")
        return
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError("--benchmark cannot measure with parallel workers: omit -n")
    complete = config.args_source is not pytest.Config.ArgsSource.ARGS
    if complete:
        config.args = [str(config.rootpath / "benchmarks")]
    option = config.option
    option.benchmark_disable_gc = True
    if option.benchmark_storage == "file://./.benchmarks":  # pytest-benchmark's own default
        option.benchmark_storage = f"file://{config.rootpath / STORAGE}"
    if not option.benchmark_save:
        option.benchmark_autosave = True
    complete = complete and not (option.keyword or option.markexpr or option.deselect or getattr(option, "lf", False))
    config.pluginmanager.register(Guard(config, complete=complete), "benchmark-guard")


class Guard:
    """Compares one run of the benchmarks with the pinned baseline."""

    def __init__(self, config: pytest.Config, *, complete: bool) -> None:
        self.path = config.rootpath / config.getoption("--benchmark-baseline")
        self.key = baseline.machine_key()
        self.limit = config.getoption("--benchmark-regression") / 100
        self.accepting = config.getoption("--benchmark-accept")
        self.complete = complete
        self.pinned = baseline.load(self.path, self.key)
        self.measured: dict[str, baseline.Measurement] = {}
        self.limits: dict[str, float] = {}
        self.accepted = False

    def verdict(self, name: str) -> baseline.Verdict:
        """Compare the measurement of a benchmark with its pinned figure."""
        return baseline.Verdict(name, self.measured[name], self.pinned.get(name), self.limits[name])

    def failing(self, name: str) -> bool:
        """Return whether the benchmark was measured and must fail the run."""
        return not self.accepting and name in self.measured and self.verdict(name).regressed

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        before = baseline.calibrate()
        result = yield
        fixture = getattr(item, "funcargs", {}).get("benchmark")
        if fixture is not None and fixture.stats and not item.get_closest_marker("peer"):
            noisy = item.get_closest_marker("noisy")
            self.limits[item.nodeid] = self.limit * (noisy.args[0] if noisy else 1)
            measurement = baseline.Measurement(fixture.stats.stats.min, min(before, baseline.calibrate()))
            fixture.extra_info["calibration"] = measurement.calibration
            fixture.extra_info["normalised"] = measurement.normalised
            earlier = self.measured.get(item.nodeid, measurement)
            self.measured[item.nodeid] = min(earlier, measurement, key=lambda one: one.normalised)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and report.passed and self.failing(item.nodeid):
            report.outcome = "failed"
            verdict = self.verdict(item.nodeid)
            report.longrepr = (
                f"{self._line(verdict)}\n"
                f"Slower than the pinned baseline by more than {verdict.limit:.0%}, {ATTEMPTS} times in a row. "
                "If that is the price of an intended change, pin it with --benchmark-accept."
            )
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a benchmark, and repeat it while it looks slower than the baseline."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for attempt in range(ATTEMPTS):
            if attempt:
                item._initrequest()  # type: ignore[attr-defined]  # no public way to run an item again
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if not self.failing(item.nodeid):
                break
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.accepting and self.measured and not session.testsfailed:
            baseline.accept(self.path, self.key, self.measured, complete=self.complete)
            self.accepted = True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("benchmarks compared with the pinned baseline")
        terminalreporter.write_line(f"machine: {self.key}")
        for name in sorted(self.measured):
            terminalreporter.write_line(self._line(self.verdict(name)))
        if self.accepted:
            terminalreporter.write_line(f"accepted as the baseline: {self.path}")
        elif self.accepting:
            terminalreporter.write_line("not accepted as the baseline: a benchmark failed, or none were run")
        elif new := len(self.measured.keys() - self.pinned.keys()):
            terminalreporter.write_line(f"{new} without a baseline for this machine; --benchmark-accept pins them")

    @staticmethod
    def _line(verdict: baseline.Verdict) -> str:
        word = "new" if verdict.change is None else f"{verdict.change:+.1%}"
        if verdict.regressed:
            word += " REGRESSED"
        measured = verdict.measured
        return f"{verdict.name}: {measured.minimum * 1e6:.3f} us, {measured.normalised:.4f} of the loop, {word}"
