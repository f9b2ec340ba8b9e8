"""The simulation finds what it is made for: each planted fault breaks an invariant within some seeds."""

from __future__ import annotations

import pytest

from tests.simulation.faults import FAULTS, Fault
from tests.simulation.report import MOST_SEEDS, find


def test_there_are_enough_faults_and_many_are_real() -> None:
    assert len(FAULTS) >= 20
    assert sum(fault.past for fault in FAULTS) >= 10
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_found(fault: Fault) -> None:
    assert find(fault) is not None, f"{MOST_SEEDS} seeds do not find it: {fault.reason}"
