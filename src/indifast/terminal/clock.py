"""Times of day as the screen shows them."""

from __future__ import annotations

from datetime import datetime


def local_time(when: datetime) -> str:
    """A moment as a clock on the wall here shows it."""
    return f"{when.astimezone():%H:%M:%S}"


def utc_time(when: datetime) -> str:
    """A moment in UTC, as it stands in the headers of frames; `when` is in UTC."""
    return f"{when:%H:%M:%S} UTC"
