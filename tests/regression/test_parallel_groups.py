"""`make test` depends on groups: their tests run in one parallel worker, which creates what they share only once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import os
import pytest

@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(20))
def test_together(number):
    with open("workers", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")

@pytest.mark.parametrize("number", range(20))
def test_apart(number):
    pass
"""


def test_tests_of_a_group_share_a_worker(tmp_path: Path) -> None:
    """With incompatible versions of pytest and pytest-xdist, they silently run in all workers."""
    (tmp_path / "test_groups.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "4", "--dist", "loadgroup"]
    subprocess.run(words, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, timeout=250)
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 20
    assert len(set(workers)) == 1
