"""Times of day, as shown on the screen."""

from __future__ import annotations

from datetime import datetime


def local_time(when: datetime) -> str:
    """Return a time as local time of day."""
    return f"{when.astimezone():%H:%M:%S}"


def utc_time(when: datetime) -> str:
    """Return a time in UTC, as the headers of frames have it; `when` is in UTC."""
    return f"{when:%H:%M:%S} UTC"
