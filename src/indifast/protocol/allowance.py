"""How many lines a stranger can cause in a log."""

from __future__ import annotations

BURST = 50
"""Warnings that may come at once."""
PER_SECOND = 1.0
"""Warnings that may come for ever."""


class Allowance:
    """Lets a burst pass and then so many a second: a peer that sends nothing but nonsense must not flood a log."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        self.left_out = 0
        self._burst = float(burst)
        self._per_second = per_second
        self._unsaid = 0
        self._rest = self._burst
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

    def warning(self, text: str, now: float) -> str | None:
        """The text, with how many were left out before it; None when it is left out itself."""
        unsaid = self.ask(now)
        if unsaid is None:
            return None
        return f"{text} ({unsaid} more such warnings were left out)" if unsaid else text
