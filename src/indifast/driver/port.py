"""What vectors and devices know of the driver that they are part of: a port through which messages leave."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from indifast.protocol.message import Routable
    from indifast.routing.link import Link


class Port(Protocol):
    """Where messages leave, and what runs with the driver. For the thread of the event loop."""

    def send(self, message: Routable) -> None:
        """Send one message; dropped and counted when the driver does not run or has been stopped."""
        ...

    async def transmit(self, message: Routable) -> None:
        """`send`, and wait while the peer is far behind."""
        ...

    def sending_link(self) -> Link | None:
        """The link; None, and counted, when what is sent now would go nowhere."""
        ...

    def count(self, what: str) -> None:
        """Count something that the driver's `stats` shows."""
        ...

    def add(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine with the driver: now, or from its start on. `what` names it in messages."""
        ...


class ThreadPort(Protocol):
    """What the updates of other threads need. `run`, `call`, `wait_for`, `wanted` and `count` are for any thread."""

    @property
    def run(self) -> object | None:
        """A new object for each run; None while the driver does not run."""
        ...

    def call(self, callback: Callable[[], None]) -> bool:
        """Have the event loop call this; False if it no longer runs."""
        ...

    def wait_for(self, sending: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have the event loop await this, and wait for its end; False if it ends before. Raises what it raises.

        Raises:
            RuntimeError: this is the thread of the event loop.
        """
        ...

    def wanted(self, device: str, name: str) -> bool:
        """Whether a client wants the content of a BLOB property, as far as a thread can tell."""
        ...

    def count(self, what: str) -> None:
        """Count something that the driver's `stats` shows."""
        ...

    def start(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine now. `what` names it in messages."""
        ...

    def user_fault(self, error: Exception, what: str, devicename: str | None) -> None:
        """User code has raised an exception."""
        ...


class VectorPort(Port, ThreadPort, Protocol):
    """Both: what a vector is given when it becomes part of a driver."""
