"""How many warnings a server can cause."""

from __future__ import annotations

BURST = 50
"""Warnings that may come at once."""
PER_SECOND = 1.0
"""Warnings that may come for ever."""


class Allowance:
    """Lets a burst pass and then so many a second: a server that sends nothing but nonsense must not flood a log."""

    def __init__(self) -> None:
        self.left_out = 0
        self._unsaid = 0
        self._rest = float(BURST)
        self._last = 0.0

    def ask(self, now: float) -> int | None:
        """None if nothing may be said now; else how much was left out since the last time something was."""
        self._rest = min(float(BURST), self._rest + (now - self._last) * PER_SECOND)
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
