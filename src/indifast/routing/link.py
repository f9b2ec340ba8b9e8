"""The link between a driver and its peer, whatever carries the messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from indifast.protocol.message import opened

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Opened, Routable


FRAME_PAUSE = 0.1
"""Maximum seconds for which a producer waits per frame, while none of its readers has begun to take the frame."""

PATIENT_RATE = 100_000_000
"""Bytes per second, as on Gigabit Ethernet: a producer waits longer than `FRAME_PAUSE` if its frame takes longer so."""

LEAD = 1 / 16
"""The part of a large frame that may be in memory beyond the one that its readers are taking."""

COURTESY = 1 / 16
"""The share of time for which the fastest readers of large frames may wait for slower ones, at most."""


def frame_pause(nbytes: int) -> float:
    """Return the seconds that the producer of a frame waits at most. `nbytes` is the size of the frame on the wire."""
    return max(FRAME_PAUSE, nbytes / PATIENT_RATE)


class Demand(NamedTuple):
    """Which forms of a BLOB are wanted at the moment, by `Form`."""

    inline: bool
    attached: bool
    raw: bool = False


class Link(Protocol):
    """Both directions between a driver and its peer: stdin/stdout, a TCP client, or a server in this process."""

    closed: bool

    def demand(self, device: str, name: str) -> Demand:
        """Return which forms of this BLOB property are wanted now. If neither is, nothing need be encoded."""
        ...

    def send(self, message: Routable) -> None:
        """Queue a message after those already sent, without blocking. A closed link drops it silently."""
        ...

    async def paced(self, device: str, name: str) -> None:
        """Wait until the fastest interested reader has taken this BLOB, but no longer than `frame_pause` says."""
        ...

    async def not_full(self) -> None:
        """Wait while the readers are very far behind, and let other coroutines run now and then."""
        ...

    def take(self) -> Routable | None:
        """Return the next message for the driver, or None. Its BLOBs may be in files: see `opened`."""
        ...

    def receive(self) -> Element | Opened | None:
        """Return the next message for the driver with all of its content in memory, or None.

        BLOBs in files are read at once, even large ones, while the event loop waits.

        Raises:
            OSError: Such a file can no longer be read, and the message is lost.
            ValueError: Such a file is no longer what it was, and the message is lost.
        """
        message = self.take()
        return None if message is None else opened(message)

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called whenever `take` may have something after it had nothing, and when the link closes."""
        ...

    def close(self) -> None:
        """Stop sending and receiving."""
        ...
