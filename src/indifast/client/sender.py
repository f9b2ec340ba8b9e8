"""Interface through which vectors use their client."""

from __future__ import annotations

from typing import Any, Protocol

from indifast.handover import Home
from indifast.protocol.message import Routable


class Expected:
    """An answer that a vector owes.

    Attributes:
        vector: The vector.
        due: When the answer is due, in seconds of `time.monotonic()`.
        over: Whether the answer is no longer expected.
    """

    __slots__ = ("due", "over", "vector")

    def __init__(self, vector: Any, due: float) -> None:
        self.vector = vector
        self.due = due
        self.over = False


class Sender(Protocol):
    """Sends the messages of vectors to the server, and their events to the program."""

    home: Home
    """Where the client runs."""

    @property
    def can_send(self) -> bool:
        """Whether the client is connected and not stopping."""

    @property
    def raw(self) -> bool:
        """Whether BLOBs are sent as raw bytes."""

    async def transmit(self, message: Routable) -> None:
        """Queue a message for the server, and wait while the server is far behind."""

    def expect(self, vector: Any) -> Expected:
        """Start the timeout of a command to a vector. The vector marks the result as over once it has answered."""

    async def emit(self, event: Any) -> None:
        """Pass an event that the program created to `rxevent`; exceptions are left to the caller."""
