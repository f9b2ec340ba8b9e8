"""What the board keeps and marks, without a screen, and the checks of entered values."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from indifast.client.propertymembers import NumberMember, SwitchMember
from indifast.terminal import inputchecks
from indifast.terminal.board import FADE, HISTORIES, HISTORY, Board
from indifast.terminal.messages import KEPT
from tests.support.operations import operations


class Vector:
    """The part of a client's vector that the board reads."""

    vectortype = "NumberVector"
    enable = True

    def __init__(self, *names: str, state: str = "Ok") -> None:
        self.state = state
        self.group = "Main"
        self.data = {name: NumberMember(name, membervalue="0") for name in names}

    def members(self) -> dict[str, NumberMember]:
        return self.data

    def getfloatvalue(self, name: str) -> float:
        return self.data[name].getfloatvalue()


def event(kind: str, vector: Any = None, name: str | None = "V", message: str = "", device: str = "D") -> Any:
    return SimpleNamespace(
        eventtype=kind, devicename=device, vectorname=name, vector=vector, timestamp=datetime.now(UTC), message=message
    )


def defined(*names: str) -> tuple[Board, Vector, list[None]]:
    woken: list[None] = []
    board = Board(lambda: woken.append(None))
    vector = Vector(*names)
    board.receive(event("Define", vector))
    board.take()
    woken.clear()
    return board, vector, woken


def test_any_number_of_updates_wakes_the_app_once() -> None:
    board, vector, woken = defined("a", "b")
    for number in range(1000):
        vector.data["a"].membervalue = number
        board.receive(event("Set", vector))
    assert len(woken) == 1
    changes = board.take(100.0)
    assert changes.keys == {("D", "V")}
    assert board.properties["D", "V"].changed == {"a": 100.0}
    assert list(board.history["D", "V", "a"]) == [0, 999]
    assert not board.take()  # nothing is left, and that wakes nobody
    assert len(woken) == 1


def test_highlights_fade_and_busy_time_is_measured() -> None:
    board, vector, _ = defined("a")
    shown = board.properties["D", "V"]
    vector.data["a"].membervalue = 5
    vector.state = "Busy"
    board.receive(event("Set", vector))
    board.take(100.0)
    assert shown.heat("a", 100.0) == 1 and 0 < shown.heat("a", 100.0 + FADE / 2) < 1 and shown.busy_since == 100.0
    shown.fade(100.1 + FADE)
    assert not shown.changed and shown.moving()  # because it is Busy
    vector.state = "Ok"
    board.receive(event("Set", vector))
    board.take(110.0)
    assert shown.busy_since is None and not shown.moving()


def test_history_and_messages_are_bounded() -> None:
    board, vector, _ = defined("a")
    for number in range(HISTORY + 50):
        vector.data["a"].membervalue = number
        board.receive(event("Set", vector))
        board.take()
    assert list(board.history["D", "V", "a"]) == list(range(50, HISTORY + 50))
    board, vector, _ = defined(*(f"m{index}" for index in range(HISTORIES + 10)))
    assert len(board.history) == HISTORIES
    for number in range(KEPT + 10):
        board.note(f"{number}")
    assert len(board.messages.entries) == KEPT
    assert [entry.text for entry in board.messages.since(KEPT + 8)] == [f"{KEPT + 8}", f"{KEPT + 9}"]


def test_a_deletion_just_before_the_link_is_lost_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("indifast.terminal.board.time.monotonic", lambda: now)
    board, vector, _ = defined("a")
    board.receive(event("Delete", name=None))
    assert not board.properties
    now += 60
    board.receive(event("ConnectionLost"))
    assert not board.properties  # it was deleted long before
    board.receive(event("Define", vector))
    board.receive(event("Delete"))
    board.receive(event("ConnectionLost"))
    assert board.properties["D", "V"].lost
    board.receive(event("ConnectionMade"))
    board.receive(event("Define", vector))
    assert not board.properties["D", "V"].lost


def test_deleted_properties_are_kept_only_while_they_can_be_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the frames of a camera that is connected and disconnected all night would fill the memory."""
    now = 1000.0
    monkeypatch.setattr("indifast.terminal.board.time.monotonic", lambda: now)
    board, _, _ = defined("a")
    gone = []
    for _night in range(5):
        vector = Vector("a")
        board.receive(event("Define", vector))
        gone.append(weakref.ref(board.properties["D", "V"]))
        board.receive(event("Delete"))
        board.take()
        now += 60
    gc.collect()
    assert [reference() is None for reference in gone] == [True] * 4 + [False]


def member(low: str = "0", high: str = "0", step: str = "0") -> NumberMember:
    return NumberMember("n", format="%g", min=low, max=high, step=step, membervalue="0")


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.5", 12.5), (" 1e-3 ", 0.001), ("-0:30:00", -0.5), ("12 30", 12.5), ("12;30;36", 12.51), ("+5", 5.0)],
)
def test_numbers_are_read_in_all_forms(text: str, value: float) -> None:
    assert inputchecks.number(member(), text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "  ", "abc", "1:2:3:4", "nan", "inf", "1,5", "11", "-1"])
def test_a_number_that_is_malformed_or_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|outside"):
        inputchecks.number(member("0", "10"), text)


def test_equal_or_malformed_limits_are_no_limits() -> None:
    assert inputchecks.number(member("0", "0"), "-1e9") == -1e9
    assert inputchecks.limits(member("5", "5")) is None
    assert inputchecks.limits(member("x", "5")) is None
    assert inputchecks.limits(member("-90:30", "90:30")) == (-90.5, 90.5)


def test_steps_count_from_the_minimum() -> None:
    odd = member("1", "10", "2")
    assert not inputchecks.off_step(odd, 3) and not inputchecks.off_step(odd, 9)
    assert "give 3 or 5" in inputchecks.off_step(odd, 4.5)
    assert not inputchecks.off_step(member("0.01", "3600", "1"), 10)  # steps from 0 are accepted, too
    assert not inputchecks.off_step(member("0", "1", "0.1"), 0.3)
    assert not inputchecks.off_step(member("0", "1", "0"), 0.33)
    assert (
        inputchecks.stepped(odd, 3, 1) == 5
        and inputchecks.stepped(odd, 4, 1) == 5
        and inputchecks.stepped(odd, 4, -1) == 3
    )
    assert inputchecks.stepped(odd, 9, 1) == 9 and inputchecks.stepped(odd, 1, -1) == 1


@pytest.mark.parametrize(
    ("low", "high", "step", "value", "up", "down"),
    [
        ("-inf", "inf", "0.5", 1.2, 1.5, 1.0),
        ("-inf", "-3", "2", -4.5, -4.0, -6.0),
        ("-inf", "5", "2", 4.5, 4.0, 4.0),
        ("0", "inf", "0", 3.0, 4.0, 2.0),
        ("-1e308", "1e308", "1e-10", 1e300, 1e300, 1e300),
        ("0", "0", "1e-300", 1e300, 1e300, 1e300),
    ],
)
def test_steps_within_infinite_limits(low: str, high: str, step: str, value: float, up: float, down: float) -> None:
    endless = member(low, high, step)
    assert isinstance(inputchecks.off_step(endless, value), str)
    assert (inputchecks.stepped(endless, value, 1), inputchecks.stepped(endless, value, -1)) == (up, down)


def switches(rule: str, **values: str) -> Any:
    members = {name: SwitchMember(name, membervalue=value) for name, value in values.items()}
    return SimpleNamespace(rule=rule, members=lambda: members, member=members.__getitem__)


@pytest.mark.parametrize(
    ("rule", "edits", "sent"),
    [
        ("OneOfMany", {"b": "On", "a": "Off"}, {"a": "Off", "b": "On"}),
        ("OneOfMany", {"a": "On"}, {"a": "On"}),
        ("AtMostOne", {"a": "Off"}, {"a": "Off"}),
        ("AnyOfMany", {"b": "On", "c": "On"}, {"b": "On", "c": "On"}),
    ],
)
def test_changes_of_switches_that_the_rule_allows(rule: str, edits: dict[str, str], sent: dict[str, str]) -> None:
    assert inputchecks.switches(switches(rule, a="On", b="Off", c="Off"), edits) == sent


@pytest.mark.parametrize(
    ("rule", "edits"), [("OneOfMany", {"a": "Off"}), ("OneOfMany", {"b": "On"}), ("AtMostOne", {"b": "On"})]
)
def test_changes_of_switches_that_the_rule_forbids(rule: str, edits: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=rule):
        inputchecks.switches(switches(rule, a="On", b="Off"), edits)


def test_toggling_follows_the_rule() -> None:
    one = switches("OneOfMany", a="On", b="Off", c="Off")
    assert inputchecks.toggled(one, {}, "b") == {"a": "Off", "b": "On"}
    assert inputchecks.toggled(one, {"a": "Off", "b": "On"}, "c") == {"a": "Off", "c": "On"}
    assert inputchecks.toggled(switches("AnyOfMany", a="On", b="Off"), {}, "b") == {"b": "On"}


def test_the_cost_of_a_deletion_does_not_depend_on_what_is_shown() -> None:
    def cost(size: int) -> int:
        board = Board(lambda: None)
        vector = Vector("a")
        for number in range(size):
            board.receive(event("Define", vector, device=f"D{number}"))
            board.receive(event("Define", vector, name=f"V{number}", device="Other"))
        board.receive(event("Delete", name=None, device="D0"))
        board.receive(event("Delete", name="V0", device="Other"))
        assert board.devices == size
        assert len(board.of("Other")) == size - 1 and board.of("D0") == [] and len(board.of("D1")) == 1
        deletions = [event("Delete", name=None, device=f"D{number}") for number in range(1, 51)]
        deletions += [event("Delete", name=f"V{number}", device="Other") for number in range(1, 51)]
        return operations(lambda: list(map(board.receive, deletions)))

    costs = {size: cost(size) for size in (100, 1_000, 10_000)}
    assert max(costs.values()) < 1.2 * costs[100], costs
