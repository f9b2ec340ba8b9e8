"""Ports through which vectors and devices reach their driver."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from indifast.handover import Home
    from indifast.protocol.message import Routable
    from indifast.routing.link import Link


class Port(Protocol):
    """Port for the event loop's thread: sends messages, and runs coroutines with the driver."""

    @property
    def home(self) -> Home:
        """Where the driver runs."""
        ...

    def send(self, message: Routable) -> None:
        """Send one message. It is dropped and counted if the driver does not run or has been stopped."""
        ...

    async def transmit(self, message: Routable) -> None:
        """Send one message, and wait while the peer is far behind."""
        ...

    def filtered(self) -> bool:
        """Return whether messages go through a `send` that the program has put in the place of the driver's."""
        ...

    def sending_link(self) -> Link | None:
        """Return the link; None, and counted as in `send`, if there is none to send on."""
        ...

    def count(self, what: str) -> None:
        """Increment a counter of the driver's `stats`."""
        ...

    def add(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine with the driver: now, or from its start. `what` names it in messages."""
        ...


class ThreadPort(Protocol):
    """Port for updates from other threads, which may use `run`, `call`, `wait_for`, `wanted` and `count`."""

    @property
    def run(self) -> object | None:
        """Identity of the current run, a new object for each; None while the driver does not run."""
        ...

    def call(self, callback: Callable[[], None]) -> bool:
        """Have the event loop call `callback`. Return False if the loop no longer runs."""
        ...

    def wait_for(self, sending: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have the event loop await a coroutine, wait for its end, and raise any error that it raises.

        Returns:
            False if the run ends first.

        Raises:
            RuntimeError: This is the thread of the event loop.
        """
        ...

    def wanted(self, device: str, name: str) -> bool:
        """Return whether a client wants the content of a BLOB property, as far as a thread can tell."""
        ...

    def count(self, what: str) -> None:
        """Increment a counter of the driver's `stats`."""
        ...

    def start(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        """Run a coroutine now. `what` names it in messages."""
        ...

    def user_fault(self, error: Exception, what: str, devicename: str | None) -> None:
        """Handle an exception in user code. See `UserFaults.report`."""
        ...


class VectorPort(Port, ThreadPort, Protocol):
    """Both ports in one, for the vectors of a driver."""
