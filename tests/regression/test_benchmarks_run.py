"""The benchmarks of `pytest --benchmark` themselves, each run once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "benchmarks").glob("bench_*.py")))
def test_each_benchmark_runs(name: str) -> None:
    options = ("--benchmark", "--benchmark-disable", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"benchmarks/{name}"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0 and re.search(r"\n=* ?\d+ passed in", done.stdout), done.stdout
