"""Asking again for properties of other drivers that have been silent for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from indifast.protocol import wire

if TYPE_CHECKING:
    from indifast.protocol.message import Routable

FIRST_ANSWER = 2.0
"""Seconds after which the first request is repeated: the other driver may not have been there yet."""

TICK = 0.1
"""Seconds between two looks at all that is watched: so late a request may be."""

Key = tuple[str, str]
"""Device name and vector name."""


class Snooper(Protocol):
    """The driver, as far as it says what is watched; see `IPyDriver`."""

    snoopvectors: dict[Key, list[Any] | None]


class SnoopMonitor:
    """Sends getProperties for a watched vector at once, and each time it has been silent for its time-out.

    One timer, for the watched vector whose time comes first; none when nothing is watched.
    """

    def __init__(self, snooper: Snooper, send: Callable[[Routable], None]) -> None:
        self._snooper = snooper
        self._send = send
        self._due: dict[Key, float] = {}
        self._heard: set[Key] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0  # it is set for
        self._running = False

    def watch(self, key: Key) -> None:
        """Begin to watch, or change the time-out."""
        self._heard.discard(key)
        self._due[key] = 0.0
        if self._running:
            self._ask(key, time.monotonic())
            if key in self._due:
                self._arm(self._due[key])

    def heard(self, key: Key) -> None:
        """An event for exactly this vector has come."""
        entry = self._snooper.snoopvectors.get(key)
        if entry is not None:
            entry[1] = time.time()
            self._heard.add(key)
            self._due[key] = time.monotonic() + entry[0]

    def start(self) -> None:
        """The driver runs: ask for everything that is watched."""
        self._running = True
        now = time.monotonic()
        for key, entry in list(self._snooper.snoopvectors.items()):
            if entry is not None:
                self._ask(key, now)
        self._arm_for_earliest(now)

    def stop(self) -> None:
        """The driver runs no longer."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self, key: Key, now: float) -> None:
        entry = self._snooper.snoopvectors.get(key)
        if entry is None:  # taken out by the user
            self._due.pop(key, None)
            return
        self._send(wire.get_properties(*key))
        entry[1] = time.time()
        self._due[key] = now + (entry[0] if key in self._heard else FIRST_ANSWER)
        self._heard.add(key)

    def _arm(self, due: float) -> None:
        """See that the timer is set for then, or earlier. An event that puts one off leaves it: it then finds nothing
        to do."""
        if self._timer is not None:
            if self._when <= due:
                return
            self._timer.cancel()
        self._when = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), self._fire)

    def _arm_for_earliest(self, now: float) -> None:
        if self._due:
            self._arm(max(min(self._due.values()), now + TICK))

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic()
        for key, due in list(self._due.items()):
            if due <= now:
                self._ask(key, now)
        self._arm_for_earliest(now)
