"""Timer that is armed only while something can become due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Alarm:
    """Calls back no later than the earliest time it was set for, in seconds of `time.monotonic()`.

    The callback decides what is due, and sets the alarm again for whatever is not.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._when = 0.0

    @property
    def armed(self) -> bool:
        """Whether the alarm is set."""
        return self._handle is not None

    def set_for(self, when: float) -> None:
        """Call back at `when`, or earlier if the alarm is already set for an earlier time."""
        if self._handle is not None:
            if when >= self._when:
                return
            self._handle.cancel()
        self._when = when
        delay = max(0.0, when - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(delay, self._fire)

    def cancel(self) -> None:
        """Cancel the pending callback, if any."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._callback()
