"""The page about reliability names tests and faults that exist, and all faults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.soak.faults import FAULTS

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "reliability.md"
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.M)
CLAIMS = [row for row in ROWS if row[2] not in ("shown by", "---")]


@pytest.mark.parametrize(("fails", "shown"), [(row[0], row[2]) for row in CLAIMS], ids=[row[0] for row in CLAIMS])
def test_each_claim_names_tests_that_exist(fails: str, shown: str) -> None:
    for witness in shown.split("; "):
        fault = re.fullmatch(r'"(.+)"', witness)
        if fault is not None:
            assert fault[1] in FAULTS
            continue
        test = re.fullmatch(r"(.+) \(`(.+)`\)", witness)
        assert test is not None, f"neither a fault nor a test: {witness}"
        name = "test_" + test[1].replace(" ", "_")
        assert re.search(rf"^ *(async )?def {name}\(", (TESTS / test[2]).read_text(), re.M), name


def test_every_fault_shows_something() -> None:
    assert set(re.findall(r'"([^"]+)"', " ".join(row[2] for row in CLAIMS))) == set(FAULTS)
