"""How many lines of a log others can cause: what they send may be wrong at any rate, the disk is finite."""

from __future__ import annotations

import logging
from collections.abc import Hashable

BURST = 50
"""Lines that may come at once."""
PER_SECOND = 1.0
"""Lines that may come for ever."""

_MOST_KINDS = 1000  # that have an allowance each


class Allowance:
    """Lets a burst pass and then so many a second, and counts what it left out.

    Times are seconds, monotonic. Threads may share one: at worst a count is off by one.
    """

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self.left_out = 0
        self._unsaid = 0
        self._burst = float(burst)
        self._per_second = per_second
        self._rest = float(burst)
        self._last = 0.0

    def ask(self, now: float) -> int | None:
        """None if nothing may be said now; else how much was left out since the last time something was."""
        self._rest = min(self._burst, self._rest + (now - self._last) * self._per_second)
        self._last = now
        if self._rest < 1:
            self.leave_out()
            return None
        self._rest -= 1
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid

    def leave_out(self) -> None:
        """One is not said."""
        self.left_out += 1
        self._unsaid += 1


class Allowances:
    """An allowance for each kind of what may be said. Beyond a thousand kinds all others share one."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._kinds: dict[Hashable, Allowance] = {}

    def ask(self, kind: Hashable, now: float) -> int | None:
        """See `Allowance.ask`."""
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = None
        allowance = self._kinds.get(kind)
        if allowance is None:
            allowance = self._kinds[kind] = Allowance(self._burst, self._per_second)
        return allowance.ask(now)


class Complaints:
    """Writes lines to a log as far as the allowance of their text goes; the next one tells how many were left out."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._allowances = Allowances(BURST, PER_SECOND)

    def say(self, level: int, now: float, text: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log a text with its arguments, as `logging` does. What would not be written anyway is not counted."""
        if not self._logger.isEnabledFor(level):
            return
        unsaid = self._allowances.ask(text, now)
        if unsaid is not None:
            self._logger.log(level, text + "%s", *args, more(unsaid), exc_info=exc_info)


def more(unsaid: int) -> str:
    """What to add to a line after so many that were not logged."""
    return f" ({unsaid} more of these were not logged)" if unsaid else ""
