"""The stored interests of a peer, when there is little room for them: those that are stored can always be changed."""

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
    """The rules in their simplest form: a list of all that was said, searched from the end."""

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
        """Return how many settings differ from the ones that they override."""
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
def test_policies_are_refused_only_if_there_is_no_room_for_them(
    default: str, sent: list[tuple[str, str | None, str]]
) -> None:
    policies, naive = BlobPolicies(default, max_entries=ROOM), Settings(default)
    for device, name, policy in sent:
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
def test_which_messages_pass_a_policy(policy: str, passing: set[str]) -> None:
    """Clients of a server and of a driver that listens itself have the same rules."""
    policies = BlobPolicies()
    assert policies.set("D", None, policy)
    always = {"getProperties", "defNumberVector", "defBLOBVector", "delProperty"}
    for tag in (*always, "setNumberVector", "setBLOBVector", "message"):
        assert policies.passes(small(tag=tag)) == (tag in always | passing)
    assert policies.passes(frame()) == ("setBLOBVector+" in passing)
    assert not policies.passes(frame(device="E")) and policies.passes(small(device="E"))


@given(st.lists(st.tuples(st.sampled_from(DEVICES), st.sampled_from([None, *NAMES]))))
def test_a_wider_interest_replaces_those_that_it_covers(asked: list[tuple[str, str | None]]) -> None:
    interests = Interests(max_entries=ROOM)
    stored: set[tuple[str, str | None]] = set()
    for device, name in asked:
        wider = set(stored)
        if (device, None) not in stored:
            wider = {each for each in stored if name is not None or each[0] != device} | {(device, name)}
        fits = len(wider) <= ROOM
        assert interests.add(device, name) == fits
        stored = wider if fits else stored
        for each in DEVICES:
            wanted = [(each, None) in stored or (each, n) in stored for n in NAMES]
            assert [interests.wants(each, n) for n in NAMES] == wanted
