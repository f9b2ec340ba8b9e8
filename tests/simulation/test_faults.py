"""The simulation finds what it is made for: each planted fault breaks an invariant within some seeds."""

from __future__ import annotations

import pytest

from tests.simulation.faults import FAULTS, Fault
from tests.simulation.report import seeds_until_found

OFTEN = [fault for fault in FAULTS if not fault.rare]


def test_there_are_enough_faults_and_many_are_real() -> None:
    assert len(OFTEN) >= 20
    assert sum(fault.past for fault in OFTEN) >= 10
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", OFTEN, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_found(fault: Fault) -> None:
    found = seeds_until_found(fault)
    assert found is not None, f"{fault.most_seeds} seeds do not find it: {fault.reason}"
