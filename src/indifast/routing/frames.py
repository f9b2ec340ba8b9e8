"""Frames: queued messages that need bookkeeping, because they have BLOB content or may be given up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from sys import intern
from typing import Protocol, TypeAlias

from indifast.protocol.message import ATTACHED, INLINE, Buffer, Form, Routable, Wire
from indifast.routing.packed import Packed

Property: TypeAlias = tuple[str | None, str | None]
"""Device and name."""

Order: TypeAlias = "OrderedDict[Frame, None]"
"""Frames, oldest first."""


class Books(Protocol):
    """A collection of waiting frames."""

    def remove(self, frame: Frame, /) -> None:
        """Remove a frame that no longer waits."""
        ...


class Frame:
    """One message on its way through one queue; also the slot that it leaves when it is given up.

    Collections of waiting frames note on the frame itself where it is in them, so that they need not search for it.
    """

    __slots__ = (
        "age", "alike", "asked", "begun", "epoch", "form", "message", "offered", "order", "replaceable",
        "replaced_older", "size", "started",
    )  # fmt: skip

    # Set by the queue:
    order: Order  # what contains it until it is started: the frames that may be given up, or those that may not
    # Set by `Replaceable.add`:
    age: int  # higher for younger frames
    alike: Order  # the frames of its property with content for the same members
    epoch: int  # the epoch of its property when it arrived

    def __init__(self, message: Routable, form: Form, begun: Callable[[], None] | None = None) -> None:
        self.message: Routable | None = message
        self.form = form  # fixed here: the peer may agree on another form while the message waits, or is written
        self.size = message.size  # fixed here: the size of the message is an estimate until it is encoded
        self.begun = begun
        self.asked = False  # its form is being made
        self.offered = False  # `take` returned it, and `sent` has not yet said how much of it was written
        self.started = False
        self.replaced_older = False  # an older frame was given up for it
        self.replaceable: Books | None = None  # the frames of its property, which include it

    def fill(self, message: Routable, begun: Callable[[], None] | None) -> None:
        """Replace the message in this slot with another one."""
        self.message, self.size, self.begun, self.asked = message, message.size, begun, False

    def let_go(self) -> None:
        """Forget the message, as all of its pieces were taken over: each is freed once all receivers have it.

        A message with descriptors stays, because they are closed with it, and so does a note, which has to be told that
        it was written.
        """
        if self.form != ATTACHED and self.message is not None and self.message.blob:
            self.message = None

    def empty(self) -> None:
        """Give the message up. Its slot stays."""
        self.message = self.begun = None
        self.size = 0

    def growing(self) -> bool:
        """Return whether there are more pieces to come. Call `parts` first, as the encoder works in the meantime."""
        return self.form == INLINE and self.message is not None and self.message.growing

    def parts(self) -> Sequence[Buffer] | None:
        """Return the pieces to write; none if the message was given up."""
        return () if self.message is None else self.message.parts(self.form)

    def packed(self, method: str) -> Packed | None:
        """Return the content of a frame whose raw form is ready as it is compressed; None if it never is."""
        pack = getattr(self.message, "packed", None)  # only the messages of `transport` can be compressed
        found: Packed | None = None if pack is None else pack(method)
        return found

    def fds(self) -> Sequence[int]:
        """Return the descriptors that go with the first byte."""
        return () if self.message is None or self.form != ATTACHED else self.message.fds()


def compact(message: Routable) -> Routable:
    """Return a message without content as bytes, for a long wait: a parsed element takes five times as much memory."""
    if isinstance(message, Wire):
        return message
    parts = message.parts(INLINE)
    if parts is None:
        return message
    data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
    device, name = message.device, message.name
    return Wire(message.tag, device and intern(device), name and intern(name), data)
