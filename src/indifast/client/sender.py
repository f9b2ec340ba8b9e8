"""All that vectors know of the client around them."""

from __future__ import annotations

from typing import Any, Protocol

from indifast.protocol.message import Wire


class Expected:
    """An answer that a vector owes: due at some time, in the seconds of `time.monotonic()`, until it is over."""

    __slots__ = ("due", "over", "vector")

    def __init__(self, vector: Any, due: float) -> None:
        self.vector = vector
        self.due = due
        self.over = False


class Sender(Protocol):
    """Sends what vectors have to say, to the server and to the program."""

    @property
    def can_send(self) -> bool:
        """There is a server, and the client goes on."""

    async def transmit(self, message: Wire) -> None:
        """Queue a message for the server, and wait while it is far behind."""

    def expect(self, vector: Any) -> Expected:
        """A command is sent to a vector, which should answer in time. The vector says when that is over."""

    async def emit(self, event: Any) -> None:
        """Hand an event of the program's own to `rxevent`, whose exceptions are the caller's."""
