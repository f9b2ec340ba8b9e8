"""One timer that is armed only while something is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Alarm:
    """Calls back not later than the earliest time it was set to, in the seconds of `time.monotonic()`.

    What is due is decided by the callback, which sets the alarm again for what is left.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._when = 0.0

    @property
    def armed(self) -> bool:
        """It is set."""
        return self._handle is not None

    def set_for(self, when: float) -> None:
        """Call back at `when`, or earlier if the alarm is set to an earlier time already."""
        if self._handle is not None:
            if when >= self._when:
                return
            self._handle.cancel()
        self._when = when
        delay = max(0.0, when - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(delay, self._fire)

    def cancel(self) -> None:
        """Do not call back."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._callback()
