"""Timestamps: `YYYY-MM-DDTHH:MM:SS[.ffffff]`, UTC, without a zone (INDI 1.7)."""

from __future__ import annotations

from datetime import UTC, datetime

_utc = UTC
_fromisoformat = datetime.fromisoformat


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
    """The time of a received message, aware, in UTC: now when it carries none, None when it can't be read.

    A time with a zone, which INDI does not know, is converted.
    """
    if not text:
        return datetime.now(_utc)
    try:
        moment = _fromisoformat(text + "+00:00")  # as it should be: without a zone
        if moment.tzinfo is _utc:
            return moment
    except ValueError:
        pass
    try:
        moment = _fromisoformat(text.strip())
        return moment.replace(tzinfo=_utc) if moment.tzinfo is None else moment.astimezone(_utc)
    except (ValueError, OverflowError):
        return None
