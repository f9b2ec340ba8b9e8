"""Frame rates: exact for a steady stream, and zero after it has ended."""

from __future__ import annotations

import pytest

from indifast.terminal.meter import Meter


def test_rates_of_a_steady_stream() -> None:
    meter = Meter()
    assert meter.rates(0) == (0, 0)
    meter.add(1, 1000, 10.0)
    assert meter.rates(10.0) == (0, 0)
    for step in range(1, 101):
        meter.add(1, 1000, 10 + step / 10)
    assert meter.rates(20.0) == pytest.approx((10, 10_000))
    assert meter.rates(22.0)[0] < 5
    assert meter.rates(30.0) == (0, 0)


def test_memory_for_many_frames_is_bounded() -> None:
    meter = Meter()
    for step in range(10_000):
        meter.add(1, 10, step / 10_000)
    assert meter.rates(1.0)[0] == pytest.approx(10_000, rel=0.06)
    assert len(meter._buckets) <= Meter.WINDOW / Meter._GRAIN + 1
