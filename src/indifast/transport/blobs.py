"""BLOB messages whose wire forms are made on demand, once for all receivers."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from indifast._base64 import Decoder, decode, encode, encode_into, encoded_length
from indifast._parser import BlockPool, Tokenizer
from indifast.protocol import wire
from indifast.protocol.complaints import Complaints
from indifast.protocol.escape import for_log
from indifast.protocol.limits import unbounded
from indifast.protocol.message import Buffer, Opened, Routable
from indifast.transport import shm
from indifast.transport.shm import DescriptorError, DescriptorQueue

if TYPE_CHECKING:
    from indifast._parser import Element, Member

_complaints = Complaints(logging.getLogger(__name__))

LARGE = 64 << 10
"""Minimum bytes of content for a form to be made in a thread."""

_BLOCK = 3 << 18  # bytes encoded at a time: 1 MiB of text; both fit in the cache
_pool = BlockPool(_BLOCK // 3 * 4, 48)  # enough for a frame of 36 MiB
_REFUSED: tuple[Buffer, ...] = (b"\n",)  # sent in place of a message that turned out to be unreadable


class BlobContent(NamedTuple):
    """One member of an outgoing BLOB vector."""

    name: str
    format: str
    data: Buffer
    """Any contiguous bytes; if empty, the member is written without content."""
    size: int | None = None
    """The `size` attribute: bytes after decompression. If None, zero or negative, the number of bytes in `data`."""


class _Content(Protocol):
    """The content of one member."""

    length: int
    """The number of bytes; of received text, an upper limit until `file` is called."""
    size: int
    """The announced number of bytes after decompression."""
    shared: bool
    """Whether the content is already in a file that is large enough for all receivers."""

    def check(self) -> None:
        """Raise DescriptorError if the content is known to be missing."""
        ...

    def text(self) -> Iterable[Buffer]:
        """Return the base64 in pieces. Iterating raises DescriptorError or OSError if the content ends early."""
        ...

    def file(self) -> int:
        """Return a descriptor of a file that begins with the content."""
        ...

    def read(self) -> bytes:
        """Return the content in memory. Raise DescriptorError or OSError if it is gone."""
        ...

    def blocks(self, size: int) -> Iterable[memoryview]:
        """Return the content in pieces of `size` bytes, a multiple of 3. Each is valid until the next one is taken.

        Iterating raises DescriptorError or OSError if the content is gone, and MemoryError.
        """
        ...


class _Memory:
    """Content in a buffer that belongs to the user."""

    shared = False

    def __init__(self, data: memoryview, size: int) -> None:
        self.data = data
        self.length = len(data)
        self.size = size

    def check(self) -> None:
        """Do nothing: content in memory is never missing."""

    def text(self) -> Iterator[Buffer]:
        for start in range(0, self.length, _BLOCK):
            yield _encode_block(self.data[start : start + _BLOCK])

    def file(self) -> int:
        return shm.share(self.data, self.size)

    def read(self) -> bytes:
        return bytes(self.data)

    def blocks(self, size: int) -> Iterator[memoryview]:
        return _slices(self.data, size)

    @property
    def lasting(self) -> bool:
        """Whether the content can't change: a driver may fill its buffers again after `BlobMessage.release`."""
        return isinstance(self.data.obj, bytes)


class _File:
    """Content in a file, ours or a peer's.

    The creator sets `fd`, which is closed with the object, and then calls `inspect`. The object exists before its
    descriptor, so that no descriptor is left open if memory runs out.
    """

    __slots__ = ("fd", "length", "shared", "size")

    def __init__(self, length: int, size: int) -> None:
        self.fd = -1
        self.length = length
        self.size = size
        self.shared = False

    def inspect(self) -> None:
        """Find out whether the file is large enough for all receivers.

        Raises:
            DescriptorError: The file is too short for the content.
        """
        self.shared = shm.check(self.fd, self.length) >= self.size

    def check(self) -> None:
        """Raise DescriptorError if the sender has truncated the file since it arrived."""
        shm.check(self.fd, self.length)

    def text(self) -> Iterator[Buffer]:
        for block in shm.read_blocks(self.fd, self.length, _BLOCK):
            yield _encode_block(block)

    def file(self) -> int:
        if self.shared:
            return shm.reopen_read_only(self.fd)
        return shm.share_copy(self.fd, self.length, self.size)

    def read(self) -> bytes:
        return shm.read_all(self.fd, self.length)

    def blocks(self, size: int) -> Iterable[memoryview]:
        return shm.read_blocks(self.fd, self.length, size)

    def view(self) -> memoryview:
        """Return the content in the sender's own pages, for receivers that trust the sender."""
        return shm.view(self.fd, self.length)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)  # nothing else: there may be no memory for it


class _Encoded:
    """Content in base64 that we made ourselves, so that each piece can be decoded separately."""

    shared = False

    def __init__(self, pieces: list[Buffer], length: int, size: int) -> None:
        self.pieces = pieces
        self.length = length
        self.size = size

    def check(self) -> None:
        """Do nothing: content in memory is never missing."""

    def text(self) -> Iterable[Buffer]:
        return self.pieces

    def file(self) -> int:
        return shm.share_blocks(map(decode, self.pieces), max(self.length, self.size))

    def read(self) -> bytes:
        return b"".join(map(decode, self.pieces))

    def blocks(self, size: int) -> Iterator[memoryview]:
        if size == _BLOCK and all(len(piece) == encoded_length(size) for piece in self.pieces[:-1]):
            return (memoryview(decode(piece)) for piece in self.pieces)
        return _slices(memoryview(self.read()), size)


class _Text:
    """Content in base64 as received, within an element."""

    shared = False

    def __init__(self, member: Member) -> None:
        self._member = member
        self.length = sum(map(len, member.slices)) // 4 * 3
        self.size = member.blob_size or 0

    def check(self) -> None:
        """Do nothing: content in memory is never missing."""

    def text(self) -> Iterable[Buffer]:
        return self._member.slices

    def file(self) -> int:
        data = self.read()
        self.length = len(data)  # the text may have ended with padding
        return shm.share(data, self.size if self.size < shm.LARGEST else 0)

    def read(self) -> bytes:
        return self._member.data or b""

    def blocks(self, size: int) -> Iterator[memoryview]:
        decoder = Decoder(self.length)  # `read` would keep a copy in the member
        for piece in self._member.slices:
            decoder.feed(piece)
        return _slices(memoryview(decoder.finish()), size)


def _slices(data: memoryview, size: int) -> Iterator[memoryview]:
    return (data[start : start + size] for start in range(0, len(data), size))


class RawForm(NamedTuple):
    """A message as XML with gaps, and the bytes that belong in the gaps."""

    envelope: Sequence[bytes]
    """The pieces of XML around the contents, one more than there are contents; the contents belong there as base64."""
    contents: Sequence[_Content]
    """The contents. Only their `length` (approximate) and `blocks` are for users of this form, in any thread."""


class BlobMessage:
    """A vector with BLOB content: a `Routable` with an inline form (base64) and an attached form (descriptors).

    Each form is made at most once, when it is first requested, and in a thread if it is large. The inline form becomes
    available piece by piece and can be sent while it is still growing. `routable` makes such messages from received
    elements, `from_members` from a driver's buffers. The descriptors of a message are closed with it.

    If the sender truncates a file after its beginning has been sent on, the missing bytes are replaced with zeros. The
    sender could just as well have written zeros there, and the receivers get a complete message, so neither they nor
    their other messages suffer. If a file turns out to be too short before any of it was sent on, the whole message is
    refused. Both cases are logged and reported to `on_fault`.
    """

    blob = True

    def __init__(
        self,
        tag: str,
        device: str | None,
        name: str | None,
        formats: tuple[str, ...],
        carried: frozenset[str],
        contents: Sequence[_Content],
        envelope: Callable[[bool], Sequence[bytes]],
    ) -> None:
        """Make a message from its parts; used by `from_members` and `of`.

        `envelope(False)` returns the pieces of XML around the contents, `envelope(True)` the attached form.
        """
        self.tag = tag
        self.device = device
        self.name = name
        self.formats = formats
        self.carried = carried
        lengths = [content.length for content in contents]
        self.size = 256 + sum([100 + encoded_length(length) for length in lengths])
        self._length = sum(lengths)
        self._contents: Sequence[_Content] = contents
        self._envelope = envelope
        self.growing = False
        """Whether the list that `parts(False)` returned is still growing. Read this after calling `parts`."""
        self.on_fault: Callable[[str], None] | None = None
        """Called once, on the event loop's thread, if content is missing; its argument says what was done about it."""
        self._fault: str | None = None
        self._inline: Sequence[Buffer] | None = None
        self._attached: Sequence[Buffer] | None = None
        self._texts: Sequence[list[Buffer]] | None = None  # the contents within the inline form
        self._files: Sequence[_File] = ()
        self._waiting: tuple[list[Callable[[], None]], list[Callable[[], None]]] = ([], [])  # callbacks for each form
        self._started = [False, False]  # whether a thread has been started to make the form
        try:
            self._locks = (threading.Lock(), threading.Lock())  # held while a form is made
        except RuntimeError as error:  # raised when there is not enough memory
            raise MemoryError("cannot allocate a lock") from error
        self._element: Element | None = None

    def __repr__(self) -> str:
        return f"<BlobMessage {self.tag} {self.device}.{self.name} {self._length} bytes>"

    @classmethod
    def from_members(
        cls, tag: str, attributes: Mapping[str, str | None], members: Sequence[BlobContent]
    ) -> BlobMessage:
        """Make a message from buffers.

        Args:
            tag: The tag of the vector.
            attributes: The attributes of the vector, in the order in which they are written. Those that are None are
                left out.
            members: The members, written with name, format and size. Their buffers must not change until `release` has
                been called.
        """
        contents, heads = [], []
        for member in members:
            data = memoryview(member.data).cast("B")
            size = member.size if member.size and member.size > 0 else len(data)  # 0 announces no descriptor
            heads.append(wire.BlobHead(member.name, member.format, size, len(data)))
            if len(data):
                contents.append(_Memory(data, size))
        pieces = wire.around_blobs(tag, attributes, heads)
        whole = (wire.attached_blobs(tag, attributes, heads),)
        formats = tuple(head.format or "" for head in heads if head.length)
        carried = frozenset(head.name for head in heads if head.length)
        device, name = attributes.get("device"), attributes.get("name")
        return cls(tag, device, name, formats, carried, contents, lambda attach: whole if attach else pieces)

    @classmethod
    def of(cls, element: Element, fds: list[int]) -> BlobMessage:
        """Make a message from a received element.

        Args:
            element: The element.
            fds: The `element.attached` descriptors that came with it. Those that the message has taken over are
                replaced with -1 in this list.

        Raises:
            DescriptorError: A descriptor does not match what the element says.
        """
        contents: list[_Content] = []
        taken = 0
        members = element.blobs
        for member in members:
            if not member.attached:
                contents.append(_Text(member) if member.slices else _decoded(member))
                continue
            file = _File(*shm.announced(member))
            file.fd, fds[taken] = fds[taken], -1
            taken += 1
            file.inspect()
            contents.append(file)
        formats = tuple([member.format for member in members])
        carried = frozenset([member.name for member in members])
        message = cls(element.tag, element.device, element.name, formats, carried, contents, element.envelope)
        message.size = element.size
        message._element = element
        if not element.attached:
            message._inline = element.parts(False)
        return message

    # -- The Routable interface

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """Return the pieces of a form. A small form is made at once; a large one is None until it is ready."""
        made = self._attached if attached else self._inline
        if made is None and self._is_quick(attached) and not self._waiting[attached]:
            self._make(attached)
            self._report()
            made = self._attached if attached else self._inline
        return made

    def whole(self, attached: bool) -> bool:
        """Return whether this form is complete."""
        return self.parts(attached) is not None and (attached or not self.growing)

    def fds(self) -> Sequence[int]:
        """Return one descriptor per BLOB; empty until the attached form is ready."""
        return [file.fd for file in self._files]

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """Make a form in a thread, and call `callback` once when (more of) it is ready. See `Routable.when_ready`."""
        self._waiting[attached].append(callback)
        if not self._started[attached]:
            self._started[attached] = True
            loop = asyncio.get_running_loop()
            notify = partial(loop.call_soon_threadsafe, self._notify, False)
            job = loop.run_in_executor(None, self._make, attached, notify)
            job.add_done_callback(lambda job: self._made(attached, job))

    def head(self) -> bytes:
        """Return the XML without the contents, for logs."""
        return b"".join(self._envelope(True))

    def raw(self) -> RawForm | None:
        """Return the message with its contents as bytes; None while these are in buffers that a driver may change.

        After `whole(False)`, None means that the contents are lost.
        """
        contents = self._contents
        if any(isinstance(content, _Memory) and not content.lasting for content in contents):
            if self._texts is None:
                return None
            contents = self._encoded(contents, self._texts)
        return RawForm(self._envelope(False), contents)

    def element(self) -> Element:
        """Return the message as an element, which contains its BLOBs except those announced as attached.

        Use `opened` to get the content of those as well.

        Raises:
            MemoryError: There is not enough memory to parse the message.
        """
        if self._element is None:
            pieces = self._envelope(True)
            found = Tokenizer(relay=True, on_skip=None, **unbounded(len(pieces[0]))).feed(pieces[0])
            if not found:
                raise MemoryError(f"not enough memory for a message of {self.size} bytes")
            (self._element,) = found
        return self._element

    def opened(self) -> Element | Opened:
        """Return the message with all of its content in memory. See `indifast.protocol.message.opened`."""
        element = self.element()
        if not element.attached:
            return element
        return Opened(element, [self._read(at) for at, member in enumerate(element.blobs) if member.attached])

    def _read(self, at: int) -> bytes:
        with self._locks[True]:  # the buffers belong to a driver until `release`
            content = self._contents[at]
            if isinstance(content, _Memory):
                return content.read()
        return content.read()

    def views(self) -> Iterator[tuple[Member, Callable[[], memoryview]]]:
        """Yield the attached BLOBs, each with a function that maps it into memory, for receivers that trust the sender.

        Yields:
            The member, and a function that returns a read-only view of its content, or raises OSError or ValueError if
            it can't be mapped. A view remains valid without the message.
        """
        for member, content in zip(self.element().blobs, self._contents, strict=True):
            if isinstance(content, _File):
                yield member, content.view

    # -- Making the forms

    def _is_quick(self, attached: bool) -> bool:
        """Return whether making this form takes too little time to need a thread."""
        return self._length < LARGE or (attached and all(content.shared for content in self._contents))

    def release(self) -> None:
        """Release the driver's buffers. Forms requested later are made from an existing form.

        Call this once the requested forms are ready. Otherwise it waits for those that are being made, and makes the
        inline form if there is no form yet.
        """
        if (self._inline is None and not self._files) or self.growing:
            self._make(False)
        with self._locks[False]:  # the thread of an inline form that is no longer wanted may still be reading
            pass
        with self._locks[True]:
            if not self._files and self._texts is not None:
                self._contents = self._encoded(self._contents, self._texts)

    def _encoded(self, contents: Sequence[_Content], texts: Sequence[list[Buffer]]) -> Sequence[_Content]:
        """Return contents that are read from the inline form."""
        return [_Encoded(text, old.length, old.size) for text, old in zip(texts, contents, strict=True)]

    def _make(self, attached: bool, notify: Callable[[], object] | None = None) -> None:
        """Make one form, in any thread; `notify` is called whenever more of it is ready."""
        with self._locks[attached]:
            try:
                if attached and self._attached is None:
                    self._make_attached()
                elif not attached and self._inline is None:
                    self._make_inline(notify)
            except (OSError, OverflowError, MemoryError) as exc:
                if attached:  # without a shared file: every receiver accepts the inline form as well
                    self._complain(logging.WARNING, "is sent inline: %s", exc)
                    self._make(False)
                    self._attached = self._inline
                else:
                    self._refuse(attached, exc)
            except DescriptorError as exc:
                self._refuse(attached, exc)

    def _make_inline(self, notify: Callable[[], object] | None) -> None:
        contents = self._contents
        for content in contents:
            content.check()
        first, *others = self._envelope(False)
        made: list[Buffer] = [first]
        texts: list[list[Buffer]] = []
        unreported = 0
        for content, piece in zip(contents, others, strict=True):
            text: list[Buffer] = []
            texts.append(text)
            for block in self._text(content, text):
                text.append(block)
                made.append(block)
                unreported += len(block)
                if notify is not None and unreported >= _BLOCK:
                    unreported = 0
                    self.growing = True
                    self._inline = made
                    notify()
            made.append(piece)
        self._texts = texts
        self._inline = made
        self.growing = False

    def _text(self, content: _Content, before: list[Buffer]) -> Iterator[Buffer]:
        """Yield the base64 of a content. If any of the message was already sent, missing bytes become zeros."""
        try:
            yield from content.text()
        except (OSError, DescriptorError, MemoryError) as exc:
            if not self.growing:
                raise
            self._fault = "BLOB filled up"
            self._complain(logging.ERROR, "is padded with zero bytes: %s", exc)
            missing = content.length - sum(map(len, before)) // 4 * 3
            for start in range(0, missing, _BLOCK):
                yield encode(bytes(min(_BLOCK, missing - start)))

    def _make_attached(self) -> None:
        files = []
        for content in self._contents:
            file = _File(0, content.size)
            file.fd = content.file()
            file.length = content.length
            file.inspect()
            files.append(file)
        self._contents = self._files = files
        self._attached = self._envelope(True)

    def _refuse(self, attached: bool, exc: BaseException) -> None:
        self._complain(logging.ERROR, "is lost: %s", exc)
        self._fault = "BLOB lost"
        if attached:
            self._attached = _REFUSED
        else:
            self._inline = _REFUSED
            self.growing = False

    def _complain(self, level: int, what: str, exc: BaseException) -> None:
        """Log a problem at a limited rate, as it may occur with every frame."""
        text = "BLOB of %s.%s " + what
        _complaints.say(level, time.monotonic(), text, for_log(self.device), for_log(self.name), str(exc) or repr(exc))

    def _made(self, attached: bool, job: asyncio.Future[None]) -> None:
        if not job.cancelled() and (exc := job.exception()) is not None:
            self._refuse(attached, exc)
        self._notify(attached)

    def _notify(self, attached: bool) -> None:
        """Call those who wait for a form, as (more of) it is ready."""
        self._report()
        waiting = self._waiting[attached]
        callbacks = waiting.copy()
        waiting.clear()
        for callback in callbacks:
            callback()

    def _report(self) -> None:
        """Call `on_fault`, once, if something went wrong."""
        if self._fault is not None and self.on_fault is not None:
            on_fault, self.on_fault = self.on_fault, None
            on_fault(self._fault)


def _decoded(member: Member) -> _Memory:
    data = member.data or b""
    return _Memory(memoryview(data), max(member.blob_size or 0, len(data)))


def _encode_block(data: memoryview) -> Buffer:
    """Return the base64 of at most `_BLOCK` bytes. A long one is in memory that is reused once all receivers have it.

    New memory costs more than the encoding, because the kernel allocates it page by page and clears it.
    """
    if len(data) < _BLOCK // 2:
        return encode(data)
    block = _pool.get()
    return memoryview(block)[: encode_into(data, block)]


def routable(
    element: Element, descriptors: DescriptorQueue | None = None, on_fault: Callable[[str], None] | None = None
) -> Routable:
    """Return what represents a received element in the router: the element itself, unless it carries BLOBs.

    Args:
        element: The received element.
        descriptors: The descriptors received so far. BLOBs announced as attached take the oldest of them.
        on_fault: Called if content turns out to be missing later, with what was done about it.

    Raises:
        DescriptorError: There are too few descriptors, or one does not match what the element says. (A libindi server
            closes the connection in this case.)
    """
    if element.descriptors and descriptors is not None:
        fds = descriptors.take(element)
    elif element.attached:
        raise DescriptorError("a BLOB was announced as attached on a connection that carries no descriptors")
    if element.attached:
        try:
            message = BlobMessage.of(element, fds)
        except BaseException:
            shm.close_all(fds)
            raise
        message.on_fault = on_fault
        return message
    return BlobMessage.of(element, []) if element.blob else element
