"""Monitor that asks again for properties of other drivers that have been silent for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from indifast.protocol import wire

if TYPE_CHECKING:
    from indifast.protocol.message import Routable

FIRST_ANSWER = 2.0
"""Seconds after which the first request is repeated: the other driver may not have been running yet."""

TICK = 0.1
"""Shortest time in seconds between two checks of all watched vectors: a request may be this late."""

Key = tuple[str, str]
"""Device name and vector name."""


class Snooper(Protocol):
    """What the monitor needs of a driver; see `IPyDriver`."""

    snoopvectors: dict[Key, list[Any] | None]


class SnoopMonitor:
    """Sends getProperties for a watched vector at once, and each time it has been silent for its timeout.

    There is one timer, set for the watched vector that is due first, and none while nothing is watched.
    """

    def __init__(self, snooper: Snooper, send: Callable[[Routable], None]) -> None:
        self._snooper = snooper
        self._send = send
        self._due: dict[Key, float] = {}
        self._heard: set[Key] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0  # when the timer fires
        self._running = False

    def watch(self, key: Key) -> None:
        """Start watching a vector, or change its timeout."""
        self._heard.discard(key)
        self._due[key] = 0.0
        if self._running:
            self._ask(key, time.monotonic())
            if key in self._due:
                self._arm(self._due[key])

    def heard(self, key: Key) -> None:
        """Note that a message about exactly this vector has arrived."""
        entry = self._snooper.snoopvectors.get(key)
        if entry is not None:
            entry[1] = time.time()
            self._heard.add(key)
            self._due[key] = time.monotonic() + entry[0]

    def start(self) -> None:
        """Note that the driver runs, and ask for everything that is watched."""
        self._running = True
        now = time.monotonic()
        for key, entry in list(self._snooper.snoopvectors.items()):
            if entry is not None:
                self._ask(key, now)
        self._arm_for_earliest(now)

    def stop(self) -> None:
        """Note that the driver no longer runs."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self, key: Key, now: float) -> None:
        entry = self._snooper.snoopvectors.get(key)
        if entry is None:  # removed by the user
            self._due.pop(key, None)
            return
        self._send(wire.get_properties(*key))
        entry[1] = time.time()
        self._due[key] = now + (entry[0] if key in self._heard else FIRST_ANSWER)
        self._heard.add(key)

    def _arm(self, due: float) -> None:
        """Make sure that the timer fires at `due` or earlier.

        A message that postpones a request does not change the timer, which then finds nothing to do.
        """
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
