"""How many browsers and viewers there may be, and whether this process may have a descriptor for each."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass

from indifast.web.bounds import CONNECTIONS, LIVE_VIEWERS

_OTHERS = 512
"""Descriptors for everything else: frames with URLs in memory that the server shares, files, the loop."""

_FEWEST = 16
"""Viewers, and connections, that there may be in any case."""


@dataclass(frozen=True)
class Capacity:
    """How many there may be at once.

    Attributes:
        viewers: WebSockets with live frames.
        connections: All others, WebSockets included.
    """

    viewers: int = LIVE_VIEWERS
    connections: int = CONNECTIONS

    @property
    def descriptors(self) -> int:
        """How many files a process must be able to open for that."""
        return self.viewers + self.connections + _OTHERS


def made_room(wanted: Capacity) -> tuple[Capacity, str | None]:
    """Have the system allow this process as many descriptors as are needed.

    Returns:
        How many there may be, and if that is less than wanted, a sentence that says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < wanted.descriptors:
        most = wanted.descriptors if hard < 0 else min(wanted.descriptors, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if not 0 <= soft < wanted.descriptors:
        return wanted, None
    left = max(soft - _OTHERS, 2 * _FEWEST)
    viewers = min(wanted.viewers, max(left // 2, left - wanted.connections))
    found = Capacity(viewers, min(wanted.connections, left - viewers))
    return found, (
        f"this process may open {soft} files: at most {found.viewers} viewers of live frames and {found.connections} "
        f"other connections; for all of them, let it open {wanted.descriptors} (ulimit -n, or LimitNOFILE= of systemd)"
    )
