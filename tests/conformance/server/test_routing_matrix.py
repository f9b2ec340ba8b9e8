"""Who receives what: every kind of message from every kind of sender, at indifast, indipyserver and indiserver.

`EXPECTED` is the matrix of indifast, one line a case: the endpoints that are told exactly what was said, then
`endpoint:message` where something else is told. `PEERS` has what the two other servers do where that differs, each
with the reason; a peer's line that equals ours must not be declared.
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
"""What is different where no driver lives in the server's process."""


pytestmark = pytest.mark.xdist_group("routing matrix")  # the matrices are made once for all tests here


@cache
def matrices(python: str) -> dict[str, dict[str, str]]:
    """The matrices of all servers; they mostly wait, so they are made side by side."""
    kinds = ("indifast", "indifast serve", "indipyserver", "indiserver")
    with ThreadPoolExecutor() as pool:
        return dict(zip(kinds, pool.map(lambda kind: matrix(kind, python), kinds), strict=True))


def matrix(kind: str, python: str) -> dict[str, str]:
    """Say everything at one server; a server that ends is started again."""
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
            except (EOFError, OSError):  # a time-out is an OSError
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
    told = "\n".join(
        f"{case}:\n  seen     {seen}\n  expected {expected}" for case, (seen, expected) in different.items()
    )
    assert not different, told


def test_matrix_of_the_command(peers: dict[str, Path]) -> None:
    """`indifast serve` with the arguments of indiserver does as the class, but has no driver in its process."""
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
