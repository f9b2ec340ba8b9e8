"""Times of day on the screen, in zones that the tests choose."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from indifast.terminal import clock
from tests.terminal.support import on_screen, terminal

WINTER = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SUMMER = datetime(2026, 7, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def local(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A time zone, as POSIX writes it, which needs no database of zones."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize(
    ("local", "winter", "summer"),
    [
        ("UTC0", "03:04:05 UTC", "03:04:05 UTC"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "04:04:05 UTC+1", "05:04:05 UTC+2"),
        ("HST10", "17:04:05 UTC-10", "17:04:05 UTC-10"),
        ("NST3:30NDT,M3.2.0,M11.1.0", "23:34:05 UTC-3:30", "00:34:05 UTC-2:30"),
        ("IST-5:30", "08:34:05 UTC+5:30", "08:34:05 UTC+5:30"),
    ],
    indirect=["local"],
)
def test_local_times_and_their_distance_from_utc(local: str, winter: str, summer: str) -> None:
    told = [f"{clock.local_time(when)} {clock.zone(when)}" for when in (WINTER, SUMMER)]
    assert told == [winter, summer]
    assert clock.utc_time(WINTER) == "03:04:05 UTC"


@pytest.mark.parametrize("local", ["IST-5:30"], indirect=True)
async def test_the_messages_say_how_far_their_times_are_from_utc(local: str) -> None:
    async with terminal(None) as (app, _):
        app.board.messages.add("", "", WINTER, "some message")
        app.board.note("another")
        await on_screen(app, "Messages, times in UTC+5:30", "08:34:05 some message")
