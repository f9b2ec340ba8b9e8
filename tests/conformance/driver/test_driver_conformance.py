"""The same black-box programs under indipydriver 3.1.2, 2.2.0, 1.2.2 and indifast, compared step by step.

The outcome of a step is every byte on the wire (except for current timestamps), the events with all their values,
results, exceptions, and levels of log records. Where indifast differs from a release, `differences.py` has the reason.
`ours.json` has what indifast does in those steps, so that a declared difference can't change unnoticed. To renew that
file, run `python -m tests.conformance.driver.record`, and check what it prints.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.conformance.driver.differences import DIFFERENCES
from tests.conformance.driver.sessions import KEPT, RELEASES, Case, compare, records_of

PROGRAMS = ("sends", "receives", "snoops", "enable", "api")


@cache
def outcomes(program: str, peers: tuple[tuple[str, str], ...], recording: int = 1):  # type: ignore[no-untyped-def]
    """Return the comparison in one recording. Vectors are served concurrently, so a busy machine may change an order."""
    return compare(program, records_of(program, dict(peers)))


def faults_in(
    program: str, release: str, found: list[tuple[Case, str, list[str], list[str], set[str]]]
) -> dict[str, str]:
    """Return what is undeclared, declared without need, or not as declared, by release, way of running and step."""
    faults: dict[str, str] = {}
    for subject, step, ours, theirs, agreeing in found:
        if subject.release != release:
            continue
        title = f"{subject.title} {step}"
        reason = DIFFERENCES.get((program, step, release))
        if ours == theirs:
            if reason is not None and not any(
                other.release == release and a != b for other, s, a, b, _ in found if s == step
            ):
                faults[title] = f"declared as {reason!r}, but there is no difference"
        elif reason is None:
            faults[title] = f"undeclared\n  ours   {ours}\n  theirs {theirs}"
        elif reason.startswith("as ") and reason[3:8] not in agreeing:
            faults[title] = f"is not {reason}: {ours}"
        elif (kept := KEPT.get(program, {}).get(step, {}).get(subject.ours)) != ours:
            faults[title] = f"declared, but it is now {ours} instead of {kept}"
    return faults


# All tests of a program run in one parallel worker, because they share one recording.
of_each_program = pytest.mark.parametrize(
    "program", [pytest.param(name, marks=pytest.mark.xdist_group(f"driver {name}")) for name in PROGRAMS]
)


@pytest.mark.parametrize("release", RELEASES)
@of_each_program
def test_indifast_does_what_the_release_does(program: str, release: str, peers: dict[str, Path]) -> None:
    pythons = tuple((name, str(path)) for name, path in peers.items())
    faults = faults_in(program, release, outcomes(program, pythons))
    for recording in (2, 3):  # those that another recording does not show were caused by a busy machine
        if faults:
            again = faults_in(program, release, outcomes(program, pythons, recording))
            faults = {title: fault for title, fault in again.items() if title in faults}
    assert not faults, "\n".join(f"{title}: {fault}" for title, fault in faults.items())


@of_each_program
def test_differences_name_existing_steps(program: str, peers: dict[str, Path]) -> None:
    found = outcomes(program, tuple((name, str(path)) for name, path in peers.items()))
    named = {step for of, step, _ in DIFFERENCES if of == program}
    assert named <= {seen for _, seen, _, _, _ in found}


def test_differences_name_existing_programs() -> None:
    assert {program for program, _, _ in DIFFERENCES} <= set(PROGRAMS)
