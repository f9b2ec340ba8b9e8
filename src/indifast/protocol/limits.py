"""The bounds on everything that can grow. Every one is a keyword; zero or less is never "unlimited" by accident."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes unless said otherwise."""

    attribute: int = 64 * KIB
    """One attribute value, as it stands in the input; also one comment, CDATA section, instruction or declaration."""
    element: int = 16 * MIB
    """One element without its BLOB content."""
    blob: int = GIB
    """One BLOB, decoded."""
    depth: int = 8
    """Levels of nested elements."""
    members: int = 100_000
    """Members of one vector."""
    junk: int = MIB
    """A run of bytes between elements is reported each time it has grown by so many."""
    queue: int = 128 * MIB
    """BLOB bytes that wait for one peer before the oldest unstarted BLOB is dropped."""
    stream: int = 5 * MIB
    """Bytes that wait for one peer before streamed BLOBs are replaced by newer ones; 0: never."""
    small_queue: int = 16 * MIB
    """Bytes of messages without BLOBs that wait for one peer before it is disconnected."""
    partial_memory: float = 0.25
    """Share of the machine's memory that all unfinished elements of a server may take together."""
    stall: float = 60.0
    """Seconds without progress after which an unfinished element goes, with its connection."""
    connections: int | None = 5
    """Clients at a time; None: any number."""

    def tokenizer(self) -> dict[str, int]:
        """The keywords for `Tokenizer`."""
        return {
            "attribute": self.attribute,
            "element": self.element,
            "blob": self.blob,
            "depth": self.depth,
            "members": self.members,
            "junk": self.junk,
        }


TYPE_CHECKING = False  # as in `typing`, which is not to be imported before the server listens
if TYPE_CHECKING:
    from typing import TypedDict

    class LimitOptions(TypedDict, total=False):
        """The fields of `Limits` as keywords of a server; it has one of its own for `connections`."""

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
    """The keywords for a `Tokenizer` that reads a message of `size` bytes again which was accepted, or is our own."""
    size = max(size, 1)
    return {"attribute": size, "element": size, "blob": size, "depth": size, "members": size}
