"""Timestamps: `YYYY-MM-DDTHH:MM:SS[.ffffff]`, UTC, without a zone (INDI 1.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_utc = UTC
_fromisoformat = datetime.fromisoformat
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_second = (_EPOCH, _EPOCH, "")  # the second of the last message: its begin, its end, and how it is sent


def timestamp_text(timestamp: datetime | None = None) -> str:
    """Return a time as it is sent. The fraction is left out if it is zero.

    Args:
        timestamp: The time, in UTC or naive (taken as UTC); None for now.

    Raises:
        TypeError: The timestamp is not a datetime.
        ValueError: Its time zone is not UTC.
    """
    if timestamp is None:
        return _now_text()
    if not isinstance(timestamp, datetime):
        raise TypeError(f"a timestamp must be a datetime.datetime, not {timestamp!r}")
    if timestamp.tzinfo is not None:
        if timestamp.tzinfo != UTC:
            raise ValueError(f"a timestamp must be in UTC or without a time zone, not {timestamp!r}")
        timestamp = timestamp.replace(tzinfo=None)
    return timestamp.isoformat()


def _now_text() -> str:
    """Return the present time as it is sent. Its second is converted once, as most messages share it with others."""
    global _second
    moment = datetime.now(UTC)
    begin, end, text = _second
    if not begin <= moment < end:
        begin = moment.replace(microsecond=0)
        text = begin.replace(tzinfo=None).isoformat()
        _second = (begin, begin + timedelta(seconds=1), text)
    microsecond = moment.microsecond
    return f"{text}.{microsecond:06}" if microsecond else text


def parse_timestamp(text: str | None) -> datetime | None:
    """Return the time of a received message, aware and in UTC.

    A time with a zone, which INDI does not provide for, is converted.

    Returns:
        The time; now if the message carries none, None if its time can't be read.
    """
    if not text:
        return datetime.now(_utc)
    try:
        moment = _fromisoformat(text + "+00:00")  # the correct form has no zone
        if moment.tzinfo is _utc:
            return moment
    except ValueError:
        pass
    try:
        moment = _fromisoformat(text.strip())
        return moment.replace(tzinfo=_utc) if moment.tzinfo is None else moment.astimezone(_utc)
    except (ValueError, OverflowError):
        return None
