"""Fixtures of the benchmarks' tests."""

from __future__ import annotations

import pytest

from benchmarks import peers
from tests.support import blackbox


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let benchmarks use ports that no other test process takes."""
    monkeypatch.setattr(peers, "free_port", blackbox.free_port)
