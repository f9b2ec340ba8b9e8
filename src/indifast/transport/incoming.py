"""Incoming messages of a stream: the single path from received bytes and descriptors to messages.

A `MessageReader` is used like a parser without I/O: each `read` takes what the stream has received and returns the
messages that are now complete, in order. It never raises because of what a peer sends. Input that is damaged, too large
or lacks its content costs only that message, and is reported as data to the owner of the reader, a `Listener`. The
owner decides what follows: whether to count it, log it, tell users, or end the connection.

Small messages are the tokenizer's own elements. A message that came with descriptors is a `BlobMessage`, whose content
is still in the files (see `indifast.protocol.message.opened`). A reader with `relay` returns a `BlobMessage` for every
message with BLOB content.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from indifast._parser import Tokenizer
from indifast.transport.blobs import BlobMessage, routable
from indifast.transport.descriptors import DescriptorQueue
from indifast.transport.rawframes import NOT_AGREED, Agreement, RawFrames, agreement
from indifast.transport.shm import DescriptorError, close_all

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.limits import Limits
    from indifast.protocol.message import Buffer, Routable
    from indifast.transport.timers import CallLater, Timer


class Listener(Protocol):
    """The owner of a `MessageReader`. The reader calls these methods for input that it does not return as messages.

    Each call means that the peer has lost one message. Methods called from within `read` may abort the stream, but must
    not call `read` or `close`.
    """

    def skipped(self, reason: str, nbytes: int, excerpt: bytes, /) -> None:
        """Called when the tokenizer has skipped input that is not a message; see `Tokenizer`."""
        ...

    def refused(self, element: Element, error: DescriptorError | MemoryError, /) -> None:
        """Called when a message is dropped because of its content.

        The error says why: its descriptors are missing or do not match what it says, they hold too much (BlobTooLarge),
        or there is not enough memory.
        """
        ...

    def flooded(self, error: DescriptorError, /) -> None:
        """Called when too many descriptors have arrived without their messages; all of them have been closed."""
        ...

    def outgrown(self, held: int, most: int, /) -> None:
        """Called when an unfinished message of `held` bytes is abandoned because it exceeds `most` bytes."""
        ...

    def stalled(self, held: int, /) -> None:
        """Called when an unfinished message has stopped growing. The owner may `abandon` it or end the stream."""
        ...

    def missing(self, what: str, /) -> None:
        """Called when the file of a returned message turns out to be too short.

        `what` says what was done about it; see `BlobMessage`.
        """
        ...

    def violated(self, why: str, /) -> None:
        """Called when nothing more can be read from the peer. The owner ends the connection, but after `read`.

        `why` completes a sentence that begins with the name of the peer.
        """
        ...


class MessageReader:
    """Turns received bytes and descriptors into messages. See the module docstring.

    Args:
        listener: The owner, to which everything that is not returned as a message is reported.
        limits: The limits on what a peer may send.
        call_later: The `call_later` of the event loop, used to watch over unfinished messages.
        relay: Whether to keep the base64 of BLOBs as received, in order to pass it on. Otherwise it is decoded as it
            arrives.
    """

    def __init__(
        self,
        listener: Listener,
        limits: Limits,
        call_later: CallLater,
        *,
        relay: bool,
    ) -> None:
        self.tokenizer = Tokenizer(relay=relay, on_skip=listener.skipped, **limits.tokenizer())
        """The tokenizer, public for its counters."""
        self.held = 0
        """Bytes of the unfinished message."""
        self._listener = listener
        self._relay = relay
        self._blob = limits.blob
        self._most = most_unfinished(limits)
        self._stall = limits.stall
        self._call_later = call_later
        self._descriptors: DescriptorQueue | None = None  # made when the first descriptors arrive
        self._raw: RawFrames | None = None  # made when raw frames are agreed on
        self._violated = False
        self._last_read = 0.0
        self._paused = False
        self._watch: Timer | None = None  # set by the first read that leaves something unfinished
        self._closed = False

    def read(self, data: Buffer, start: int, end: int, fds: Sequence[int]) -> Sequence[Routable]:
        """Take over `data[start:end]`, which must not change afterwards, and `fds`. Return the complete messages."""
        tokenizer = self.tokenizer
        elements: Sequence[Element | BlobMessage]
        if fds:
            self._put(fds)
        if self._raw is None:
            elements = found = tokenizer.feed(data, start, end)
            if tokenizer.plain and self._raw is None and self._descriptors is None:  # the usual case
                if self.held:
                    self.held = 0
                return elements
            if self._descriptors is not None:
                self._descriptors.settle(found)
            if self._raw is not None:  # agreed on by what was fed
                elements = self._raw.read_rest(found, data, end)
            elif tokenizer.broken:
                self._violate(NOT_AGREED)
        else:
            elements = self._raw.read(data, start, end)
        held = tokenizer.held
        if self._raw is not None:
            held += self._raw.held
            if self._raw.fault is not None:
                self._violate(self._raw.fault)
        if held:
            self._hold_on(held)
        elif self.held:
            self.held = 0
        relay = self._relay
        for element in elements:
            if element.descriptors or (relay and element.blob):
                return self._with_content(elements)
        return elements

    def target(self) -> memoryview | None:
        """Return the memory that the next bytes of the stream belong in: see `RawFrames.target`."""
        return None if self._raw is None else self._raw.target()

    def arrived(self, nbytes: int) -> None:
        """Take note of bytes that were written to the beginning of what `target` has returned."""
        assert self._raw is not None
        self._raw.arrived(nbytes)
        self._hold_on(self.tokenizer.held + self._raw.held)

    @property
    def unread(self) -> bool:
        """Whether something of what was read is left, for lack of time. The next `read`, even of nothing, goes on.

        The owner reads nothing from the stream until then: see `Stream.call_again`.
        """
        return self._raw is not None and self._raw.unread

    @property
    def again_after(self) -> float:
        """Seconds after which the next `read` finds more to do."""
        return 0.0 if self._raw is None else self._raw.again_after

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

    def expect_raw(
        self,
        instruction: bytes,
        on_agreed: Callable[[Agreement], None],
        methods: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Read raw frames as soon as the peer has sent an instruction.

        Args:
            instruction: `OFFERED` or `ACCEPTED` of `rawframes`.
            on_agreed: Called then, within `read`.
            methods: Returns the methods by which frames may be compressed. Called only if the peer names any.
        """

        def on_instruction(text: bytes) -> None:
            agreed = agreement(text, instruction, methods)
            if agreed is not None:
                self._raw = RawFrames(
                    self.tokenizer,
                    self._blob,
                    self._listener.refused,
                    pieces=agreed.pieces,
                    methods=agreed.methods,
                    most=self._most,
                    whole=not self._relay,
                    on_outgrown=self._outgrown,
                    call_later=self._call_later,
                )
                on_agreed(agreed)

        self.tokenizer.on_instruction = on_instruction

    def _outgrown(self, held: int) -> None:
        """Abandon the unfinished message, which has become too large."""
        self.held = held
        self.abandon()
        self._listener.outgrown(held, self._most)

    def _violate(self, why: str) -> None:
        if not self._violated:
            self._violated = True
            self._listener.violated(why)

    def _with_content(self, elements: Sequence[Element | BlobMessage]) -> list[Routable]:
        """Return the messages of a read in which some carry BLOBs or came with descriptors."""
        messages: list[Routable] = []
        for element in elements:
            if isinstance(element, BlobMessage) or not (element.descriptors or (self._relay and element.blob)):
                messages.append(element)
                continue
            try:
                messages.append(routable(element, self._descriptors, self._listener.missing))
            except (DescriptorError, MemoryError) as error:
                self._listener.refused(element, error)
        return messages

    # -- Unfinished messages

    def _hold_on(self, held: int) -> None:
        """Take note of the size of the unfinished message, which has grown."""
        self.held = held
        self._last_read = time.monotonic()
        if held > self._most:
            self._outgrown(held)
        elif self._watch is None:
            self._watch_for(self._stall)

    def _watch_for(self, seconds: float) -> None:
        self._watch = self._call_later(seconds, self._check_progress)

    def _check_progress(self) -> None:
        self._watch = None
        if not self.held:
            return
        remaining = self._stall if self._paused else self._last_read + self._stall - time.monotonic()
        if remaining > 0:
            self._watch_for(remaining)
            return
        self._last_read = time.monotonic()
        self._listener.stalled(self.held)
        if self.held and self._watch is None and not self._closed:
            self._watch_for(self._stall)

    def pause(self) -> None:
        """Note that the stream is not being read, so that a stall does not count against the peer."""
        self._paused = True

    def resume(self) -> None:
        """Note that the stream is being read again, and restart the time allowed for an unfinished message."""
        self._paused = False
        self._last_read = time.monotonic()

    def abandon(self) -> int:
        """Discard the unfinished message and its descriptors. The tokenizer counts it as skipped ("abandoned").

        Returns:
            The size of the unfinished message in bytes.
        """
        held = self.held
        if self._raw is not None and self._raw.abandon():
            self._skip_raw("abandoned", held)
        else:
            self.tokenizer.abandon()
        self.held = 0
        if self._descriptors is not None:
            self._descriptors.settle(())
        return held

    def close(self) -> None:
        """End reading. An unfinished message counts as skipped ("truncated"); waiting descriptors are closed."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._descriptors is not None:
            self._descriptors.close()
        self.tokenizer.on_instruction = None
        if self._raw is not None:
            if self._raw.abandon():
                self._skip_raw("truncated", self.held)
            self._raw.close()
        self.tokenizer.close()
        self.held = 0

    def _skip_raw(self, reason: str, nbytes: int) -> None:
        """Count a raw frame that is skipped, as the tokenizer does with elements."""
        skipped = self.tokenizer.skipped
        skipped[reason] = skipped.get(reason, 0) + 1
        self._listener.skipped(reason, nbytes, b"")


def most_unfinished(limits: Limits) -> int:
    """Return how many bytes unfinished messages may take.

    This limits the unfinished message of one stream, those of all streams of a server together, and the files of one
    message.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 4 << 30
    return max(int(limits.partial_memory * memory), 1 << 20)
