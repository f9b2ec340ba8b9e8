"""What is known of one driver or link as somebody who is asked for definitions."""

from __future__ import annotations

import math

from indifast.routing.frames import Property

ASK_BURST = 10
"""Requests for definitions that are passed on to a driver or link at once, however many clients there are."""

_MAX_HELD = 100  # requests held back for one driver or link before one for everything, or its device, stands for them
_FORGETTING = 0.9  # of how long an answer was, with each later one that is shorter


class Requests:
    """What is known of one driver or link as somebody who is asked for definitions."""

    __slots__ = ("answer", "defined", "held", "reckoned", "room")

    def __init__(self) -> None:
        self.room = math.inf
        """Requests that it may be sent at once."""
        self.reckoned = 0.0
        """When that was reckoned last."""
        self.defined = 0
        """Definitions that came since it was last sent a request."""
        self.answer = 1.0
        """Definitions that it answers a request with, as far as is known."""
        self.held: dict[Property, None] = {}
        """Requests (device, name) that wait until it may be sent more of them."""

    def begin(self) -> None:
        """One is sent: what is defined from now on is the answer."""
        self.answer = max(float(self.defined), self.answer * _FORGETTING, 1.0)
        self.defined = 0

    def may_ask(self, now: float, interval: float) -> bool:
        """Take one of those that it may be sent now, if there is one."""
        self.room = min(float(ASK_BURST), self.room + max(now - self.reckoned, 0.0) / interval)
        self.reckoned = now
        if self.room < 1:
            return False
        self.room -= 1
        return True

    def hold(self, device: str | None, name: str | None, *, by_device: bool) -> None:
        """Keep a request back. Of very many, one for everything stands for all, or one for each device of a link."""
        self.held[(device, name)] = None
        if len(self.held) > _MAX_HELD:
            scopes = {(each if by_device else None, None) for each, _ in self.held}
            self.held.clear()
            self.held.update(dict.fromkeys(scopes))

    def next(self) -> Property:
        """The oldest that is held back. One for everything answers them all."""
        device, name = next(iter(self.held))
        if device is None:
            self.held.clear()
        else:
            del self.held[(device, name)]
        return device, name
