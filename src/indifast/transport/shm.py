"""File descriptors that carry BLOBs between processes of one machine (INDI's attached BLOBs)."""

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
"""Bytes. The size of a shared file is a multiple of this, as in libindi."""

MAX_WAITING = 256
"""The number of descriptors that a peer may send ahead of the elements that they belong to."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1; F_SEAL_WRITE would break libindi's shared mapping on kernels before 6.7


LARGEST = 1 << 40
"""Bytes. A `size` of this or more can't be true."""


class DescriptorError(ValueError):
    """A descriptor of a message is missing or does not match what the message says."""


class BlobTooLarge(DescriptorError):
    """The descriptors of a message are valid, but its content exceeds the limit."""


def share(data: Buffer, size: int = 0) -> int:
    """Return a read-only descriptor of a new shared file that begins with `data` and can no longer be changed.

    Args:
        data: The content.
        size: The minimum size of the file. libindi's clients map this many bytes, and would crash if the file were
            shorter.

    Raises:
        OSError: The file can't be made.
    """
    view = memoryview(data).cast("B")
    return share_blocks((view,), max(len(view), size))


def share_copy(source: int, length: int, size: int) -> int:
    """Do the same as `share` with the first `length` bytes of another file.

    Raises:
        DescriptorError: The other file is too short.
        OSError: The new file can't be made.
    """
    return share_blocks(read_blocks(source, length), max(length, size))


def share_blocks(blocks: Iterable[Buffer], room: int) -> int:
    """Do the same as `share` with content in pieces. The file has at least `room` bytes."""
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
    """Return another descriptor of the same file, through which it can't be written.

    Without /proc, the new descriptor has the same access as `fd`.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


def announced(member: Member) -> tuple[int, int]:
    """Return how many bytes of an attached BLOB are stored, and its announced size.

    Raises:
        DescriptorError: A size is missing, not a number, or impossible.
    """
    size, length = member.blob_size, member.blob_length
    if size is None:
        raise DescriptorError("an attached BLOB without a valid size")
    if length is None:
        raise DescriptorError("an attached BLOB without a valid len")
    if not (0 <= length < LARGEST and 0 <= size < LARGEST):
        raise DescriptorError(f"an attached BLOB of impossible size ({length} of {size} bytes)")
    return length, size


def check_received(fd: int) -> int:
    """Check a file that a peer has sent, and return its size.

    A process that may not read a file may still be able to open it for writing or with O_PATH. We would read it with
    our own rights and pass it on, so such a descriptor would disclose what the system hides from its sender.

    Raises:
        DescriptorError: The descriptor is not a regular file, or the peer itself may not read it.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE not in (os.O_RDONLY, os.O_RDWR):  # O_PATH has the mode of O_RDONLY
        raise DescriptorError("the descriptor of a BLOB is not open for reading")
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise DescriptorError("the descriptor of a BLOB is not a regular file")
    return status.st_size


def check(fd: int, length: int) -> int:
    """Return the size of a file that should hold at least `length` bytes.

    Raises:
        DescriptorError: The file is shorter, perhaps because it has been truncated.
    """
    size = os.fstat(fd).st_size
    if size < length:
        raise DescriptorError(f"the file of a BLOB holds {size} bytes instead of {length}")
    return size


def is_frozen(fd: int, length: int) -> bool:
    """Return whether the first `length` bytes of a file can be neither cut off nor changed, and are in memory.

    If they are, a mapping of them is safe: its pages exist, and stay.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # not a file in memory
        return False
    unwritable = seals & (fcntl.F_SEAL_WRITE | _F_SEAL_FUTURE_WRITE)
    return bool(seals & fcntl.F_SEAL_SHRINK and unwritable) and os.fstat(fd).st_blocks * 512 >= length


def read_blocks(fd: int, end: int, block: int = 3 << 18, start: int = 0) -> Iterable[memoryview]:
    """Yield the bytes from `start` to `end` in pieces of `block` bytes. Each piece overwrites the previous one.

    The file is read, not mapped: its owner may truncate it at any time, and then access to a mapping would be fatal.

    Raises:
        DescriptorError: The file is too short.
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
    """Return the first `length` bytes of a file. Raise DescriptorError if it is too short."""
    data = os.pread(fd, length, 0)
    if len(data) == length:
        return data
    pieces = [data]  # the system reads at most 2 GiB at once
    done = len(data)
    while done < length:
        data = os.pread(fd, length - done, done)
        if not data:
            raise DescriptorError(f"the file of a BLOB ends after {done} of {length} bytes")
        pieces.append(data)
        done += len(data)
    return b"".join(pieces)


def view(fd: int, length: int) -> memoryview:
    """Return a read-only view of the first `length` bytes, in the sender's own pages.

    `fd` may be closed afterwards. This is for receivers that trust the sender, as local clients trust their server:
    the sender could truncate the file under the view.

    Raises:
        DescriptorError: The file is too short.
    """
    check(fd, length)
    if not length:
        return memoryview(b"")
    return memoryview(mmap.mmap(fd, length, prot=mmap.PROT_READ)).toreadonly()


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors, ignoring errors."""
    for fd in fds:
        try:  # noqa: SIM105 - `suppress` needs memory, and a lack of memory may be why they are closed
            os.close(fd)
        except OSError:
            pass


class DescriptorQueue:
    """Received descriptors that wait for their elements. The nth announced BLOB of a connection gets the nth one.

    For each read, `put` the descriptors that came with it, feed the tokenizer, call `settle`, and `take` the
    descriptors of each element that announces BLOBs. A peer sends the descriptors of a message with its first bytes, so
    if no element is unfinished, no more descriptors can arrive for earlier elements.

    Sparse files cost the sender nothing, but cost much memory to encode, so their size is limited.

    Args:
        tokenizer: The tokenizer of the connection.
        blob: The maximum size of one BLOB in bytes.
        message: The maximum size of all BLOBs of one message together; None for no limit.
    """

    def __init__(self, tokenizer: Tokenizer, blob: int, message: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._blob = blob
        self._message = message
        self._waiting: deque[int] = deque()
        self._skipped_bytes = tokenizer.skipped_bytes
        self._lost = tokenizer.lost_attached
        self._mixed = False  # the owners of the descriptors of this read are unknown
        self._unsure = False  # so are those of descriptors that arrive until the unfinished element is complete
        # Whether BLOBs of size 0 have come with descriptors as well; None if not known yet.
        self._empty_bring: bool | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, fds: Sequence[int]) -> None:
        """Take ownership of `fds`.

        Raises:
            DescriptorError: More descriptors are waiting than any sensible peer sends ahead.
        """
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
        """Prevent the descriptors of skipped messages from being taken by the next message.

        How many descriptors belonged to a skipped message is unknown, because it may have been damaged before it
        announced them all. So all descriptors are closed unless they are exactly those of the complete elements. If
        some of these may have belonged to a skipped message, `take` fails for the complete elements.
        """
        waiting, with_empty = len(self._waiting), sum([element.descriptors for element in elements])
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
        """Return the descriptors of an element, one for each BLOB whose content it announces.

        They then belong to the caller. A BLOB of size 0 announces no content, but libindi's servers send a descriptor
        for it anyway, which is closed. Other peers may not: if a read brings fewer descriptors than its elements have
        BLOBs, none of them belong to BLOBs of size 0.

        Raises:
            DescriptorError: There are too few descriptors, they may belong to another message, or the peer may not send
                them. They are closed.
            BlobTooLarge: They contain more than the limit. They are closed.
            MemoryError: There is not enough memory. All waiting descriptors are closed.
        """
        if self._mixed:
            if not element.attached:
                return []
            raise DescriptorError("its descriptors can't be told apart from those of a damaged message")
        try:
            return self._take(element)
        except MemoryError:
            self._mixed = self._unsure = True  # any that remain do not belong to the next message
            self.close()
            raise

    def _take(self, element: Element) -> list[int]:
        members = [member for member in element.members if member.descriptor]
        if len(self._waiting) < len(members) or self._empty_bring is False:
            members = [member for member in members if member.attached]
        found = list(islice(self._waiting, len(members)))
        taken = [fd for member, fd in zip(members, found, strict=False) if member.attached]
        try:
            if len(found) < len(members):
                raise DescriptorError(f"{len(members)} attached BLOBs came with {len(found)} descriptors")
            self._check(members, found)
        except BaseException:
            taken.clear()
            raise
        finally:  # an earlier exception leaves them in the queue
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
            length = min(check_received(fd), announced(member)[0])  # what the receivers get
            if length > self._blob:
                raise BlobTooLarge(f"a BLOB of {length} bytes, more than {self._blob}")
            total += length
        if self._message is not None and total > self._message:
            raise BlobTooLarge(f"BLOBs of {total} bytes in all, more than {self._message}")

    def close(self) -> None:
        """Close all waiting descriptors."""
        close_all(self._waiting)
        self._waiting.clear()
