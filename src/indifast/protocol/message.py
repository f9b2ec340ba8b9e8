"""What travels through the router: any object with the face of `Routable`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from indifast._parser import Element, Member

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
        """The message as a parsed element. For those who read what its BLOBs carry there is `opened`."""
        ...


class Carrier(Routable, Protocol):
    """A message with content that is not in its element, but beside it: in files, or in buffers."""

    def opened(self) -> Element | Opened:
        """See the function `opened`."""
        ...


class Opened:
    """A received message with all of its content in memory: read as an element is whose content came inline."""

    __slots__ = ("_contents", "_element")

    def __init__(self, element: Element, contents: Sequence[bytes]) -> None:
        """`contents`: one for each BLOB of the element that is announced as attached."""
        self._element = element
        self._contents = contents

    def __repr__(self) -> str:
        return f"<Opened {self._element!r}>"

    @property
    def tag(self) -> str:
        return self._element.tag

    @property
    def device(self) -> str | None:
        return self._element.device

    @property
    def name(self) -> str | None:
        return self._element.name

    @property
    def attrs(self) -> dict[str, str]:
        return self._element.attrs

    @property
    def text(self) -> str:
        return self._element.text

    @property
    def members(self) -> list[Member | OpenedMember]:
        """The members; those that were attached are as if they had not been."""
        contents = iter(self._contents)
        members: list[Member | OpenedMember] = []
        for member in self._element.members:
            if member.attached:
                attrs = {key: value for key, value in member.attrs.items() if key not in _BESIDE}
                members.append(OpenedMember(member.tag, member.name, attrs, "", next(contents)))
            else:
                members.append(member)
        return members

    def values(self) -> dict[str, str]:
        """Member name to stripped text, of the members that have a name."""
        return self._element.values()


class OpenedMember(NamedTuple):
    """A BLOB that came beside its message."""

    tag: str
    name: str
    attrs: dict[str, str]
    text: str
    data: bytes


_BESIDE = frozenset({"attached", "enclen"})  # attributes about how content comes


def opened(message: Routable) -> Element | Opened:
    """A message to be read, with the content of its BLOBs: what is in files is read into memory now.

    That takes its time for large ones, and an OSError or ValueError says that a file is not what it was any more; or
    there is no memory.
    """
    element = message.element()
    return cast(Carrier, message).opened() if element.attached and message is not element else element


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
