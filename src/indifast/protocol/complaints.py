"""Rate limits for log lines that peers can cause: wrong messages may come at any rate, but disks are finite."""

from __future__ import annotations

import logging
from collections.abc import Hashable

BURST = 50
"""Lines of one kind that may be logged at once."""
PER_SECOND = 1.0
"""Lines of one kind that may be logged each second after that."""

_MAX_KINDS = 1000


class RateLimit:
    """Permits a burst and then a steady rate, and counts what it suppressed.

    Times are monotonic seconds. Threads may share one limit: at worst a count is off by one.
    """

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self.suppressed = 0
        self._since_last = 0
        self._burst = float(burst)
        self._per_second = per_second
        self._tokens = float(burst)
        self._updated = 0.0

    def permit(self, now: float) -> int | None:
        """Ask to log one line.

        Returns:
            None if the line is suppressed, otherwise the number of lines suppressed since the last permitted one.
        """
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._per_second)
        self._updated = now
        if self._tokens < 1:
            self.suppress()
            return None
        self._tokens -= 1
        since_last, self._since_last = self._since_last, 0
        return since_last

    def suppress(self) -> None:
        """Count a line that is not logged."""
        self.suppressed += 1
        self._since_last += 1


class RateLimits:
    """A rate limit for each kind of line. Kinds beyond the first thousand share one limit."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._kinds: dict[Hashable, RateLimit] = {}

    def permit(self, kind: Hashable, now: float) -> int | None:
        """Ask to log one line of this kind. See `RateLimit.permit`."""
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = None
        limit = self._kinds.get(kind)
        if limit is None:
            limit = self._kinds[kind] = RateLimit(self._burst, self._per_second)
        return limit.permit(now)


class Complaints:
    """Logs lines at a limited rate per text. The next line with a text says how many were suppressed."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._limits = RateLimits(BURST, PER_SECOND)

    def say(self, level: int, now: float, text: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log a text with its arguments, as `logging` does. Lines below the logger's level are not counted."""
        if not self._logger.isEnabledFor(level):
            return
        suppressed = self._limits.permit(text, now)
        if suppressed is not None:
            self._logger.log(level, text + "%s", *args, more(suppressed), exc_info=exc_info)


def more(suppressed: int) -> str:
    """Return the end of a log line that counts the lines suppressed before it; empty if there were none."""
    return f" ({suppressed} more of these were not logged)" if suppressed else ""
