"""Times of day, as shown on the screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def local_time(when: datetime) -> str:
    """Return a time as local time of day."""
    return f"{when.astimezone():%H:%M:%S}"


def zone(when: datetime | None = None) -> str:
    """Return the zone of `local_time`, at a time or now: "UTC", or "UTC+1", for example."""
    offset = (when or datetime.now(UTC)).astimezone().utcoffset() or timedelta()
    minutes = round(offset.total_seconds() / 60)
    if not minutes:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours}" + (f":{rest:02}" if rest else "")


def utc_time(when: datetime) -> str:
    """Return a time in UTC, as the headers of frames have it; `when` is in UTC."""
    return f"{when:%H:%M:%S} UTC"
