"""BLOB messages whose wire forms are made on demand, once for all receivers."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

from indifast._base64 import encode, encoded_length
from indifast._parser import Tokenizer
from indifast.protocol import wire
from indifast.protocol.callbacks import call_all
from indifast.protocol.complaints import Complaints
from indifast.protocol.escape import for_log
from indifast.protocol.limits import unbounded
from indifast.protocol.message import ATTACHED, INLINE, RAW, Buffer, Form, Opened, Routable
from indifast.transport.contents import BLOCK, Content, Encoded, File, Memory, Pieces, Text, decoded, slices
from indifast.transport.packing import PackedContents, pack
from indifast.transport.shm import DescriptorError

if TYPE_CHECKING:
    from indifast._parser import Element, Member
    from indifast.transport.descriptors import DescriptorQueue

_complaints = Complaints(logging.getLogger(__name__))

LARGE = 64 << 10
"""Minimum bytes of content for a form to be made in a thread."""

END_MARK = b"<?end?>"
"""What follows the raw bytes of a message."""

_REFUSED: tuple[Buffer, ...] = (b"\n",)  # sent in place of a message that turned out to be unreadable


class BlobContent(NamedTuple):
    """One member of an outgoing BLOB vector."""

    name: str
    format: str | None
    """The `format` attribute; None to leave it out."""
    data: Buffer
    """Any contiguous bytes; if empty, the member is written without content."""
    size: int | None = None
    """The `size` attribute: bytes after decompression. If None, zero or negative, the number of bytes in `data`."""


class RawForm(NamedTuple):
    """A message as XML with gaps, and the bytes that belong in the gaps."""

    envelope: Sequence[bytes]
    """The pieces of XML around the contents, one more than there are contents; the contents belong there as base64."""
    contents: Sequence[Content]
    """The contents. Only their `length` (approximate) and `blocks` are for users of this form, in any thread."""


class BlobMessage:
    """A vector with BLOB content: a `Routable` in three forms.

    They are inline (base64), attached (descriptors) and raw (the bytes as they are, after the XML). Each form is made
    at most once, when it is first requested, and in a thread if it is large. The inline form becomes available piece by
    piece and can be sent while it is still growing. `routable` makes such messages from received elements,
    `from_members` from a driver's buffers. The descriptors of a message are closed with it.

    If the sender truncates a file after its beginning has been sent on, the missing bytes are replaced with zeros. The
    sender could just as well have written zeros there, and the receivers get a complete message, so neither they nor
    their other messages suffer. If a file turns out to be too short before any of it was sent on, the whole message is
    refused. Both cases are logged and reported to `on_fault`.
    """

    blob = True
    descriptors = 0
    """As of an element: the message has all the descriptors that belong to it."""

    def __init__(
        self,
        tag: str,
        device: str | None,
        name: str | None,
        formats: tuple[str, ...],
        carried: frozenset[str],
        contents: Sequence[Content],
        envelope: Callable[[Form], Sequence[bytes]],
        size: int | None = None,
    ) -> None:
        """Make a message from its parts; used by `from_members` and `of`.

        `envelope(INLINE)` returns the pieces of XML around the contents, the others the XML of the attached form and of
        the raw form. `size` is that of the inline form, if it is known.
        """
        self.tag = tag
        self.device = device
        self.name = name
        self.formats = formats
        self.carried = carried
        lengths = [content.length for content in contents]
        self.size = 256 + sum([100 + encoded_length(length) for length in lengths]) if size is None else size
        self._length = sum(lengths)
        self._contents: Sequence[Content] = contents
        self._envelope = envelope
        self.growing = False
        """Whether the list that `parts(INLINE)` returned is still growing. Read this after calling `parts`."""
        self.came_inline = False
        """Whether all content came as base64, so that this form costs nothing."""
        self.on_fault: Callable[[str], None] | None = None
        """Called once, on the event loop's thread, if content is missing; its argument says what was done about it."""
        self._fault: str | None = None
        # For each form: its pieces, the callbacks that wait for it, whether a thread has been started to make it, and a
        # lock that is held while it is made.
        self._made: list[Sequence[Buffer] | None] = [None, None, None]
        self._texts: Sequence[list[Buffer]] | None = None  # the contents within the inline form
        self._files: Sequence[File] = ()
        self._raws: Sequence[Sequence[Buffer]] | None = None  # the contents within the raw form
        self._packed: dict[str, PackedContents | None] = {}  # by method
        self._waiting: tuple[list[Callable[[], None]], ...] = ([], [], [])
        self._started = [False, False, False]
        try:
            self._locks = (threading.Lock(), threading.Lock(), threading.Lock())
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
        attributes = dict(attributes)
        contents, heads = [], []
        for member in members:
            data = memoryview(member.data).cast("B")
            size = member.size if member.size and member.size > 0 else len(data)  # 0 announces no descriptor
            heads.append(wire.BlobHead(member.name, member.format, size, len(data)))
            if len(data):
                contents.append(Memory(data, size))
        pieces = wire.around_blobs(tag, attributes, heads)
        formats = tuple(head.format or "" for head in heads if head.length)
        carried = frozenset(head.name for head in heads if head.length)
        device, name = attributes.get("device"), attributes.get("name")

        def envelope(form: Form) -> Sequence[bytes]:
            if form == INLINE:
                return pieces
            return (wire.blobs_beside(tag, attributes, heads, "raw" if form == RAW else "true"),)

        return cls(tag, device, name, formats, carried, contents, envelope)

    @classmethod
    def of(cls, element: Element, files: Sequence[File] = (), raws: Iterable[Sequence[Buffer]] = ()) -> BlobMessage:
        """Make a message from a received element.

        Args:
            element: The element.
            files: The files whose descriptors came with it.
            raws: The contents that came as raw bytes, in pieces.
        """
        formats = element.formats
        contents: Sequence[Content] = files
        if len(files) < len(formats):
            contents = _gathered(element, files, raws)
        message = cls(
            element.tag,
            element.device,
            element.name,
            formats,
            element.carried,
            contents,
            element.envelope,
            element.size,
        )
        message._element = element
        if not element.attached:
            message._made[INLINE] = element.parts(INLINE)
            message.came_inline = True
        return message

    # -- The Routable interface

    def parts(self, form: Form) -> Sequence[Buffer] | None:
        """Return the pieces of a form. A small form is made at once; a large one is None until it is ready."""
        made = self._made[form]
        if made is None and self._is_quick(form) and not self._waiting[form]:
            self._make(form)
            self._report()
            made = self._made[form]
        return made

    def whole(self, form: Form) -> bool:
        """Return whether this form is complete."""
        return self.parts(form) is not None and (form != INLINE or not self.growing)

    def fds(self) -> Sequence[int]:
        """Return one descriptor per BLOB; empty until the attached form is ready."""
        return [file.fd for file in self._files]

    def when_ready(self, form: Form, callback: Callable[[], None]) -> None:
        """Make a form in a thread, and call `callback` once when (more of) it is ready. See `Routable.when_ready`."""
        self._waiting[form].append(callback)
        if not self._started[form]:
            self._started[form] = True
            loop = asyncio.get_running_loop()
            notify = partial(loop.call_soon_threadsafe, self._notify, INLINE)
            job = loop.run_in_executor(None, self._make, form, notify)
            job.add_done_callback(lambda job: self._finished(form, job))

    def packed(self, method: str) -> PackedContents | None:
        """Return the contents as they are compressed for all receivers that want this method.

        Call this once the raw form is ready, on the event loop's thread, which may be the first to ask for it.

        Returns:
            The contents, perhaps not yet ready; None if there is nothing to be gained, as their formats say.
        """
        if method not in self._packed:
            give_up = partial(_give_up, ref(self), method)
            self._packed[method] = None if self._raws is None else pack(self._raws, self.formats, method, give_up)
        return self._packed.get(method)

    def head(self) -> bytes:
        """Return the XML without the contents, for logs."""
        return b"".join(self._envelope(ATTACHED))

    def raw(self) -> RawForm | None:
        """Return the message with its contents as bytes; None while these are in buffers that a driver may change.

        After `whole(INLINE)`, None means that the contents are lost.
        """
        contents = self._contents
        if any(isinstance(content, Memory) and not content.lasting for content in contents):
            lasting = self._lasting(contents)
            if lasting is None:
                return None
            contents = lasting
        return RawForm(self._envelope(INLINE), contents)

    def element(self) -> Element:
        """Return the message as an element, which contains its BLOBs except those announced as attached.

        Use `opened` to get the content of those as well.

        Raises:
            MemoryError: There is not enough memory to parse the message.
        """
        if self._element is None:
            pieces = self._envelope(ATTACHED)
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
        with self._locks[ATTACHED]:  # the buffers belong to a driver until `release`
            content = self._contents[at]
            if isinstance(content, Memory):
                return content.read()
        return content.read()

    def views(self) -> Iterator[tuple[Member, Callable[[], bytes | memoryview]]]:
        """Yield the BLOBs that came beside the message, each with a function that returns it in memory.

        This is for receivers that trust the sender: files are mapped.

        Yields:
            The member, and a function that returns its content (a read-only view if that came in a file), or raises
            OSError or ValueError if it can't be mapped. A view remains valid without the message.
        """
        for member, content in zip(self.element().blobs, self._contents, strict=True):
            if isinstance(content, File):
                yield member, content.view
            elif isinstance(content, Pieces):
                yield member, content.read

    # -- Making the forms

    def _is_quick(self, form: Form) -> bool:
        """Return whether making this form takes too little time to need a thread."""
        if self._length < LARGE:
            return True
        if form == RAW:
            return all(isinstance(content, Pieces) for content in self._contents)
        return form == ATTACHED and all(content.shared for content in self._contents)

    def release(self) -> None:
        """Release the driver's buffers. Forms requested later are made from an existing form.

        Call this once the requested forms are ready. Otherwise it waits for those that are being made, and makes the
        inline form if there is no form yet.
        """
        if (self._made[INLINE] is None and not self._files and self._raws is None) or self.growing:
            self._make(INLINE)
        for form in (INLINE, RAW):
            with self._locks[form]:  # the thread of a form that is no longer wanted may still be reading
                pass
        with self._locks[ATTACHED]:
            if not self._files:
                self._contents = self._lasting(self._contents) or self._contents

    def _lasting(self, contents: Sequence[Content]) -> Sequence[Content] | None:
        """Return contents that are read from another form; None if there is none."""
        if self._raws is not None:
            return [Pieces(raw, old.size) for raw, old in zip(self._raws, contents, strict=True)]
        if self._texts is not None:
            return [Encoded(text, old.length, old.size) for text, old in zip(self._texts, contents, strict=True)]
        return None

    def _make(self, form: Form, notify: Callable[[], object] | None = None) -> None:
        """Make one form, in any thread; `notify` is called whenever more of the inline form is ready."""
        with self._locks[form]:
            if self._made[form] is not None:
                return
            try:
                if form == ATTACHED:
                    self._make_attached()
                elif form == RAW:
                    self._make_raw()
                else:
                    self._make_inline(notify)
            except (OSError, OverflowError, MemoryError) as exc:
                if form == ATTACHED:  # without a shared file: every receiver accepts the inline form as well
                    self._complain(logging.WARNING, "is sent inline: %s", exc)
                    self._make(INLINE)
                    self._made[ATTACHED] = self._made[INLINE]
                else:
                    self._refuse(form, exc)
            except DescriptorError as exc:
                self._refuse(form, exc)

    def _make_inline(self, notify: Callable[[], object] | None) -> None:
        contents = self._contents
        for content in contents:
            content.check()
        first, *others = self._envelope(INLINE)
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
                if notify is not None and unreported >= BLOCK:
                    unreported = 0
                    self.growing = True
                    self._made[INLINE] = made
                    notify()
            made.append(piece)
        self._texts = texts
        self._made[INLINE] = made
        self.growing = False

    def _text(self, content: Content, before: list[Buffer]) -> Iterator[Buffer]:
        """Yield the base64 of a content. If any of the message was already sent, missing bytes become zeros."""
        try:
            yield from content.text()
        except (OSError, DescriptorError, MemoryError) as exc:
            if not self.growing:
                raise
            self._fault = "BLOB filled up"
            self._complain(logging.ERROR, "is padded with zero bytes: %s", exc)
            missing = content.length - sum(map(len, before)) // 4 * 3
            for start in range(0, missing, BLOCK):
                yield encode(bytes(min(BLOCK, missing - start)))

    def _make_attached(self) -> None:
        files = []
        for content in self._contents:
            file = File(0, content.size)
            file.fd = content.file()
            file.length = content.length
            file.inspect()
            files.append(file)
        self._contents = self._files = files
        self._made[ATTACHED] = self._envelope(ATTACHED)

    def _make_raw(self) -> None:
        raws = [content.raw() for content in self._contents]
        made: list[Buffer] = [b"".join(self._envelope(RAW)).rstrip()]  # the bytes begin right after the XML
        for raw in raws:
            for piece in raw:  # a stream takes whole pieces
                made += [piece] if len(piece) <= BLOCK else slices(memoryview(piece), BLOCK)
        made.append(END_MARK)
        self._raws = raws
        self._made[RAW] = made

    def _refuse(self, form: Form, exc: BaseException) -> None:
        self._complain(logging.ERROR, "is lost: %s", exc)
        self._fault = "BLOB lost"
        self._made[form] = _REFUSED
        if form == INLINE:
            self.growing = False

    def _complain(self, level: int, what: str, exc: BaseException) -> None:
        """Log a problem at a limited rate, as it may occur with every frame."""
        text = "BLOB of %s.%s " + what
        _complaints.say(level, time.monotonic(), text, for_log(self.device), for_log(self.name), str(exc) or repr(exc))

    def _finished(self, form: Form, job: asyncio.Future[None]) -> None:
        if not job.cancelled() and (exc := job.exception()) is not None:
            self._refuse(form, exc)
        self._notify(form)

    def _notify(self, form: Form) -> None:
        """Call those who wait for a form, as (more of) it is ready."""
        waiting = self._waiting[form]
        callbacks = [self._report, *waiting]
        waiting.clear()
        call_all(callbacks, time.monotonic())

    def _report(self) -> None:
        """Call `on_fault`, once, if something went wrong."""
        if self._fault is not None and self.on_fault is not None:
            on_fault, self.on_fault = self.on_fault, None
            on_fault(self._fault)


def _give_up(found: Callable[[], BlobMessage | None], method: str) -> None:
    """Have a message forget what was compressed for it."""
    if (message := found()) is not None:
        message._packed.pop(method, None)


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
    files: Sequence[File] = ()
    if element.descriptors and descriptors is not None:
        files = descriptors.take(element)
    elif element.attached:
        raise DescriptorError("a BLOB was announced as attached on a connection that carries no descriptors")
    if not (files or element.blob):
        return element
    message = BlobMessage.of(element, files)
    if files:
        message.on_fault = on_fault
    return message


def _gathered(element: Element, files: Iterable[File], raws: Iterable[Sequence[Buffer]]) -> list[Content]:
    """Return the contents of an element, some of which came inline, or as raw bytes."""
    file, raw = iter(files), iter(raws)
    contents: list[Content] = []
    for member in element.blobs:
        if not member.attached:
            contents.append(Text(member) if member.slices else decoded(member))
        elif member.raw:
            contents.append(Pieces(next(raw), member.blob_size or 0))
        else:
            contents.append(next(file))
    return contents
