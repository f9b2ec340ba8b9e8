"""What a peer wants, with little room for it: what is stored can always be changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indifast.protocol.vocabulary import ALSO, NEVER, ONLY
from indifast.routing.interest import BlobPolicies, Interests
from tests.routing.fakes import frame, small

DEVICES, NAMES = "DE", "abc"
ROOM = 2


class Settings:
    """The rules in their plainest form: all that was said, in order, looked through from the end."""

    def __init__(self, default: str) -> None:
        self.said: list[tuple[str, str | None, str]] = []
        self.default = default

    def of_device(self, device: str) -> str:
        return next((policy for d, n, policy in reversed(self.said) if (d, n) == (device, None)), self.default)

    def content(self, device: str, name: str) -> bool:
        found = next(
            (policy for d, n, policy in reversed(self.said) if d == device and n in (None, name)), self.default
        )
        return found != NEVER

    def needed(self) -> int:
        """How many settings say something."""
        devices = sum(self.of_device(device) != self.default for device in DEVICES)
        return devices + sum(
            self.content(device, name) != (self.of_device(device) != NEVER) for device in DEVICES for name in NAMES
        )


@settings(max_examples=400)
@given(
    st.sampled_from([NEVER, ALSO]),
    st.lists(
        st.tuples(
            st.sampled_from(DEVICES), st.sampled_from([None, *NAMES]), st.sampled_from([NEVER, ALSO, ONLY, "nonsense"])
        )
    ),
)
def test_policies_are_refused_only_when_there_is_no_room_for_one_more(
    default: str, told: list[tuple[str, str | None, str]]
) -> None:
    policies, naive = BlobPolicies(default, max_entries=ROOM), Settings(default)
    for device, name, policy in told:
        taken = policies.set(device, name, policy)
        if policy == "nonsense":
            assert taken
            continue
        naive.said.append((device, name, policy))
        assert taken == (naive.needed() <= ROOM)
        if not taken:
            naive.said.pop()
        for each in DEVICES:
            assert policies.silent(each) == (naive.of_device(each) == ONLY)
            assert [policies.content(each, n) for n in NAMES] == [naive.content(each, n) for n in NAMES]


@pytest.mark.parametrize(
    ("policy", "passing"),
    [
        (NEVER, {"setNumberVector", "setBLOBVector", "message"}),
        (ALSO, {"setNumberVector", "setBLOBVector", "setBLOBVector+", "message"}),
        (ONLY, {"setBLOBVector", "setBLOBVector+"}),
    ],
)
def test_what_passes_a_setting(policy: str, passing: set[str]) -> None:
    """As for a client of the server, so for one of a driver that listens itself."""
    policies = BlobPolicies()
    assert policies.set("D", None, policy)
    always = {"getProperties", "defNumberVector", "defBLOBVector", "delProperty"}
    for tag in (*always, "setNumberVector", "setBLOBVector", "message"):
        assert policies.passes(small(tag=tag)) == (tag in always | passing)
    assert policies.passes(frame()) == ("setBLOBVector+" in passing)
    assert not policies.passes(frame(device="E")) and policies.passes(small(device="E"))


@given(st.lists(st.tuples(st.sampled_from(DEVICES), st.sampled_from([None, *NAMES]))))
def test_a_wider_interest_has_the_room_of_those_that_it_covers(told: list[tuple[str, str | None]]) -> None:
    interests = Interests(max_entries=ROOM)
    stored: set[tuple[str, str | None]] = set()
    for device, name in told:
        covered = (device, None) in stored or (device, name) in stored
        then = (
            stored if covered else {each for each in stored if name is not None or each[0] != device} | {(device, name)}
        )
        fits = len(then) <= ROOM
        assert interests.add(device, name) == fits
        stored = then if fits else stored
        for each in DEVICES:
            wanted = [(each, None) in stored or (each, n) in stored for n in NAMES]
            assert [interests.wants(each, n) for n in NAMES] == wanted
