"""Descriptors that carry BLOBs between processes of one machine (INDI's attached BLOBs)."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol.message import Buffer

if TYPE_CHECKING:
    from indifast._parser import Element

ROUNDING = 1 << 20
"""The size of a shared file is a multiple of this (as libindi makes them)."""

MAX_WAITING = 256
"""Descriptors that a peer may send ahead of the elements they belong to."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_F_SEAL_FUTURE_WRITE = 0x10  # Linux 5.1; F_SEAL_WRITE would break libindi's shared mapping on kernels before 6.7


class DescriptorError(ValueError):
    """A descriptor that came with a message is missing or is not what the message says."""


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


def check(fd: int, length: int) -> int:
    """The size of a received file, if it is one and holds `length` bytes; else a DescriptorError."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise DescriptorError("the descriptor of a BLOB is no regular file")
    if status.st_size < length:
        raise DescriptorError(f"the file of a BLOB holds {status.st_size} bytes instead of {length}")
    return status.st_size


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
        with contextlib.suppress(OSError):
            os.close(fd)


class DescriptorQueue:
    """Received descriptors that wait for their elements: the n-th announced BLOB of a connection takes the n-th."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, fds: Sequence[int]) -> None:
        """Take over `fds`. DescriptorError when more wait than any sensible peer sends ahead."""
        self._waiting += fds
        if len(self._waiting) > MAX_WAITING:
            self.close()
            raise DescriptorError(f"more than {MAX_WAITING} descriptors without the BLOBs they belong to")

    def take(self, count: int) -> list[int]:
        """The next `count` descriptors, which belong to the caller.

        DescriptorError when there are fewer; those are closed.
        """
        found = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        if len(found) < count:
            close_all(found)
            raise DescriptorError(f"{count} BLOBs were announced as attached, with {len(found)} descriptors")
        return found

    def take_for(self, element: Element) -> list[int]:
        """As `take`, the descriptors of the BLOBs that an element announces as attached.

        One of size 0 announces none, but libindi's servers send one all the same, which is closed. Others need not:
        where fewer wait than there are such BLOBs, those of size 0 have brought none.
        """
        if element.descriptors == element.attached or len(self) < element.descriptors:
            return self.take(element.attached)
        members = [member for member in element.members if member.descriptor]
        found = dict(zip(members, self.take(len(members)), strict=True))
        if any(member.blob_size is None or member.blob_size < 0 for member in members):
            close_all(found.values())
            raise DescriptorError("an attached BLOB without a valid size")
        close_all(fd for member, fd in found.items() if not member.attached)
        return [fd for member, fd in found.items() if member.attached]

    def close(self) -> None:
        """Close those that wait."""
        close_all(self._waiting)
        self._waiting.clear()
