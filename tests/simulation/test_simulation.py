"""The invariants hold in simulated sites, and the simulation finds faults that are planted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from indifast.routing.replacing import Replaceable
from indifast.routing.router import Router
from tests.simulation.report import Failure, run_seed

GROUPS = 8
SEEDS = 25
MOST = 400
"""Seeds within which a planted fault must be found."""


@pytest.mark.parametrize("group", range(GROUPS))
def test_invariants_hold(group: int) -> None:
    for seed in range(group * SEEDS, (group + 1) * SEEDS):
        run_seed(seed)


def frames_overtake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Replaceable, "follow", lambda _: None)


def new_drivers_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Router, "introduce", lambda *_: None)


@pytest.mark.parametrize("plant", [frames_overtake, new_drivers_are_not_asked])
def test_a_planted_fault_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(Failure, match=r"Again: python -m tests.simulation --seed \d+"):
        for seed in range(MOST):
            run_seed(seed, shrinking=0)
