from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indifast.protocol.timestamps import parse_timestamp, timestamp_text


def test_timestamps_have_no_zone_and_no_zero_fraction() -> None:
    assert timestamp_text(datetime(2024, 1, 2, 3, 4, 5)) == "2024-01-02T03:04:05"
    assert timestamp_text(datetime(2024, 1, 2, 3, 4, 5, 678, UTC)) == "2024-01-02T03:04:05.000678"


def test_the_default_is_now() -> None:
    sent = datetime.fromisoformat(timestamp_text()).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - sent) < timedelta(minutes=1)


def test_the_present_time_is_exact_in_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [
        datetime(2024, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(2024, 12, 31, 23, 59, 59, 20, UTC),
        datetime(2025, 1, 1, 0, 0, 0, 0, UTC),
        datetime(2025, 1, 1, 0, 0, 0, 1, UTC),
        datetime(2024, 12, 31, 23, 59, 59, 0, UTC),  # the clock was set back
    ]
    expected = [timestamp_text(moment) for moment in moments]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return moments.pop(0)

    monkeypatch.setattr("indifast.protocol.timestamps.datetime", Clock)
    assert [timestamp_text() for _ in expected] == expected


def test_other_zones_and_types_are_refused() -> None:
    with pytest.raises(ValueError):
        timestamp_text(datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1))))
    with pytest.raises(TypeError):
        timestamp_text("2024-01-02")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-02T03:04:05", datetime(2024, 1, 2, 3, 4, 5, 0, UTC)),
        ("2024-01-02T03:04:05.5", datetime(2024, 1, 2, 3, 4, 5, 500000, UTC)),
        ("2024-01-02T03:04:05.1234567", datetime(2024, 1, 2, 3, 4, 5, 123456, UTC)),
        ("2024-01-02", datetime(2024, 1, 2, 0, 0, 0, 0, UTC)),
        ("20240102T030405", datetime(2024, 1, 2, 3, 4, 5, 0, UTC)),
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, 0, UTC)),
        ("2024-01-02T00:00:00+02:00", datetime(2024, 1, 1, 22, 0, 0, 0, UTC)),
        ("2024-01-02T03:04:05.25-01:30", datetime(2024, 1, 2, 4, 34, 5, 250000, UTC)),
        ("2024-01-02T03:04:05.5Z", datetime(2024, 1, 2, 3, 4, 5, 500000, UTC)),
        (" 2024-01-02T03:04:05\n", datetime(2024, 1, 2, 3, 4, 5, 0, UTC)),
        ("0001-01-01T00:00:00+02:00", None),
        ("9999-12-31T23:59:59-02:00", None),
        ("yesterday", None),
    ],
)
def test_reading_timestamps(text: str, expected: datetime | None) -> None:
    read = parse_timestamp(text)
    assert read == expected
    assert read is None or read.tzinfo is UTC


@given(st.text("0123456789-:.TZ+ W", max_size=32))
def test_any_text_can_be_given(text: str) -> None:
    read = parse_timestamp(text)
    assert read is None or read.tzinfo is UTC


@pytest.mark.parametrize("text", [None, ""])
def test_a_missing_timestamp_is_now(text: str | None) -> None:
    read = parse_timestamp(text)
    assert read is not None
    assert abs(datetime.now(UTC) - read) < timedelta(minutes=1)
