"""Watchers, which see every event before the program does: waiting tasks and streams."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class PingReply:
    """An answer to a ping; only watchers see it."""

    eventtype = "PingReply"
    devicename = vectorname = None

    def __init__(self, uid: str) -> None:
        self.uid = uid


class Watcher:
    """Sees every event after it was applied to the model and before `rxevent` gets it.

    None stands for the end of the connection. If the client is also stopping, there will be no other connection.
    """

    holding = False
    """Whether receiving should pause until this watcher calls `Watchers.wake`."""
    urgent = False
    """Whether this watcher waits for a particular event, so that no other watcher may make receiving pause."""

    def notify(self, event: Any) -> None:
        """Handle an event, or None at the end of the connection."""
        raise NotImplementedError


class Watchers:
    """The watchers of a client. They are held weakly, so that an abandoned iterator does not make receiving pause."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.references: list[weakref.ref[Watcher]] = []
        """Empty while there are no watchers. Changed in place."""
        self.wake = wake
        """Lets a client whose receiving is paused check again."""

    def attach(self, watcher: Watcher) -> None:
        """Show every event to a watcher as long as it lives."""
        references, wake = self.references, self.wake

        def gone(reference: weakref.ref[Watcher]) -> None:
            if reference in references:
                references.remove(reference)
            wake()

        references.append(weakref.ref(watcher, gone))

    def detach(self, watcher: Watcher) -> None:
        """Show no more events to a watcher."""
        self.references[:] = [reference for reference in self.references if reference() is not watcher]

    def notify(self, event: Any) -> None:
        """Show an event, or None at the end of the connection, to all watchers."""
        for reference in tuple(self.references):
            watcher = reference()
            if watcher is not None:
                watcher.notify(event)

    @property
    def holding(self) -> bool:
        """Whether receiving should pause: a watcher is behind, and none is urgent."""
        watchers = [watcher for reference in self.references if (watcher := reference()) is not None]
        return any(watcher.holding for watcher in watchers) and not any(watcher.urgent for watcher in watchers)
