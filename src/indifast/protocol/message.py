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

    @property
    def tag(self) -> str: ...

    @property
    def device(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...

    @property
    def blob(self) -> bool:
        """Carries content of at least one BLOB member."""
        ...

    @property
    def formats(self) -> tuple[str, ...]:
        """`format` of each member with content."""
        ...

    @property
    def carried(self) -> frozenset[str]:
        """Names of the members with content."""
        ...

    @property
    def size(self) -> int:
        """Bytes on the wire in the inline form; an estimate while that form does not exist."""
        ...

    @property
    def growing(self) -> bool:
        """What `parts(False)` gave is only the beginning so far.

        To be looked at behind `parts`, and before the walk over its list: when this is False, the list is complete.
        """
        ...

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """The pieces of the form that is asked for, or None when it is not ready. A longer list later if `growing`."""
        ...

    def fds(self) -> Sequence[int]:
        """Descriptors of the attached form, in document order; they belong to the message."""
        ...

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """Ask for a form; `callback` is called once, later, on the event loop's thread, when there is (more of) it.

        Must only be called after `parts(attached)` gave None, or the message was `growing`, in the same turn of the
        loop: a thread may have made it meanwhile, but can't have told so.
        """
        ...

    def element(self) -> Element:
        """The message as a parsed element, for those who read its members."""
        ...


_NONE_CARRIED: frozenset[str] = frozenset()


class Wire:
    """A message of our own without BLOB content, already serialised."""

    __slots__ = ("_element", "data", "device", "name", "size", "tag")

    blob = False
    growing = False
    formats: tuple[str, ...] = ()
    carried = _NONE_CARRIED

    def __init__(self, tag: str, device: str | None, name: str | None, data: bytes) -> None:
        self.tag = tag
        self.device = device
        self.name = name
        self.data = data
        self.size = len(data)
        self._element: Element | None = None

    def __repr__(self) -> str:
        return f"<Wire {self.data[:80]!r}>"

    def parts(self, attached: bool) -> Sequence[Buffer]:
        """The one piece that there is, whatever the form."""
        return (self.data,)

    def fds(self) -> Sequence[int]:
        """No descriptors."""
        return ()

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """Never needed: both forms are there from the start."""
        raise RuntimeError("this message is ready")

    def element(self) -> Element:
        """The message as a parsed element, parsed once. The bounds for what others send are not for our own."""
        if self._element is None:
            from indifast._parser import Tokenizer
            from indifast.protocol.limits import unbounded

            (self._element,) = Tokenizer(relay=True, on_skip=None, **unbounded(self.size)).feed(self.data)
        return self._element
