"""Limits on everything that can grow. Each is a keyword; zero or less never means "unlimited" by accident."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

MOST_VIEWERS = 1_000_000
"""Viewers of the page in the browser, and connections to it, that may be asked for."""

MOST_SENDERS = 64
"""Threads for sending that a server may be asked to have."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server, driver or client, in bytes unless stated otherwise."""

    attribute: int = 64 * KIB
    """One attribute value as written in the input; also one comment, CDATA section, instruction or declaration."""
    element: int = 16 * MIB
    """One element without its BLOB content."""
    blob: int = GIB
    """One BLOB, decoded."""
    depth: int = 8
    """Levels of nested elements."""
    members: int = 100_000
    """Members of one vector."""
    junk: int = MIB
    """A run of bytes between elements is reported each time it has grown by this many."""
    queue: int = 128 * MIB
    """BLOB bytes that may wait for one peer before the oldest unstarted BLOB is dropped."""
    stream: int = 5 * MIB
    """BLOB bytes that may wait for one peer before newer BLOBs replace streamed ones; with 0 they never do."""
    small_queue: int = 16 * MIB
    """Bytes of messages without BLOBs that may wait for one peer before it is disconnected."""
    partial_memory: float = 0.25
    """Fraction of the machine's memory that all unfinished elements of a server may take together."""
    stall: float = 60.0
    """Seconds without progress after which an unfinished element is given up and its connection closed."""
    connections: int | None = 5
    """Clients connected at the same time; None for any number."""

    def tokenizer(self) -> dict[str, int]:
        """Return the keyword arguments for `Tokenizer`."""
        return {
            "attribute": self.attribute,
            "element": self.element,
            "blob": self.blob,
            "depth": self.depth,
            "members": self.members,
            "junk": self.junk,
        }


TYPE_CHECKING = False  # as in `typing`, which must not be imported before the server listens
if TYPE_CHECKING:
    from typing import TypedDict

    class LimitOptions(TypedDict, total=False):
        """The fields of `Limits` as keywords of a server, which has another keyword for `connections`."""

        attribute: int
        element: int
        blob: int
        depth: int
        members: int
        junk: int
        queue: int
        stream: int
        small_queue: int
        partial_memory: float
        stall: float


DEFAULT_LIMITS = Limits()


def unbounded(size: int) -> dict[str, int]:
    """Return keyword arguments for a `Tokenizer` that reads one message of `size` bytes.

    Use them only for messages of our own, or to read again what was accepted before.
    """
    size = max(size, 1)
    return {"attribute": size, "element": size, "blob": size, "depth": size, "members": size}
