"""The client's current connection, through which everything is sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from indifast._parser import Element
from indifast.client.connection import Connection
from indifast.client.lifecycle import Lifecycle
from indifast.client.trace import Trace
from indifast.protocol.message import RAW, Routable, Wire


class Link:
    """Sends messages while there is a connection, and counts those that are not sent."""

    def __init__(self, lifecycle: Lifecycle, counts: Counter[str], trace: Trace) -> None:
        self.connection: Connection | None = None
        self.connected = False
        """True from when the server accepts the connection until it is closed and the devices are gone."""
        self.failure = ""
        """Why there is no connection: how the last attempt or connection ended. Empty before the first has."""
        self.last_traffic = time.monotonic()
        """When something was last sent or received."""
        self.unanswered_since: float | None = None
        """When the first message was sent since the server was last heard; None if none was sent since."""
        self.on_question: Callable[[], None] | None = None
        """Called when `unanswered_since` is set to a time."""
        self._lifecycle = lifecycle
        self._counts = counts
        self._trace = trace
        lifecycle.on_stop.append(self.wake)

    @property
    def can_send(self) -> bool:
        """Whether the client is connected and not stopping."""
        return self.connected and not self._lifecycle.stopping

    def wake(self) -> None:
        """Let the receiving task check again what there is to do."""
        if self.connection is not None:
            self.connection.wake()

    def reset(self) -> None:
        """Reset the times, as a new connection begins."""
        self.unanswered_since = None
        self.last_traffic = time.monotonic()

    heard = reset
    """Note that something was received from the server."""

    def unread(self, device: str, name: str) -> list[Element]:
        """Return the messages about a property that were received but not yet handled."""
        return [] if self.connection is None else self.connection.unread(device, name)

    def send_now(self, message: Routable) -> None:
        """Queue a message, or drop it if the client is not connected or is stopping."""
        connection = self.connection
        if connection is None or not self.can_send:
            self._counts["not_sent"] += 1
            return
        connection.send(message)
        self._counts["sent"] += 1
        self.last_traffic = time.monotonic()
        if self.unanswered_since is None and message.tag != "enableBLOB":
            self.unanswered_since = self.last_traffic
            if self.on_question is not None:
                self.on_question()
        if self._trace.on and isinstance(message, Wire):  # the other kind is not sent while the trace is on
            self._trace.sent(message)

    @property
    def unsent(self) -> int:
        """Bytes that were queued but have not reached the server's machine yet, as far as is known."""
        connection = self.connection
        return 0 if connection is None else connection.stream.unsent

    @property
    def raw(self) -> bool:
        """Whether BLOBs are sent as raw bytes. Not while traffic is logged: the log shows what is written."""
        return self.connection is not None and self.connection.queue.form == RAW and not self._trace.on

    async def transmit(self, message: Routable) -> None:
        """Queue a message, and wait while the server is far behind in reading."""
        self.send_now(message)
        if self.connection is not None:
            await self.connection.room()

    def reply(self, message: Wire) -> None:
        """Queue an answer to the server, or drop it if the queue is full.

        If a server kept asking but read nothing, answers would pile up without limit.
        """
        connection = self.connection
        if connection is None or connection.queue.full:
            self._counts["not_sent"] += 1
        else:
            connection.send(message)
