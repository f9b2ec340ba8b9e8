"""Curves of numbers: what is recorded, and that it does not grow without end."""

from __future__ import annotations

import asyncio
import math
import random
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from indifast.cli.toolkit.address import Address
from indifast.web import curves
from indifast.web.bounds import CURVE_PARTS, CURVE_TIME, CURVES
from indifast.web.curves import GAP, Curve, Curves
from indifast.web.hub import Hub
from tests.support.blackbox import until
from tests.support.waiting import eventually
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


def test_a_gap_is_a_part_without_a_value() -> None:
    curve = Curve()
    for at, value in ((0, 1), (1.5, GAP), (3, GAP), (4, 1), (4.2, 3), (4.4, GAP), (6, GAP), (7, GAP), (7.5, 2)):
        curve.add(at, value)
    assert known(curve) == [(0, 1, 1, 1), (1.5, None, None, None), (4, 1, 3, None), (7.5, 2, 2, 2)]
    curve.add(7.6, GAP)
    curve.add(7.8, 5)
    assert known(curve)[-1] == (7.5, 2, 5, 5), "shorter than a part"


def test_gaps_are_kept_in_long_parts_and_do_not_make_a_curve_grow() -> None:
    """Nine hours in which the value is gone every other second, and once for a quarter of an hour."""
    curve = Curve()
    for second in range(9 * 3600):
        curve.add(second, GAP if second % 2 or 20_000 <= second < 20_900 else second)
        assert len(curve) <= CURVE_PARTS
    parts = curve.parts()
    assert curve.length <= 4 * CURVE_TIME / CURVE_PARTS
    within = [part for part in parts if 20_000 + curve.length <= part[0] < 20_900 - curve.length]
    assert all(math.isnan(value) for part in within for value in part[1:])
    (before,) = [part for part, after in pairwise(parts) if part[0] <= 20_400 < after[0]]
    assert math.isnan(before[3])
    assert all(part[1] <= part[2] for part in parts if not math.isnan(part[1]))


def known(curve: Curve) -> list[tuple[float | None, ...]]:
    """Return the parts of a curve, with None for nan, which is not equal to itself."""
    return [tuple(None if math.isnan(each) else each for each in part) for part in curve.parts()]


DEFINED = (
    '<defNumberVector device="D" name="P" state="Ok" perm="rw" timeout="0">'
    '<defNumber name="N" format="%g" min="0" max="0" step="0">1</defNumber></defNumberVector>\n'
)
SET = '<setNumberVector device="D" name="P"><oneNumber name="N">{}</oneNumber></setNumberVector>\n'


def test_a_curve_has_gaps_while_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value is not finite, the property is deleted, the device is deleted, the server is gone."""
    monkeypatch.setattr(curves, "TICK", 0.02)

    async def look() -> list[bool]:
        connected: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        async with await asyncio.start_server(lambda _, each: connected.put_nowait(each), "127.0.0.1", 0) as server:
            hub = Hub(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
            client = asyncio.create_task(hub.client.asyncrun())

            def ends(*, known: bool) -> bool:
                curve = hub.curves._curves.get(("D", "P", "N"))
                parts = [] if curve is None else curve.parts()
                return bool(parts) and math.isnan(parts[-1][3]) != known and time.time() > parts[-1][0] + 0.02

            writer = await connected.get()
            for gone in (SET.format("nan"), '<delProperty device="D" name="P"/>\n', '<delProperty device="D"/>\n', ""):
                writer.write(DEFINED.encode())
                writer.write(SET.format("1").encode())
                await eventually(lambda: ends(known=True), "a value")
                if gone:
                    writer.write(gone.encode())
                else:
                    writer.close()
                await eventually(lambda: ends(known=False), f"a gap after {gone}")
            writer = await connected.get()
            writer.write(DEFINED.encode())
            await eventually(lambda: ends(known=True), "a value after another connection")
            found = hub.curves.plain(hub.vector("D", "P"), 600)["members"]["N"]["parts"]
            hub.client.shutdown()
            await client
            writer.close()
        return [part[3] is None for part in found]

    assert asyncio.run(look()) == [False, True] * 4 + [False]


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

    def in_the_past() -> bool:
        """Return whether the next value begins a part: of three in one, the one between the others is not shown."""
        found = web.get(target, "web_curves")
        curve = found["members"].get("VALUE")
        return curve is None or found["now"] - curve["parts"][-1][0] > curve["length"]

    until(in_the_past, what="the end of what other tests have set")
    for value in (41, 43):
        assert web.set("Strange", "ANSWER", {"VALUE": value}).status == 200
        until(lambda value=value: last(web, target) == value, what="the value is recorded")
    found = web.get(f"{target}?seconds=600", "web_curves")
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
