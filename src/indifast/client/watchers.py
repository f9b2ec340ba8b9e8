"""Those who see every event before the program does: what waits, and streams."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class PingReply:
    """An answer to a ping, seen by watchers only."""

    eventtype = "PingReply"
    devicename = vectorname = None

    def __init__(self, uid: str) -> None:
        self.uid = uid


class Watcher:
    """Sees every event right after the model took it in, before `rxevent` does.

    None: the connection has ended. If the client is stopping as well, there will be no other.
    """

    holding = False
    """No more should be received until this watcher says so (by `Watchers.wake`)."""
    urgent = False
    """Something is waited for, so that nobody may hold up what is received."""

    def notify(self, event: Any) -> None:
        """An event."""
        raise NotImplementedError


class Watchers:
    """The watchers of a client. They are held weakly: an iterator that nobody holds any more holds nobody up."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.references: list[weakref.ref[Watcher]] = []
        """Empty while nobody watches. Changed in place."""
        self.wake = wake
        """Lets a client that is held up look again."""

    def attach(self, watcher: Watcher) -> None:
        """Let a watcher see every event while it lives."""
        references, wake = self.references, self.wake

        def gone(reference: weakref.ref[Watcher]) -> None:
            if reference in references:
                references.remove(reference)
            wake()

        references.append(weakref.ref(watcher, gone))

    def detach(self, watcher: Watcher) -> None:
        """Let it see no more."""
        self.references[:] = [reference for reference in self.references if reference() is not watcher]

    def notify(self, event: Any) -> None:
        """An event; None, see `Watcher`."""
        for reference in tuple(self.references):
            watcher = reference()
            if watcher is not None:
                watcher.notify(event)

    @property
    def holding(self) -> bool:
        """Somebody who takes everything is behind, and nobody else waits for what comes next."""
        watchers = [watcher for reference in self.references if (watcher := reference()) is not None]
        return any(watcher.holding for watcher in watchers) and not any(watcher.urgent for watcher in watchers)
