"""Records numbers as curves, in bounded memory.

What has changed is only marked, and looked at once a second: a property that changes a thousand times a second costs no
more than one that changes once. Each curve has parts of equal length. When there are too many of them, what is too old
is forgotten; if that is not enough, two parts become one, with the lowest and the highest value of both.

While nothing is known of a number, because the server or the property is gone or the value is not finite, its curve has
a gap. One that is shorter than a part is not seen.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from indifast.protocol import jsonform
from indifast.protocol.jsonform import Plain
from indifast.web.bounds import CURVE_PARTS, CURVE_TIME, CURVES
from indifast.web.concealed import secret_members

TICK = 1.0
"""Seconds between two looks, and the length of a part at first."""

GAP = math.nan
"""In place of a value: nothing is known from then on."""


class Curve:
    """The values of one number: of each part the time at which it began, the lowest, the highest and the last value.

    If the last value is a gap, it lasts until the next part. A part that begins with a gap has no other values.
    """

    def __init__(self) -> None:
        self.length = TICK
        """Seconds of a part."""
        self._numbers = array("d")

    def __len__(self) -> int:
        return len(self._numbers) // 4

    def add(self, now: float, value: float) -> None:
        """Add a value, or a gap, at a time, which is no earlier than those before."""
        numbers = self._numbers
        if numbers and (value == numbers[-1] or (math.isnan(value) and math.isnan(numbers[-1]))):
            return  # a curve keeps its value until there is another one
        if numbers and now - numbers[-4] < self.length:
            numbers[-3:] = array("d", (_extreme(min, numbers[-3], value), _extreme(max, numbers[-2], value), value))
            return
        numbers.extend((now, value, value, value))
        if len(self) > CURVE_PARTS:
            self._shorten(now)

    def _shorten(self, now: float) -> None:
        numbers = self._numbers
        old = next((at for at in range(0, len(numbers), 4) if numbers[at] >= now - CURVE_TIME), 0)
        del numbers[: max(0, old - 4)]  # one of those that are too old says what the value was when the rest began
        while len(self) > CURVE_PARTS:
            self.length *= 2
            merged = Curve()
            merged.length = self.length
            for begin, low, high, last in self.parts():
                merged.add(begin, low)
                merged.add(begin, high)
                merged.add(begin, last)
            self._numbers = merged._numbers

    def parts(self, since: float = -math.inf) -> list[tuple[float, float, float, float]]:
        """Return the parts that ended after a time: begin, lowest, highest and last value."""
        numbers = self._numbers
        first = len(numbers)
        while first and (first == len(numbers) or numbers[first] > since):
            first -= 4
        whole = iter(numbers[first:])
        return list(zip(whole, whole, whole, whole, strict=True))


def _extreme(choose: Callable[..., float], one: float, other: float) -> float:
    """Return the lower or higher one of two values, of which gaps are none."""
    return one if math.isnan(other) else other if math.isnan(one) else choose(one, other)


class Curves:
    """The curves of the numbers of all devices.

    Args:
        find: Returns a property by its device and name, or None.
        clock: Seconds since 1970.
    """

    def __init__(self, find: Callable[[str, str], Any], clock: Callable[[], float] = time.time) -> None:
        self._find = find
        self._clock = clock
        # The one that was added to last at the end.
        self._curves: OrderedDict[tuple[str, str, str], Curve] = OrderedDict()
        self._marked: set[tuple[str, str]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def mark(self, device: str | None, name: str | None) -> None:
        """Note that a property has changed or is gone: it is looked at soon."""
        if device is not None and name is not None:
            self._marked.add((device, name))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self.look)

    def look(self) -> None:
        """Record the values of what was marked."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = now = max(self._clock(), self._last)
        gone = set()
        for device, name in self._marked:
            vector = self._find(device, name)
            if vector is None:
                gone.add((device, name))
            if vector is None or vector.vectortype != "NumberVector":
                continue
            secret = secret_members(vector)
            for member, number in vector.data.items():
                if member not in secret:
                    value = number.getfloatvalue()
                    self._record((device, name, member), now, value if math.isfinite(value) else GAP)
        self._marked.clear()
        if gone:
            for (device, name, _), curve in self._curves.items():
                if (device, name) in gone:
                    curve.add(now, GAP)

    def interrupt(self) -> None:
        """Note that nothing is known of any number from now on, as when the server is gone."""
        self.look()
        for curve in self._curves.values():
            curve.add(self._last, GAP)

    def _record(self, key: tuple[str, str, str], now: float, value: float) -> None:
        curve = self._curves.get(key)
        if curve is None:
            if math.isnan(value):
                return
            if len(self._curves) >= CURVES:
                self._curves.popitem(last=False)
            curve = self._curves[key] = Curve()
        else:
            self._curves.move_to_end(key)
        curve.add(now, value)

    def plain(self, vector: Any, seconds: float) -> Plain:
        """Return the curves of a property over the last seconds, as JSON shows them."""
        if self._marked:
            self.look()
        now = max(self._clock(), self._last)
        members: Plain = {}
        for member in vector.data:
            curve = self._curves.get((vector.devicename, vector.name, member))
            if curve is not None and member not in secret_members(vector):
                members[member] = {
                    "length": curve.length,
                    "parts": [
                        [round(begin, 3), *map(jsonform.number, values)]
                        for begin, *values in curve.parts(now - seconds)
                    ],
                }
        return {"device": vector.devicename, "property": vector.name, "now": round(now, 3), "members": members}
