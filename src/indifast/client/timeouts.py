"""Timeouts of vectors that owe an answer to a command."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from indifast.client import events
from indifast.client.alarm import Alarm
from indifast.client.lifecycle import Lifecycle
from indifast.client.notifier import Notifier
from indifast.client.sender import Expected
from indifast.client.settings import Settings

TICK = 0.1
"""Seconds between two checks of all vectors that have not answered; a timeout may be reported this late."""

_FEW = 64  # this many vectors may be kept although they have answered


class Timeouts:
    """Notifies the program when a vector has not answered in time.

    The alarm is set only while an answer may become overdue.
    """

    def __init__(self, settings: Settings, lifecycle: Lifecycle, notifier: Notifier, counts: Counter[str]) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._notifier = notifier
        self._counts = counts
        self._alarm = Alarm(self._check)
        self._pending: dict[tuple[str, str], Expected] = {}
        """By device and vector. Those that are over are removed at a check, or when they may outnumber the others."""
        self._most = _FEW

    def expect(self, vector: Any) -> Expected:
        """Start the timeout of a command to a vector; anything that the server sends about the vector ends it."""
        settings = self._settings
        wait = min(max(vector.timeout or 0.0, settings.vector_timeout_min), settings.vector_timeout_max)
        expected = Expected(vector, time.monotonic() + wait)
        self._pending[vector.devicename, vector.name] = expected
        if len(self._pending) > self._most:
            self._prune()
        if settings.timeout_enable:
            self._alarm.set_for(expected.due)
        return expected

    def arm(self) -> None:
        """Set the alarm for whatever may become overdue."""
        if not self._settings.timeout_enable or self._alarm.armed or not self._pending:
            return
        self._prune()
        if self._pending:
            earliest = min(expected.due for expected in self._pending.values())
            self._alarm.set_for(max(earliest, time.monotonic() + TICK))

    def _prune(self) -> None:
        """Remove those that are over. On average, the cost per command does not depend on how many are pending."""
        self._pending = {key: expected for key, expected in self._pending.items() if not expected.over}
        self._most = max(_FEW, 2 * len(self._pending))

    def clear(self) -> None:
        """Stop all timeouts, because the connection is gone."""
        self._alarm.cancel()
        self._pending.clear()

    def _check(self) -> None:
        if not self._settings.timeout_enable:
            return
        now = time.monotonic()
        for expected in list(self._pending.values()):
            if expected.over or now < expected.due:
                continue
            expected.over = True
            self._counts["timeouts"] += 1
            self._lifecycle.spawn(self._notifier.tell(events.VectorTimeOut(expected.vector.device, expected.vector)))
        self.arm()
