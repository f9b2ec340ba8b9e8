"""Curves of numbers: what is recorded, and that it does not grow without end."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from indifast.web import curves
from indifast.web.bounds import CURVE_PARTS, CURVE_TIME, CURVES
from indifast.web.curves import Curve, Curves
from tests.support.blackbox import until
from tests.web.support import API, Site, path

pytestmark = pytest.mark.xdist_group("web")


def test_a_curve_has_all_values_of_the_first_minutes() -> None:
    curve = Curve()
    for second in range(CURVE_PARTS):
        curve.add(second, second % 7)
    assert curve.parts() == [(at, at % 7, at % 7, at % 7) for at in range(CURVE_PARTS)]
    assert curve.parts(100)[0] == (100, 2, 2, 2)
    assert curve.parts(100.5)[0] == (100, 2, 2, 2), "what the value was then"
    assert curve.parts(1e9) == [(CURVE_PARTS - 1, 5, 5, 5)]
    assert Curve().parts(5) == []


def test_values_within_a_part_are_its_lowest_highest_and_last() -> None:
    curve = Curve()
    for at, value in enumerate((5, 9, 1, 3)):
        curve.add(at / 10, value)
    curve.add(1.5, 3)  # nothing new
    curve.add(2.5, 4)
    assert curve.parts() == [(0, 1, 9, 3), (2.5, 4, 4, 4)]


def test_a_curve_neither_grows_nor_loses_extremes() -> None:
    """Nine hours, with a value every few seconds: the last six are there, and a peak of a second among them."""
    chance, curve, now, values = random.Random(1), Curve(), 0.0, []
    while now < 9 * 3600:
        now += chance.random() * 10
        values.append((now, chance.random() if not 20_000 < now < 20_012 else 7.0))
        curve.add(*values[-1])
        assert len(curve) <= CURVE_PARTS
    parts = curve.parts()
    assert parts[0][0] <= now - CURVE_TIME
    assert len(parts) > CURVE_PARTS / 4
    assert curve.length <= 4 * CURVE_TIME / CURVE_PARTS
    assert [each[0] for each in parts] == sorted(each[0] for each in parts)
    (peak,) = [each for each in parts if each[2] == 7]
    assert abs(peak[0] - 20_005) < 2 * curve.length
    within = [value for at, value in values if at >= parts[0][0]]
    assert (min(each[1] for each in parts), parts[-1][3]) == (min(within), values[-1][1])


def number(value: float, perm: str = "rw", name: str = "N", label: str = "") -> Any:
    member = SimpleNamespace(label=label, getfloatvalue=lambda: value)
    return SimpleNamespace(
        vectortype="NumberVector", perm=perm, devicename="D", name=name, label="", data={"V": member}
    )


def recorded(vectors: dict[str, Any], clock: Any = lambda: 1000.0) -> Curves:
    """Return the curves of these properties, which have changed once."""

    async def change() -> Curves:
        found = Curves(lambda _, name: vectors.get(name), clock)
        for name in vectors:
            found.mark("D", name)
        found.look()
        return found

    return asyncio.run(change())


def test_what_is_recorded() -> None:
    vectors = {
        "N": number(5), "WO": number(1, "wo", "WO"), "PASS": number(2, name="PIN", label="Passcode"),
        "NAN": number(float("nan"), name="NAN"), "TEXT": SimpleNamespace(vectortype="TextVector"),
    }  # fmt: skip
    found = recorded(vectors)
    plain = found.plain(vectors["N"], 60)
    assert plain == {
        "device": "D",
        "property": "N",
        "now": 1000,
        "members": {"V": {"length": 1, "parts": [[1000, 5, 5, 5]]}},
    }
    for name in ("WO", "PASS", "NAN"):
        assert found.plain(vectors[name], 60)["members"] == {}
    assert len(found._curves) == 1


def test_the_number_of_curves_is_limited() -> None:
    vectors = {str(at): number(at, name=str(at)) for at in range(CURVES + 5)}
    found = recorded(vectors)
    assert len(found._curves) == CURVES


def test_a_clock_that_goes_back_does_no_harm() -> None:
    times = iter([1000.0, 1000.0, 500.0, 500.0])
    vector = number(1)
    found = recorded({"N": vector}, lambda: next(times))
    assert found.plain(vector, 60)["now"] == 1000
    found._marked.add(("D", "N"))
    vector.data["V"].getfloatvalue = lambda: 2.0
    found.look()
    (part,) = found.plain(vector, 60)["members"]["V"]["parts"]
    assert part == [1000, 1, 2, 2]


def test_many_changes_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "TICK", 0.01)
    looks: list[str] = []

    async def change() -> None:
        found = Curves(lambda _, name: looks.append(name))
        for _ in range(1000):
            found.mark("D", "N")
        while not looks:
            await asyncio.sleep(0.01)
        assert looks == ["N"]

    asyncio.run(change())


def test_the_curves_of_a_property(web: Site) -> None:
    target = f"{path('Strange', 'ANSWER')}/curves"
    for value in (41, 43):
        assert web.set("Strange", "ANSWER", {"VALUE": value}).status == 200
        until(lambda value=value: last(web, target) == value, what="the value is recorded")
    found = web.get(f"{target}?seconds=5", "web_curves")
    assert (found["device"], found["property"]) == ("Strange", "ANSWER")
    parts = found["members"]["VALUE"]["parts"]
    assert {value for part in parts for value in part[1:]} >= {41, 43}
    assert all(part[0] <= found["now"] for part in parts)
    assert web.ask("GET", f"{path('Strange', 'MODE')}/curves").status == 400
    assert web.ask("GET", f"{API}/devices/Strange/properties/NOTHING/curves").status == 404
    door = web.get(f"{path('Strange', 'DOOR')}/curves", "web_curves")["members"]
    assert set(door) <= {"LEVEL"}, "the code is secret"


def last(web: Site, target: str) -> float:
    return float(web.get(target, "web_curves")["members"]["VALUE"]["parts"][-1][3])
