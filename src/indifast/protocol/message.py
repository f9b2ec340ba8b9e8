"""Messages that travel through the router: the protocol `Routable`, and our own messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from indifast._parser import Element, Member

Buffer: TypeAlias = bytes | bytearray | memoryview
"""A piece of an outgoing message. It never changes once it has been handed on."""


Form: TypeAlias = int
"""How the content of BLOBs travels: one of the following. Messages without content are the same in all forms."""

INLINE: Form = 0
"""As base64 within the XML."""

ATTACHED: Form = 1
"""As file descriptors beside the XML, on a Unix socket."""

RAW: Form = 2
"""As raw bytes after the XML, between two indifast programs that have agreed on it."""

FORMS = (INLINE, ATTACHED, RAW)


class Routable(Protocol):
    """A complete message with its envelope and up to three wire forms. See `Form`.

    A form may have to be made first: see `when_ready`.
    """

    @property
    def tag(self) -> str: ...

    @property
    def device(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...

    @property
    def blob(self) -> bool:
        """Whether the message carries content of at least one BLOB member."""
        ...

    @property
    def formats(self) -> tuple[str, ...]:
        """The `format` of each member with content."""
        ...

    @property
    def carried(self) -> frozenset[str]:
        """Names of the members with content."""
        ...

    @property
    def size(self) -> int:
        """Bytes on the wire in the inline form; an estimate until that form exists."""
        ...

    @property
    def growing(self) -> bool:
        """Whether the list that `parts(INLINE)` returned is only the beginning so far.

        Check this after calling `parts`, before iterating over its list: if this is False, the list is complete.
        """
        ...

    def parts(self, form: Form) -> Sequence[Buffer] | None:
        """Return the pieces of one form.

        Args:
            form: The form.

        Returns:
            The pieces, or None if the form is not ready. While the message is `growing`, later calls return more.
        """
        ...

    def fds(self) -> Sequence[int]:
        """Return the descriptors of the attached form, in document order. They belong to the message."""
        ...

    def when_ready(self, form: Form, callback: Callable[[], None]) -> None:
        """Ask for a form, or for more of it, and have `callback` called once when it is there.

        The callback runs later, on the event loop's thread. Call this only after `parts(form)` returned None or
        while the message is `growing`, in the same turn of the loop: a thread may have made the form in the meantime,
        but can't have said so yet.
        """
        ...

    def element(self) -> Element:
        """Return the message as a parsed element. To read what its BLOBs carry, use `opened`."""
        ...


class Carrier(Routable, Protocol):
    """A message whose content is not in its element but beside it, in files or buffers."""

    def opened(self) -> Element | Opened:
        """Return the message with all of its content in memory. See the function `opened`."""
        ...


class Opened:
    """A received message with all of its content in memory. It reads like an element whose content came inline."""

    __slots__ = ("_contents", "_element")

    def __init__(self, element: Element, contents: Sequence[bytes]) -> None:
        """Join an element and the content that came beside it.

        Args:
            element: The received element.
            contents: The content of each BLOB that the element announces as attached, in document order.
        """
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
        """The members. Attached BLOBs look as if they had come inline."""
        contents = iter(self._contents)
        members: list[Member | OpenedMember] = []
        for member in self._element.members:
            if member.attached:
                attrs = {key: value for key, value in member.attrs.items() if key not in _TRANSFER_ATTRIBUTES}
                members.append(OpenedMember(member.tag, member.name, attrs, "", next(contents)))
            else:
                members.append(member)
        return members

    def values(self) -> dict[str, str]:
        """Return the stripped text of each member that has a name, by name."""
        return self._element.values()


class OpenedMember(NamedTuple):
    """A BLOB whose content came beside the message."""

    tag: str
    name: str
    attrs: dict[str, str]
    text: str
    data: bytes


_TRANSFER_ATTRIBUTES = frozenset({"attached", "enclen"})  # they say how content is transferred


def opened(message: Routable) -> Element | Opened:
    """Return a message with the content of its BLOBs in memory.

    Content in files is read now, which takes a while if there is much of it.

    Raises:
        OSError: A file can no longer be read.
        ValueError: A file has changed and can no longer be used.
        MemoryError: There is not enough memory.
    """
    element = message.element()
    return cast(Carrier, message).opened() if element.attached and message is not element else element


_NONE_CARRIED: frozenset[str] = frozenset()


class Wire:
    """A message of our own without BLOB content, already serialized."""

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

    def parts(self, form: Form) -> Sequence[Buffer]:
        """Return the message in one piece, which is the same in all forms."""
        return (self.data,)

    def fds(self) -> Sequence[int]:
        """Return no descriptors."""
        return ()

    def when_ready(self, form: Form, callback: Callable[[], None]) -> None:
        """Raise RuntimeError: all forms exist from the start."""
        raise RuntimeError("this message is always ready")

    def element(self) -> Element:
        """Return the message as an element, parsed once. The limits on what peers send don't apply to it."""
        if self._element is None:
            from indifast._parser import Tokenizer
            from indifast.protocol.limits import unbounded

            (self._element,) = Tokenizer(relay=True, on_skip=None, **unbounded(self.size)).feed(self.data)
        return self._element


class Instruction(Wire):
    """Something for the program that reads at the other end. It is no message, and queues do not count it as one."""

    __slots__ = ()

    def __init__(self, data: bytes) -> None:
        super().__init__("", None, None, data)
