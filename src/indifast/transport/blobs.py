"""BLOB messages, whose wire forms are made when somebody wants them, once for all."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from indifast._base64 import decode, encode, encode_into, encoded_length
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
"""Bytes of content from which on a form is made in a thread."""

_BLOCK = 3 << 18  # bytes encoded in one go: 1 MiB of text, while both are in the cache
_pool = BlockPool(_BLOCK // 3 * 4, 48)  # enough for a frame of 36 MiB
_REFUSED: tuple[Buffer, ...] = (b"\n",)  # what goes out in the place of a message that turned out to be unreadable


class BlobContent(NamedTuple):
    """One member of a BLOB vector to be written."""

    name: str
    format: str
    data: Buffer
    """Any contiguous bytes; empty: the member is named without content."""
    size: int | None = None
    """The `size` attribute (bytes after decompression); None, or not above 0: the number of bytes in `data`."""


class _Content(Protocol):
    """The content of one member."""

    length: int
    size: int
    """As announced: the bytes after decompression."""
    shared: bool
    """It is in a file already, large enough for everybody."""

    def check(self) -> None:
        """DescriptorError when it is known already that the content is not there."""
        ...

    def text(self) -> Iterable[Buffer]:
        """The base64, in pieces. DescriptorError and OSError when there is no more of it."""
        ...

    def file(self) -> int:
        """A descriptor of a file that begins with the content."""
        ...

    def read(self) -> bytes:
        """The content in memory. DescriptorError and OSError when it is not there any more."""
        ...


class _Memory:
    """Content in a buffer of the user's."""

    shared = False

    def __init__(self, data: memoryview, size: int) -> None:
        self.data = data
        self.length = len(data)
        self.size = size

    def check(self) -> None:
        """It is there."""

    def text(self) -> Iterator[Buffer]:
        for start in range(0, self.length, _BLOCK):
            yield _encode_block(self.data[start : start + _BLOCK])

    def file(self) -> int:
        return shm.share(self.data, self.size)

    def read(self) -> bytes:
        return bytes(self.data)


class _File:
    """Content in a file, ours or a peer's. Whoever makes it sets `fd`, which is closed with it, and calls `look`.

    The object is there before its descriptor, so that none is left open when there is no memory.
    """

    __slots__ = ("fd", "length", "shared", "size")

    def __init__(self, length: int, size: int) -> None:
        self.fd = -1
        self.length = length
        self.size = size
        self.shared = False

    def look(self) -> None:
        """See whether the file is large enough for everybody; DescriptorError when it does not hold the content."""
        self.shared = shm.check(self.fd, self.length) >= self.size

    def check(self) -> None:
        """The sender may have truncated it since it came."""
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

    def view(self) -> memoryview:
        """The content in the pages of the one who shares them, for those who trust them."""
        return shm.view(self.fd, self.length)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)  # nothing else, as everything else takes memory


class _Encoded:
    """Content in base64 of our own, each piece of which can be decoded by itself."""

    shared = False

    def __init__(self, pieces: list[Buffer], length: int, size: int) -> None:
        self.pieces = pieces
        self.length = length
        self.size = size

    def check(self) -> None:
        """It is there."""

    def text(self) -> Iterable[Buffer]:
        return self.pieces

    def file(self) -> int:
        return shm.share_blocks(map(decode, self.pieces), max(self.length, self.size))

    def read(self) -> bytes:
        return b"".join(map(decode, self.pieces))


class _Text:
    """Content in base64 as it came, within an element."""

    shared = False

    def __init__(self, member: Member) -> None:
        self._member = member
        self.length = sum(map(len, member.slices)) // 4 * 3
        self.size = member.blob_size or 0

    def check(self) -> None:
        """It is there."""

    def text(self) -> Iterable[Buffer]:
        return self._member.slices

    def file(self) -> int:
        return shm.share(self.read(), self.size if self.size < shm.LARGEST else 0)

    def read(self) -> bytes:
        return self._member.data or b""


class BlobMessage:
    """A vector with BLOB content: a `Routable` with an inline form (base64) and an attached one (descriptors).

    Each form is made at most once, when it is first asked for, in a thread when it is large; the inline form is there
    piece by piece, and may be sent while it still grows. `routable` makes such messages of what was received,
    `from_members` of a driver's buffers. Its descriptors are closed with it.

    A file that its sender truncates while its beginning is already on its way is taken as if it held zero bytes from
    there on. The sender could write them there as well, and the receivers get a message that is complete: neither they
    nor what else they are told suffers. That is logged and reported, as is a file that turns out to be too short before
    anything of it was shown: such a message is refused as a whole.
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
        """`envelope(False)` gives the pieces around the contents, `envelope(True)` the attached form."""
        self.tag = tag
        self.device = device
        self.name = name
        self.formats = formats
        self.carried = carried
        self.size = 256 + sum(100 + encoded_length(content.length) for content in contents)
        self._length = sum(content.length for content in contents)
        self._contents: Sequence[_Content] = contents
        self._envelope = envelope
        self.growing = False
        """What `parts(False)` gave, the same list, is only the beginning so far. To be looked at behind `parts`."""
        self.on_fault: Callable[[str], None] | None = None
        """Called on the event loop's thread, once, when content is missing, with what was done about it."""
        self._fault: str | None = None
        self._inline: Sequence[Buffer] | None = None
        self._attached: Sequence[Buffer] | None = None
        self._texts: Sequence[list[Buffer]] | None = None  # the contents within the inline form
        self._files: Sequence[_File] = ()
        self._making: tuple[list[Callable[[], None]], list[Callable[[], None]]] = ([], [])  # who waits for which form
        self._started = [False, False]  # there is, or was, a thread that makes this form
        try:
            self._locks = (threading.Lock(), threading.Lock())  # held while a form is made
        except RuntimeError as error:  # as it is said for want of memory
            raise MemoryError("no lock to be had") from error
        self._element: Element | None = None

    def __repr__(self) -> str:
        return f"<BlobMessage {self.tag} {self.device}.{self.name} {self._length} bytes>"

    @classmethod
    def from_members(
        cls, tag: str, attributes: Mapping[str, str | None], members: Sequence[BlobContent]
    ) -> BlobMessage:
        """A message from buffers, which must not change until `release` was called.

        `attributes` are those of the vector in the order in which they are written (None: left out); members are
        written with name, format and size.
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
        """A message from a received element with `element.attached` descriptors.

        In the place of those that it has taken over it leaves -1 in `fds`. DescriptorError when one of them is not what
        the element says.
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
            file.look()
            contents.append(file)
        formats = tuple([member.format for member in members])
        carried = frozenset([member.name for member in members])
        message = cls(element.tag, element.device, element.name, formats, carried, contents, element.envelope)
        message.size = element.size
        message._element = element
        if not element.attached:
            message._inline = element.parts(False)
        return message

    # -- the face of a Routable

    def parts(self, attached: bool) -> Sequence[Buffer] | None:
        """The pieces of a form; a small one is made here and now, a large one is None until it is there."""
        made = self._attached if attached else self._inline
        if made is None and self._quick(attached) and not self._making[attached]:
            self._make(attached)
            self._report()
            made = self._attached if attached else self._inline
        return made

    def whole(self, attached: bool) -> bool:
        """This form is there from its beginning to its end."""
        return self.parts(attached) is not None and (attached or not self.growing)

    def fds(self) -> Sequence[int]:
        """One descriptor per BLOB, once the attached form is there."""
        return [file.fd for file in self._files]

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """See `Routable.when_ready`."""
        self._making[attached].append(callback)
        if not self._started[attached]:
            self._started[attached] = True
            loop = asyncio.get_running_loop()
            tell = partial(loop.call_soon_threadsafe, self._tell, False)
            job = loop.run_in_executor(None, self._make, attached, tell)
            job.add_done_callback(lambda job: self._made(attached, job))

    def head(self) -> bytes:
        """The XML without the contents, for logs."""
        return b"".join(self._envelope(True))

    def element(self) -> Element:
        """The message parsed. BLOBs that it says are attached are read by `opened`, all others are in it.

        MemoryError: there is none for it.
        """
        if self._element is None:
            pieces = self._envelope(True)
            found = Tokenizer(relay=True, on_skip=None, **unbounded(len(pieces[0]))).feed(pieces[0])
            if not found:
                raise MemoryError(f"there is no memory for a message of {self.size} bytes")
            (self._element,) = found
        return self._element

    def opened(self) -> Element | Opened:
        """See `indifast.protocol.message.opened`."""
        element = self.element()
        if not element.attached:
            return element
        return Opened(element, [self._read(at) for at, member in enumerate(element.blobs) if member.attached])

    def _read(self, at: int) -> bytes:
        with self._locks[True]:  # buffers are a driver's own until `release`
            content = self._contents[at]
            if isinstance(content, _Memory):
                return content.read()
        return content.read()

    def views(self) -> Iterator[tuple[Member, Callable[[], memoryview]]]:
        """The attached BLOBs, and for each what maps it into memory, for those who trust the sender.

        OSError or ValueError when it can't be mapped. A view stays valid without the message.
        """
        for member, content in zip(self.element().blobs, self._contents, strict=True):
            if isinstance(content, _File):
                yield member, content.view

    # -- making the forms

    def _quick(self, attached: bool) -> bool:
        """Making this form is no work worth a thread."""
        return self._length < LARGE or (attached and all(content.shared for content in self._contents))

    def release(self) -> None:
        """Let go of the driver's buffers; forms that are wanted later are made from one that there is.

        To be called once the forms that are wanted are there; otherwise it waits for those that are being made, and
        makes the inline one when there is none.
        """
        if (self._inline is None and not self._files) or self.growing:
            self._make(False)
        with self._locks[False]:  # nobody may want the inline form any more, but its thread reads on
            pass
        with self._locks[True]:
            if not self._files and self._texts is not None:
                pairs = zip(self._texts, self._contents, strict=True)
                self._contents = [_Encoded(text, old.length, old.size) for text, old in pairs]

    def _make(self, attached: bool, tell: Callable[[], object] | None = None) -> None:
        """Make one form (in any thread); `tell` is called whenever there is more of it."""
        with self._locks[attached]:
            try:
                if attached and self._attached is None:
                    self._make_attached()
                elif not attached and self._inline is None:
                    self._make_inline(tell)
            except (OSError, OverflowError, MemoryError) as exc:
                if attached:  # no shared file to be had: every receiver takes the other form as well
                    self._complain(logging.WARNING, "is sent inline: %s", exc)
                    self._make(False)
                    self._attached = self._inline
                else:
                    self._refuse(attached, exc)
            except DescriptorError as exc:
                self._refuse(attached, exc)

    def _make_inline(self, tell: Callable[[], object] | None) -> None:
        contents = self._contents
        for content in contents:
            content.check()
        first, *others = self._envelope(False)
        made: list[Buffer] = [first]
        texts: list[list[Buffer]] = []
        untold = 0
        for content, piece in zip(contents, others, strict=True):
            text: list[Buffer] = []
            texts.append(text)
            for block in self._text(content, text):
                text.append(block)
                made.append(block)
                untold += len(block)
                if tell is not None and untold >= _BLOCK:
                    untold = 0
                    self.growing = True
                    self._inline = made
                    tell()
            made.append(piece)
        self._texts = texts
        self._inline = made
        self.growing = False

    def _text(self, content: _Content, before: list[Buffer]) -> Iterator[Buffer]:
        """The base64 of a content; zero bytes for what is missing of it once something of the message was shown."""
        try:
            yield from content.text()
        except (OSError, DescriptorError, MemoryError) as exc:
            if not self.growing:
                raise
            self._fault = "BLOB filled up"
            self._complain(logging.ERROR, "is filled up with zero bytes: %s", exc)
            missing = content.length - sum(map(len, before)) // 4 * 3
            for start in range(0, missing, _BLOCK):
                yield encode(bytes(min(_BLOCK, missing - start)))

    def _make_attached(self) -> None:
        files = []
        for content in self._contents:
            file = _File(content.length, content.size)
            file.fd = content.file()
            file.look()
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
        """May happen with every frame."""
        text = "BLOB of %s.%s " + what
        _complaints.say(level, time.monotonic(), text, for_log(self.device), for_log(self.name), str(exc) or repr(exc))

    def _made(self, attached: bool, job: asyncio.Future[None]) -> None:
        if not job.cancelled() and (exc := job.exception()) is not None:
            self._refuse(attached, exc)
        self._tell(attached)

    def _tell(self, attached: bool) -> None:
        """There is (more of) a form."""
        self._report()
        waiting = self._making[attached]
        callbacks = waiting.copy()
        waiting.clear()
        for callback in callbacks:
            callback()

    def _report(self) -> None:
        """Say what went wrong, once."""
        if self._fault is not None and self.on_fault is not None:
            on_fault, self.on_fault = self.on_fault, None
            on_fault(self._fault)


def _decoded(member: Member) -> _Memory:
    data = member.data or b""
    return _Memory(memoryview(data), max(member.blob_size or 0, len(data)))


def _encode_block(data: memoryview) -> Buffer:
    """The base64 of at most `_BLOCK` bytes; that of many in memory that is used again when all receivers have it.

    Fresh memory costs more than the encoding: the kernel hands it out page by page, and clears it.
    """
    if len(data) < _BLOCK // 2:
        return encode(data)
    block = _pool.get()
    return memoryview(block)[: encode_into(data, block)]


def routable(
    element: Element, descriptors: DescriptorQueue | None = None, on_fault: Callable[[str], None] | None = None
) -> Routable:
    """What goes through the router for a received element: the element itself unless it carries BLOBs.

    The BLOBs that it announces as attached take the oldest of the waiting `descriptors`. DescriptorError when there are
    too few, or when one is not what the element says: a libindi server ends that connection. `on_fault` is told what
    was done about content that turned out to be missing later.
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
