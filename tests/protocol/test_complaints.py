"""How many log lines peers can cause."""

from __future__ import annotations

import logging

import pytest

from indifast.protocol.complaints import BURST, Complaints, RateLimit, RateLimits


def test_the_next_line_reports_how_many_were_suppressed() -> None:
    limit = RateLimit()
    assert [limit.permit(100.0) for _ in range(BURST + 3)] == [0] * BURST + [None] * 3
    assert (limit.permit(101.0), limit.permit(101.0), limit.permit(102.5)) == (3, None, 1)
    assert limit.suppressed == 4


def test_each_of_the_first_thousand_kinds_has_its_own_limit() -> None:
    limits = RateLimits(1, 0.1)
    assert [limits.permit("one", 50.0), limits.permit("one", 50.0), limits.permit("two", 50.0)] == [0, None, 0]
    assert (limits.permit("one", 59.0), limits.permit("one", 60.0)) == (None, 2)
    permitted = sum(limits.permit(kind, 60.0) is not None for kind in range(5_000))
    assert 990 < permitted < 1_010, "the other kinds share a limit"
    assert limits.permit("one", 71.0) == 0, "the first kinds keep theirs"


def test_the_next_line_counts_those_beyond_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("indifast.test")
    complaints = Complaints(logger)
    with caplog.at_level(logging.INFO, logger="indifast.test"):
        for number in range(BURST + 20):
            complaints.say(logging.WARNING, 100.0, "%s sent %d%%", "peer", number)
            complaints.say(logging.DEBUG, 100.0, "not written anyway")
        complaints.say(logging.ERROR, 100.0, "something else", exc_info=ValueError("why"))
        complaints.say(logging.WARNING, 105.0, "%s sent %d%%", "peer", 0)
        complaints.say(logging.WARNING, 105.0, "%s sent %d%%", "peer", 1)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        *(f"peer sent {number}%" for number in range(BURST)),
        "something else",
        "peer sent 0% (20 more of these were not logged)",
        "peer sent 1%",
    ]
    assert "ValueError: why" in caplog.text
