"""Who receives what: every kind of message from every kind of sender, for indifast, indipyserver and indiserver.

`EXPECTED` is the matrix of indifast, with one line for each case: the endpoints that receive exactly what was sent, then
`endpoint:message` where something else is received. `PEERS` has the lines of the two other servers that differ, with the
reasons. A line of a peer that equals ours must not be declared there.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.server.cases import CASES
from tests.conformance.server.expected import ENDS, EXPECTED, PEERS
from tests.conformance.server.serverfield import Field, receivers

WITHOUT_P = {
    "client commands the in-process driver": "w:<message device=P message=refused: a command for P, which is not here>",
    "client asks for all": "V X Y Z R:<getProperties device=R version=1.7>",
}
"""Differences without a driver in the server's process."""


pytestmark = pytest.mark.xdist_group("routing matrix")  # all tests use the same matrices, which are made once


@cache
def matrices(python: str) -> dict[str, dict[str, str]]:
    """Return the matrices of all servers. They are made concurrently, because most of the time is spent waiting."""
    kinds = ("indifast", "indifast serve", "indipyserver", "indiserver")
    with ThreadPoolExecutor() as pool:
        return dict(zip(kinds, pool.map(lambda kind: matrix(kind, python), kinds), strict=True))


def matrix(kind: str, python: str) -> dict[str, str]:
    """Run all cases on one server, which is restarted if it ends."""
    seen: dict[str, str] = {}
    field: Field | None = None
    try:
        for case, (sender, words) in CASES.items():
            if sender == "P" and kind in ("indiserver", "indifast serve"):
                continue
            if field is None:
                field = Field(kind, python)
            try:
                seen[case] = receivers(field.say(sender, words), words)
            except (EOFError, OSError):  # includes TimeoutError
                seen[case] = ENDS
                field.close()
                field = None
    finally:
        if field is not None:
            with contextlib.suppress(OSError):
                field.close()
    return seen


def test_matrix_of_indifast(peers: dict[str, Path]) -> None:
    ours = matrices(str(peers["d31"]))["indifast"]
    different = {case: (seen, EXPECTED.get(case)) for case, seen in ours.items() if seen != EXPECTED.get(case)}
    report = "\n".join(
        f"{case}:\n  seen     {seen}\n  expected {expected}" for case, (seen, expected) in different.items()
    )
    assert not different, report


def test_matrix_of_the_command(peers: dict[str, Path]) -> None:
    """`indifast serve` does the same as the class, but has no driver in its process."""
    command = matrices(str(peers["d31"]))["indifast serve"]
    expected = {case: EXPECTED[case].removeprefix("P").strip() for case in command} | WITHOUT_P
    assert command == expected


@pytest.mark.parametrize("kind", ["indipyserver", "indiserver"])
def test_differences_from_the_peer_are_declared(kind: str, peers: dict[str, Path]) -> None:
    theirs = matrices(str(peers["d31"]))[kind]
    declared = PEERS[kind]
    wrong = []
    for case, seen in theirs.items():
        if case in declared and seen == EXPECTED[case]:
            wrong.append(f"{case}: declared as different, but it is not")
        elif case in declared and declared[case][0] != seen:
            wrong.append(f"{case}: declared\n  {declared[case][0]}\n  but seen\n  {seen}")
        elif case not in declared and seen != EXPECTED[case]:
            wrong.append(f"{case}: not declared\n  ours   {EXPECTED[case]}\n  theirs {seen}")
    assert not wrong, "\n".join(wrong)
