"""Messages with books of their own on their way through one queue: those with BLOB content, and what may give way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from sys import intern
from typing import Protocol, TypeAlias

from indifast.protocol.message import Buffer, Routable, Wire

Property: TypeAlias = tuple[str | None, str | None]
"""Device and name."""

Order: TypeAlias = "OrderedDict[Frame, None]"
"""Frames, oldest first."""


class Books(Protocol):
    """Those among which a frame waits."""

    def remove(self, frame: Frame, /) -> None:
        """It waits no more."""
        ...


class Frame:
    """One message on its way through one queue; also the slot that it leaves when it is given up.

    Books about waiting frames note on the frame itself where it stands in them, so that nobody has to search for it.
    """

    __slots__ = (
        "age", "alike", "asked", "begun", "epoch", "message", "offered", "order", "replaceable", "replaced_older",
        "size", "started",
    )  # fmt: skip

    # Set by the queue:
    order: Order  # those that may be given up, or those that may not: it is among them until it is begun
    # Set by `Replaceable.add`:
    age: int  # the younger, the higher
    alike: Order  # those of its property with content for the same members
    epoch: int  # that of its property in which it came

    def __init__(self, message: Routable, begun: Callable[[], None] | None = None) -> None:
        self.message: Routable | None = message
        self.size = message.size  # fixed here: that of the message is an estimate until it is encoded
        self.begun = begun
        self.asked = False  # its form is being made
        self.offered = False  # `take` gave it out, `sent` has not yet told what became of it
        self.started = False
        self.replaced_older = False  # an older one was given up for it
        self.replaceable: Books | None = None  # those of its property, of which it is one

    def fill(self, message: Routable, begun: Callable[[], None] | None) -> None:
        """Another message takes the place of the one that was here."""
        self.message, self.size, self.begun, self.asked = message, message.size, begun, False

    def empty(self) -> None:
        """Nothing of it is to be written: its slot stays."""
        self.message = self.begun = None
        self.size = 0

    def growing(self, attached: bool) -> bool:
        """There are more pieces to come. To be looked at behind `parts`, as the encoder works meanwhile."""
        return not attached and self.message is not None and self.message.growing

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """The pieces to write; nothing once it was given up."""
        return () if self.message is None else self.message.parts(attached)

    def fds(self) -> Sequence[int]:
        """The descriptors that go with the first byte."""
        return () if self.message is None else self.message.fds()


def compact(message: Routable) -> Routable:
    """A message without content in the form in which it waits for long: a parsed element takes five times its bytes."""
    if isinstance(message, Wire):
        return message
    parts = message.parts(False)
    if parts is None:
        return message
    data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
    device, name = message.device, message.name
    return Wire(message.tag, device and intern(device), name and intern(name), data)
