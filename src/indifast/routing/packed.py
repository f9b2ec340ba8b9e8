"""What a queue knows of the content of a frame that is compressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from indifast.protocol.message import Buffer


class Block(NamedTuple):
    """A part of the content of a frame, as it is sent. None is empty."""

    data: Buffer
    method: str = ""
    """How it is compressed; empty if it is not."""
    width: int = 1
    """The width with which it was shuffled."""
    size: int = 0
    """Bytes that it inflates to."""


class Packed(Protocol):
    """The content of a frame, which a thread compresses block by block. See `indifast.transport.packing`."""

    @property
    def worth(self) -> bool | None:
        """Whether the content becomes so much smaller that it is sent like this; None as long as nobody knows."""
        ...

    @property
    def count(self) -> int:
        """How many blocks there will be, at least one."""
        ...

    def block(self, at: int, /) -> Block | None:
        """Return the block at this index, below `count`; None if it is not ready."""
        ...

    def when_more(self, callback: Callable[[], None], /) -> None:
        """Have `callback` called once, on the event loop's thread, when more is known or another block is ready.

        Call this only in the same turn of the loop in which something was missing.
        """
        ...
