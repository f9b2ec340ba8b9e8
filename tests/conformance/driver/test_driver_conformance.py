"""The same black-box programs under indipydriver 3.1.2, 2.2.0, 1.2.2 and indifast: what each does, step by step.

A step's outcome is what comes out on the wire byte for byte (timestamps of the moment aside), the events with all
their values, results, exceptions and levels of log records. Where indifast differs from a release, `differences.py`
names the reason; `ours.json` holds what indifast does in those steps, so that a declared difference can't change its
nature unseen. `python tests/conformance/driver/record.py` writes that file anew after a look at what it prints.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from differences import DIFFERENCES
from sessions import KEPT, RELEASES, compare, records_of


@cache
def outcomes(program: str, peers: tuple[tuple[str, str], ...]):  # type: ignore[no-untyped-def]
    return compare(program, records_of(program, dict(peers)))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("program", ["sends", "receives", "snoops", "enable", "api"])
def test_indifast_does_what_the_release_does(program: str, release: str, peers: dict[str, Path]) -> None:
    found = outcomes(program, tuple((name, str(path)) for name, path in peers.items()))
    undeclared, stale, wrong = [], [], []
    for subject, step, ours, theirs, agreeing in found:
        if subject.release != release:
            continue
        key = (program, step, release)
        reason = DIFFERENCES.get(key)
        if ours == theirs:
            if reason is not None and not any(
                other.release == release and a != b for other, s, a, b, _ in found if s == step
            ):
                stale.append(f"{subject.title} {step}: declared as {reason!r}, but there is no difference")
            continue
        if reason is None:
            undeclared.append(f"{subject.title} {step}:\n  ours   {ours}\n  theirs {theirs}")
            continue
        if reason.startswith("as ") and reason[3:8] not in agreeing:
            wrong.append(f"{subject.title} {step}: is not {reason}: {ours}")
        kept = KEPT.get(program, {}).get(step, {}).get(subject.ours)
        if kept != ours:
            wrong.append(f"{subject.title} {step}: declared, but it is now {ours} instead of {kept}")
    assert not undeclared, "\n".join(undeclared)
    assert not stale, "\n".join(stale)
    assert not wrong, "\n".join(wrong)


def test_differences_name_existing_steps(peers: dict[str, Path]) -> None:
    for program, step, _ in DIFFERENCES:
        found = outcomes(program, tuple((name, str(path)) for name, path in peers.items()))
        assert any(seen == step for _, seen, _, _, _ in found), f"{program}: no step {step}"
