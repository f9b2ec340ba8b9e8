"""Timestamps: `YYYY-MM-DDTHH:MM:SS[.ffffff]`, UTC, without a zone (INDI 1.7)."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp_text(timestamp: datetime | None = None) -> str:
    """A time as it is sent; None is now. The fraction is left out when it is zero.

    A naive time is taken as UTC.

    Raises:
        TypeError: not a datetime.
        ValueError: the time zone is not UTC.
    """
    if timestamp is None:
        return datetime.now(UTC).isoformat()[: -len("+00:00")]
    if not isinstance(timestamp, datetime):
        raise TypeError(f"a timestamp is a datetime.datetime, not {timestamp!r}")
    if timestamp.tzinfo is not None:
        if timestamp.tzinfo != UTC:
            raise ValueError(f"a timestamp is in UTC or without time zone, not {timestamp!r}")
        timestamp = timestamp.replace(tzinfo=None)
    return timestamp.isoformat()


def parse_timestamp(text: str | None) -> datetime | None:
    """The time of a received message, aware, in UTC: now when it carries none, None when it can't be read."""
    if not text:
        return datetime.now(UTC)
    whole, dot, fraction = text.rpartition(".")
    if not dot:
        whole, fraction = text, ""
    elif not (fraction.isascii() and fraction.isdigit()):
        return None
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        return None
    if dot:
        moment = moment.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    return moment.replace(tzinfo=UTC)
