"""What a journal makes of messages that are alike, such as the deletions that a server makes whenever a device goes."""

from __future__ import annotations

import pytest

from tests.simulation.journal import Journal, Mismatch
from tests.simulation.ledger import Mark

DELETION = Mark("delProperty", "Mount", None, "")


def definition(number: int) -> Mark:
    return Mark("defLightVector", "Mount", "Status", f"#{number}")


def snooped(*marks: Mark) -> Journal:
    journal = Journal("A to a driver", replaceable=True)
    for mark in marks:
        journal.tell(mark)
    return journal


def arrive(journal: Journal, *marks: Mark) -> None:
    for mark in marks:
        journal.arrive(mark)


def test_a_deletion_that_is_replaced_is_the_last_of_those_that_wait() -> None:
    journal = snooped(DELETION, definition(1), DELETION, DELETION)
    journal.lose(DELETION, "replaced")
    arrive(journal, DELETION, definition(1), DELETION)
    assert not journal.missing()


def test_a_deletion_must_not_move_ahead_by_replacing_one() -> None:
    journal = snooped(DELETION, definition(1), DELETION)
    journal.lose(DELETION, "replaced")
    with pytest.raises(Mismatch, match="behind what was told after it"):
        arrive(journal, DELETION, definition(1))


def test_one_may_be_on_its_way_while_one_that_is_like_it_is_dropped() -> None:
    journal = snooped(DELETION, definition(1), DELETION, definition(2))
    journal.lose(DELETION, "dropped")
    assert len(journal.missing()) == 3
    arrive(journal, DELETION, definition(1), definition(2))
    assert not journal.missing()


def test_the_first_of_those_that_are_alike_may_be_dropped() -> None:
    journal = snooped(DELETION, definition(1), DELETION, definition(2))
    journal.lose(DELETION, "dropped")
    arrive(journal, definition(1), DELETION, definition(2))
    assert not journal.missing()


def test_which_one_was_dropped_shows_when_others_about_the_device_arrive() -> None:
    spoken = Mark("message", "Mount", None, "#5")
    for arriving in ((spoken, DELETION), (DELETION, spoken)):
        journal = snooped(DELETION, spoken, DELETION)
        journal.lose(DELETION, "dropped")
        arrive(journal, *arriving)
        assert not journal.missing()


def test_no_more_than_were_dropped_may_be_missing() -> None:
    journal = snooped(DELETION, definition(1), DELETION, definition(2), DELETION)
    journal.lose(DELETION, "dropped")
    with pytest.raises(Mismatch, match="behind what was told after it"):
        arrive(journal, definition(1), definition(2), DELETION, DELETION)


def test_more_cannot_be_dropped_than_wait() -> None:
    journal = snooped(DELETION, definition(1), DELETION)
    for _ in range(2):
        journal.lose(DELETION, "dropped")
    with pytest.raises(Mismatch, match="which does not wait"):
        journal.lose(DELETION, "dropped")
