"""What travels through the router: any object with the face of `Routable`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from indifast._parser import Element

Buffer: TypeAlias = bytes | bytearray | memoryview
"""A piece of an outgoing message. It is never changed once it is handed on."""


class Routable(Protocol):
    """One complete message with its envelope and one or two wire forms.

    The inline form is XML with base64 inside; the attached form replaces the base64 by file descriptors that travel
    beside the XML on a Unix socket. A form may have to be made first: see `when_ready`.
    """

    tag: str
    device: str | None
    name: str | None
    blob: bool
    """Carries content of at least one BLOB member."""
    formats: tuple[str, ...]
    """`format` of each member with content."""
    carried: frozenset[str]
    """Names of the members with content."""
    size: int
    """Bytes on the wire in the inline form; an estimate while that form does not exist."""

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """The pieces of the form that is asked for, or None when it is not ready."""
        ...

    def fds(self) -> Sequence[int]:
        """Descriptors of the attached form, in document order; they belong to the message."""
        ...

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """Ask for a form; `callback` is called once, later, on the event loop's thread, when `parts` gives it.

        Must only be called after `parts(attached)` gave None.
        """
        ...

    def element(self) -> Element:
        """The message as a parsed element, for those who read its members."""
        ...
