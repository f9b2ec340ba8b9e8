"""Requests for definitions to one driver or link: how many may be sent, and which ones wait."""

from __future__ import annotations

import math

from indifast.routing.frames import Property

ASK_BURST = 10
"""Requests for definitions that are passed on to a driver or link at once, however many clients there are."""

_MAX_HELD = 100  # requests held back for one driver or link before one for everything, or per device, replaces them
_DECAY = 0.9  # factor by which the remembered length of an answer shrinks with each shorter answer


class Requests:
    """The rate of requests for definitions to one driver or link, and the requests that wait."""

    __slots__ = ("answer", "defined", "held", "reckoned", "room")

    def __init__(self) -> None:
        self.room = math.inf
        """Requests that may be sent at once."""
        self.reckoned = 0.0
        """When `room` was last computed."""
        self.defined = 0
        """Definitions received since the last request was sent."""
        self.answer = 1.0
        """Expected number of definitions in the answer to a request."""
        self.held: dict[Property, None] = {}
        """Requests (device, name) that wait until more may be sent."""

    def begin(self) -> None:
        """Note that a request is sent: definitions from now on are its answer."""
        self.answer = max(float(self.defined), self.answer * _DECAY, 1.0)
        self.defined = 0

    def may_ask(self, now: float, interval: float) -> bool:
        """Use up one of the requests that may be sent now; return False if there is none.

        Args:
            now: The time in monotonic seconds.
            interval: Seconds after which one more request may be sent.
        """
        self.room = min(float(ASK_BURST), self.room + max(now - self.reckoned, 0.0) / interval)
        self.reckoned = now
        if self.room < 1:
            return False
        self.room -= 1
        return True

    def hold(self, device: str | None, name: str | None, *, by_device: bool) -> None:
        """Hold a request back. Very many are replaced by one for everything, or one for each device if `by_device`."""
        self.held[(device, name)] = None
        if len(self.held) > _MAX_HELD:
            scopes: list[Property] = [(each if by_device else None, None) for each, _ in self.held]
            self.held = dict.fromkeys(scopes)

    def next(self) -> Property:
        """Remove and return the oldest request held back. One for everything removes all others, too."""
        device, name = next(iter(self.held))
        if device is None:
            self.held.clear()
        else:
            del self.held[(device, name)]
        return device, name
