"""Rates at which data arrives."""

from __future__ import annotations

from collections import deque


class Meter:
    """Frames and bytes per second, over the last seconds."""

    WINDOW = 3.0
    """Length of the period that counts, in seconds."""
    _GRAIN = 0.05

    def __init__(self) -> None:
        self._buckets: deque[list[float]] = deque()  # each: time, frames, bytes

    def add(self, frames: int, nbytes: int, now: float) -> None:
        """Count what arrived at `now` (seconds, monotonic)."""
        if self._buckets and now - self._buckets[-1][0] < self._GRAIN:
            self._buckets[-1][1] += frames
            self._buckets[-1][2] += nbytes
        else:
            self._buckets.append([now, frames, nbytes])
        self._forget(now)

    def rates(self, now: float) -> tuple[float, float]:
        """Return frames and bytes per second; zeros if only one frame has arrived recently."""
        self._forget(now)
        if len(self._buckets) < 2:
            return 0.0, 0.0
        later = list(self._buckets)[1:]  # what arrived after the first one
        seconds = now - self._buckets[0][0]
        return sum(bucket[1] for bucket in later) / seconds, sum(bucket[2] for bucket in later) / seconds

    def _forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] < now - self.WINDOW:
            self._buckets.popleft()
