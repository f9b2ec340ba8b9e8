"""What comes in by a stream, as messages: the one way from bytes and descriptors to what is routed or handled.

A `MessageReader` is used like a parser without I/O: each `read` takes what the stream has brought and gives the
messages that are complete now, in order. It never raises for what a peer says: what is damaged, too large or without
its content costs that one message, and is told to the reader's owner, a `Listener`, as data; what is to follow is the
owner's to decide (to count, to log, to tell people, to end the connection).

Small messages are the elements of the tokenizer themselves. What has brought descriptors is a `BlobMessage`, whose
content is still in the files, see `indifast.protocol.message.opened`; in a reader for those who hand on (`relay`),
everything with the content of BLOBs is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from indifast._parser import Tokenizer
from indifast.transport.blobs import routable
from indifast.transport.shm import DescriptorError, DescriptorQueue, close_all

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.limits import Limits
    from indifast.protocol.message import Buffer, Routable


class Listener(Protocol):
    """The owner of a `MessageReader`: told what it does not hand out. Each call costs the peer that one message.

    What is called within `read` may abort the stream, but not read or close.
    """

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        """The tokenizer has left out what is no message, see `Tokenizer`."""
        ...

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        """A message is left out for its content: its descriptors are missing or not what it says, BlobTooLarge if there
        is too much in them; or there is no memory to take it.
        """
        ...

    def flooded(self, error: DescriptorError, /) -> None:
        """More descriptors than are kept have come without the messages that they belong to: all are closed."""
        ...

    def outgrown(self, held: int, most: int, /) -> None:
        """An unfinished message of so many bytes is given up: that is more than one may take."""
        ...

    def stalled(self, held: int, /) -> None:
        """Nothing more came of an unfinished message for too long. It is the owner's to `abandon` it, or the stream."""
        ...

    def missing(self, what: str, /) -> None:
        """The file behind a message that was handed out turned out to be shorter: what was done, see `BlobMessage`."""
        ...


class Timer(Protocol):
    """What `call_later` of an event loop gives."""

    def cancel(self) -> None: ...


CallLater: TypeAlias = Callable[[float, Callable[[], None]], Timer]


class MessageReader:
    """Bytes and descriptors in, messages out: see the module."""

    def __init__(self, listener: Listener, limits: Limits, call_later: CallLater, *, relay: bool) -> None:
        """`call_later` is that of the event loop, for the watch over what is unfinished.

        `relay`: keep the base64 of BLOBs as it came, for those who hand on; otherwise it is decoded as it comes.
        """
        self.tokenizer = Tokenizer(relay=relay, on_skip=listener.skipped, **limits.tokenizer())
        """To be looked at, for its counters."""
        self.held = 0
        """Bytes of the unfinished message."""
        self._listener = listener
        self._relay = relay
        self._blob = limits.blob
        self._most = most_unfinished(limits)
        self._stall = limits.stall
        self._call_later = call_later
        self._descriptors: DescriptorQueue | None = None  # not before the first ones come
        self._last_read = 0.0
        self._paused = False
        self._watch: Timer | None = None  # set by the first read that leaves something unfinished
        self._closed = False

    def read(self, data: Buffer, start: int, end: int, fds: Sequence[int]) -> Sequence[Routable]:
        """Take over `data[start:end]`, which is never changed any more, and `fds`; returns what is complete now."""
        if fds:
            self._put(fds)
        tokenizer = self.tokenizer
        elements = tokenizer.feed(data, start, end)
        if self._descriptors is not None:
            self._descriptors.settle(elements)
        held = tokenizer.held
        if held or self.held:
            self._hold(held)
        relay = self._relay
        for element in elements:
            if element.descriptors or (relay and element.blob):
                return self._with_content(elements)
        return elements

    def _put(self, fds: Sequence[int]) -> None:
        if self._descriptors is None:
            try:
                self._descriptors = DescriptorQueue(self.tokenizer, self._blob, self._most)
            except BaseException:
                close_all(fds)
                raise
        try:
            self._descriptors.put(fds)
        except DescriptorError as error:
            self._listener.flooded(error)

    def _with_content(self, elements: Sequence[Element]) -> list[Routable]:
        """The messages of a read in which some carry BLOBs, or have brought descriptors."""
        messages: list[Routable] = []
        for element in elements:
            if not (element.descriptors or (self._relay and element.blob)):
                messages.append(element)
                continue
            try:
                messages.append(routable(element, self._descriptors, self._listener.missing))
            except (DescriptorError, MemoryError) as error:
                self._listener.refused(element, error)
        return messages

    # -- what is unfinished

    def _hold(self, held: int) -> None:
        self.held = held
        if not held:
            return
        self._last_read = time.monotonic()
        if held > self._most:
            self.abandon()
            self._listener.outgrown(held, self._most)
        elif self._watch is None:
            self._watch_for(self._stall)

    def _watch_for(self, seconds: float) -> None:
        self._watch = self._call_later(seconds, self._check_progress)

    def _check_progress(self) -> None:
        self._watch = None
        if not self.held:
            return
        rest = self._stall if self._paused else self._last_read + self._stall - time.monotonic()
        if rest > 0:
            self._watch_for(rest)
            return
        self._last_read = time.monotonic()
        self._listener.stalled(self.held)
        if self.held and self._watch is None and not self._closed:
            self._watch_for(self._stall)

    def pause(self) -> None:
        """The stream is not read for now: that nothing comes is not the peer's fault."""
        self._paused = True

    def resume(self) -> None:
        """It is read again; what the peer said meanwhile is only read now."""
        self._paused = False
        self._last_read = time.monotonic()

    def abandon(self) -> int:
        """Give the unfinished message up, with the descriptors that came for it; returns how many bytes it had.

        The tokenizer counts it as skipped ("abandoned").
        """
        held = self.held
        self.tokenizer.abandon()
        self.held = 0
        if self._descriptors is not None:
            self._descriptors.settle(())
        return held

    def close(self) -> None:
        """The stream is over: an unfinished message counts as skipped ("truncated"), what waits is closed."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._descriptors is not None:
            self._descriptors.close()
        self.tokenizer.close()
        self.held = 0


def most_unfinished(limits: Limits) -> int:
    """Bytes that unfinished messages may take: of one stream, of all those of a server, or of one message in files."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 4 << 30
    return max(int(limits.partial_memory * memory), 1 << 20)
