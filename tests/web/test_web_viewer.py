"""What waits for a viewer: it cannot grow, and what is left out is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from indifast.web.bounds import MESSAGES, SUBSCRIPTIONS
from indifast.web.viewer import Link, Message, Property, TooManySubscriptions, Viewer


def told(viewer: Viewer) -> list[Any]:
    """Take everything that waits."""
    return list(iter(viewer.take, None))


@pytest.mark.parametrize(
    ("subscription", "wanted"),
    [
        ((None, None), "AX AY BX BY"),
        (("A", None), "AX AY"),
        ((None, "X"), "AX BX"),
        (("A", "X"), "AX"),
        (("C", None), ""),
    ],
)
def test_subscriptions(subscription: Any, wanted: str) -> None:
    viewer = Viewer()
    viewer.subscribe(subscription)
    for device in "AB":
        for name in "XY":
            viewer.changed(device, name)
    assert [f"{each.device}{each.name}" for each in told(viewer)] == wanted.split()


def test_only_the_newest_state_of_a_property_waits() -> None:
    viewer = Viewer()
    viewer.subscribe((None, None))
    for _ in range(1000):
        viewer.changed("A", "X")
        viewer.changed("A", "Y")
    assert told(viewer) == [Property("A", "X", 999), Property("A", "Y", 999)]
    viewer.changed("A", "X")
    assert told(viewer) == [Property("A", "X", 0)]


def test_what_is_told_again_has_missed_nothing() -> None:
    viewer = Viewer()
    viewer.subscribe((None, None))
    for _ in range(3):
        viewer.untold("A", "X")
    assert told(viewer) == [Property("A", "X", 0)]


def test_messages_are_limited_and_counted() -> None:
    viewer = Viewer()
    viewer.subscribe(("A", "X"))
    for number in range(MESSAGES + 5):
        viewer.said({"device": "A", "message": str(number)})
        viewer.said({"device": "B", "message": "not for this one"})
    found = told(viewer)
    assert found[0] == Message({"device": "A", "message": "5"}, 5)
    assert [each.missed for each in found[1:]] == [0] * (MESSAGES - 1)
    viewer.said({"device": None, "message": "for all"})
    assert len(told(viewer)) == 1


def test_a_new_connection_makes_void_what_waits_about_properties() -> None:
    viewer = Viewer()
    viewer.subscribe((None, None))
    viewer.changed("A", "X")
    viewer.relinked()
    viewer.changed("A", "Y")
    assert told(viewer) == [Link(), Property("A", "Y", 0)]


def test_what_was_unsubscribed_is_not_told() -> None:
    viewer = Viewer()
    for name in ("X", "Y"):
        viewer.subscribe(("A", name))
        viewer.changed("A", name)
    viewer.unsubscribe(("A", "X"))
    assert told(viewer) == [Property("A", "Y", 0)]


def test_subscriptions_are_limited() -> None:
    viewer = Viewer()
    for number in range(SUBSCRIPTIONS):
        viewer.subscribe(("A", str(number)))
    viewer.subscribe(("A", "0"))
    with pytest.raises(TooManySubscriptions, match="100 subscriptions"):
        viewer.subscribe(("A", "one more"))


@pytest.mark.parametrize("change", [lambda v: v.changed("A", "X"), lambda v: v.relinked(),
                                    lambda v: v.said({"device": "A", "message": ""})])  # fmt: skip
def test_one_who_waits_is_woken(change: Callable[[Viewer], None]) -> None:
    async def wait() -> Any:
        viewer = Viewer()
        viewer.subscribe(("A", None))
        waiting = asyncio.create_task(viewer.next())
        await asyncio.sleep(0)
        change(viewer)
        return await asyncio.wait_for(waiting, 60)

    assert asyncio.run(wait()) is not None
