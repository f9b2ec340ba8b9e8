"""Descriptors that carry BLOBs between processes of one machine (INDI's attached BLOBs)."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from indifast.protocol.message import Buffer

if TYPE_CHECKING:
    from indifast._parser import Element, Member, Tokenizer

ROUNDING = 1 << 20
"""The size of a shared file is a multiple of this (as libindi makes them)."""

MAX_WAITING = 256
"""Descriptors that a peer may send ahead of the elements they belong to."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1; F_SEAL_WRITE would break libindi's shared mapping on kernels before 6.7


LARGEST = 1 << 40
"""Bytes; a `size` from here on is a lie."""


class DescriptorError(ValueError):
    """A descriptor that came with a message is missing or is not what the message says."""


class BlobTooLarge(DescriptorError):
    """All is well with the descriptors of a message, but its content exceeds what is taken."""


def share(data: Buffer, size: int = 0) -> int:
    """A read-only descriptor of a new shared file that begins with `data` and can't be changed any more.

    The file has room for `size` bytes where that is more than the data: libindi's clients map that much, and would
    die of a shorter file. Raises OSError.
    """
    view = memoryview(data).cast("B")
    return share_blocks((view,), max(len(view), size))


def share_copy(source: int, length: int, size: int) -> int:
    """As `share`, of the first `length` bytes of another file. A short file is a DescriptorError."""
    return share_blocks(read_blocks(source, length), max(length, size))


def share_blocks(blocks: Iterable[Buffer], room: int) -> int:
    """As `share`, of content that comes in pieces; `room` bytes at least."""
    fd = os.memfd_create("indi-blob", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, -(-room // ROUNDING) * ROUNDING)
        offset = 0
        for block in blocks:
            offset += _write_at(fd, block, offset)
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | _F_SEAL_FUTURE_WRITE)
        except OSError:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return reopen_read_only(fd)
    finally:
        os.close(fd)


def _write_at(fd: int, data: Buffer, offset: int) -> int:
    view = memoryview(data)
    written = 0
    while written < len(view):
        written += os.pwrite(fd, view[written:], offset + written)
    return written


def reopen_read_only(fd: int) -> int:
    """Another descriptor of the same file, through which it can't be written; of the same rights without /proc."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


def announced(member: Member) -> tuple[int, int]:
    """Bytes stored and bytes announced of an attached BLOB. DescriptorError when a size is missing or no number."""
    size, length = member.blob_size, member.blob_length
    if size is None:
        raise DescriptorError("an attached BLOB without a valid size")
    if length is None:
        raise DescriptorError("an attached BLOB without a valid len")
    if not (0 <= length < LARGEST and 0 <= size < LARGEST):
        raise DescriptorError(f"an attached BLOB of impossible size ({length} of {size} bytes)")
    return length, size


def check_received(fd: int) -> int:
    """The size of a file that a peer has sent; a DescriptorError if it is none, or none that the peer itself may read.

    Whoever may not read a file can open it all the same, for writing or with O_PATH. We read it by our own rights, and
    hand it on, so such a descriptor would give away what the system keeps from its sender.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE not in (os.O_RDONLY, os.O_RDWR):  # O_PATH has the mode of O_RDONLY
        raise DescriptorError("the descriptor of a BLOB is not open for reading")
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise DescriptorError("the descriptor of a BLOB is no regular file")
    return status.st_size


def check(fd: int, length: int) -> int:
    """The size of a file; a DescriptorError when it does not hold `length` bytes (any more)."""
    size = os.fstat(fd).st_size
    if size < length:
        raise DescriptorError(f"the file of a BLOB holds {size} bytes instead of {length}")
    return size


def read_blocks(fd: int, end: int, block: int = 3 << 18, start: int = 0) -> Iterable[memoryview]:
    """The bytes from `start` to `end` in pieces; each is overwritten by the next. A short file is a DescriptorError.

    Read, not mapped: whoever shares the file may truncate it at any time, and a mapping would be fatal then.
    """
    buffer = memoryview(bytearray(min(block, end - start)))
    offset = start
    while offset < end:
        filled, wanted = 0, min(len(buffer), end - offset)
        while filled < wanted:
            nbytes = os.preadv(fd, [buffer[filled:wanted]], offset + filled)
            if not nbytes:
                raise DescriptorError(f"the file of a BLOB ends after {offset + filled} of {end} bytes")
            filled += nbytes
        yield buffer[:wanted]
        offset += wanted


def read_all(fd: int, length: int) -> bytes:
    """The first `length` bytes. A short file is a DescriptorError."""
    data = bytearray(length)
    offset = 0
    for block in read_blocks(fd, length, block=1 << 22):
        data[offset : offset + len(block)] = block
        offset += len(block)
    return bytes(data)


def view(fd: int, length: int) -> memoryview:
    """A read-only view of the first `length` bytes, in the pages of the one who shares them; `fd` may be closed then.

    For consumers that trust the sender, as local clients trust their server: it may truncate the file under the view.
    A short file is a DescriptorError.
    """
    check(fd, length)
    if not length:
        return memoryview(b"")
    return memoryview(mmap.mmap(fd, length, prot=mmap.PROT_READ)).toreadonly()


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        try:  # noqa: SIM105 - `suppress` takes memory, for want of which they may be closed
            os.close(fd)
        except OSError:
            pass


class DescriptorQueue:
    """Received descriptors that wait for their elements: the n-th announced BLOB of a connection takes the n-th.

    For each read: `put` the descriptors that came with it, feed the tokenizer, `settle`, and let each element that
    announces BLOBs `take` its own. A peer sends the descriptors of a message with its first bytes, so where nothing is
    unfinished, none can be on their way.
    """

    def __init__(self, tokenizer: Tokenizer, blob: int, message: int | None = None) -> None:
        """`blob`: bytes of one BLOB that are taken; `message`: of all those of one message together.

        Files cost those who send them nothing, if they are sparse, but much memory those who encode what is in them.
        """
        self._tokenizer = tokenizer
        self._blob = blob
        self._message = message
        self._waiting: deque[int] = deque()
        self._skipped_bytes = tokenizer.skipped_bytes
        self._lost = tokenizer.lost_attached
        self._mixed = False  # whose those of this read were can't be known
        self._empty_bring: bool | None = (
            None  # BLOBs of size 0 have brought descriptors as well; None: nobody has looked
        )
        self._unsure = False  # nor whose those will be that come until the unfinished element is complete

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, fds: Sequence[int]) -> None:
        """Take over `fds`. DescriptorError when more wait than any sensible peer sends ahead."""
        try:
            self._waiting += fds
        except MemoryError:
            close_all(fd for fd in fds if fd not in self._waiting)
            raise
        if len(self._waiting) > MAX_WAITING:
            self.close()
            self._unsure = True
            raise DescriptorError(f"more than {MAX_WAITING} descriptors without the BLOBs they belong to")

    def settle(self, elements: Sequence[Element]) -> None:
        """Keep the descriptors of messages that the tokenizer has skipped from becoming the next one's.

        How many these are can't be known: a message may be damaged before it has announced them all. So what was
        skipped takes all descriptors with it that are not exactly those of the complete elements, and where it may have
        had some of these, `take` fails for them.
        """
        waiting, with_empty = len(self._waiting), sum(element.descriptors for element in elements)
        if waiting:
            self._empty_bring = waiting >= with_empty
        skipped_bytes = self._tokenizer.skipped_bytes
        if skipped_bytes == self._skipped_bytes and not self._unsure:
            self._mixed = False
            return
        lost = self._tokenizer.lost_attached - self._lost
        self._skipped_bytes = skipped_bytes
        self._lost += lost
        unfinished = self._tokenizer.held > 0
        announced = sum(element.attached for element in elements)
        if self._unsure:
            self._mixed, self._unsure = True, unfinished
        else:
            self._mixed = waiting not in (announced, with_empty) or lost > 0
            self._unsure = self._mixed and unfinished and (announced > 0 or waiting > lost)
        if self._mixed:
            self.close()

    def take(self, element: Element) -> list[int]:
        """The descriptors of an element, one for each BLOB whose content it announces, which belong to the caller.

        A BLOB of size 0 announces none, but libindi's servers send one all the same, which is closed. Others need not:
        where fewer have come with a read than it has BLOBs, those of size 0 have brought none.

        DescriptorError when they are too few, may be another message's, or are not what a peer may send, BlobTooLarge
        when there is more in them than is taken; they are closed then.
        """
        if self._mixed:
            if not element.attached:
                return []
            raise DescriptorError("its descriptors can't be told apart from those of a damaged message")
        members = [member for member in element.members if member.descriptor]
        if len(self._waiting) < len(members) or self._empty_bring is False:
            members = [member for member in members if member.attached]
        found = list(islice(self._waiting, len(members)))
        taken = [fd for member, fd in zip(members, found, strict=False) if member.attached]
        try:
            if len(found) < len(members):
                raise DescriptorError(f"{len(members)} BLOBs were announced as attached, with {len(found)} descriptors")
            self._check(members, found)
        except BaseException:
            taken.clear()
            raise
        finally:  # what goes wrong before leaves them in the queue, where they are closed with it
            for fd in found:
                self._waiting.popleft()
                if fd not in taken:
                    close_all((fd,))
        return taken

    def _check(self, members: Sequence[Member], fds: Sequence[int]) -> None:
        total = 0
        for member, fd in zip(members, fds, strict=True):
            if not member.attached:
                if member.blob_size is None or member.blob_size < 0:
                    raise DescriptorError("an attached BLOB without a valid size")
                continue
            length = min(check_received(fd), announced(member)[0])  # what receivers get
            if length > self._blob:
                raise BlobTooLarge(f"a BLOB of {length} bytes, more than {self._blob}")
            total += length
        if self._message is not None and total > self._message:
            raise BlobTooLarge(f"BLOBs of {total} bytes in all, more than {self._message}")

    def close(self) -> None:
        """Close those that wait."""
        close_all(self._waiting)
        self._waiting.clear()
