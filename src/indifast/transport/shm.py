"""File descriptors that carry BLOBs between processes of one machine (INDI's attached BLOBs)."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable

from indifast._descriptors import NO_FILE, UNREADABLE, size_if_readable, size_of
from indifast._descriptors import reopen_read_only as reopen
from indifast.protocol.message import Buffer

ROUNDING = 1 << 20
"""Bytes. The size of a shared file is a multiple of this, as in libindi."""

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
        return reopen(fd)
    except OSError:
        return os.dup(fd)


def check_announced(size: int | None, length: int | None) -> None:
    """Check the `blob_size` and the `blob_length` that a message announces for a descriptor.

    Raises:
        DescriptorError: One is missing, not a number, or impossible.
    """
    if size is None:
        raise DescriptorError("an attached BLOB without a valid size")
    if length is None:
        raise DescriptorError("an attached BLOB without a valid len")
    if not (0 <= length < LARGEST and 0 <= size < LARGEST):
        raise DescriptorError(f"an attached BLOB of impossible size ({length} of {size} bytes)")


def check_received(fd: int) -> int:
    """Check a file that a peer has sent, and return its size.

    A process that may not read a file may still be able to open it for writing or with O_PATH. We would read it with
    our own rights and pass it on, so such a descriptor would disclose what the system hides from its sender.

    Raises:
        DescriptorError: The descriptor is not a regular file, or the peer itself may not read it.
    """
    size = size_if_readable(fd)
    if size == UNREADABLE:
        raise DescriptorError("the descriptor of a BLOB is not open for reading")
    if size == NO_FILE:
        raise DescriptorError("the descriptor of a BLOB is not a regular file")
    return size


def check_size(size: int, length: int) -> None:
    """Check the size of a file that should hold at least `length` bytes.

    Raises:
        DescriptorError: The file is shorter, perhaps because it has been truncated.
    """
    if size < length:
        raise DescriptorError(f"the file of a BLOB holds {size} bytes instead of {length}")


def check(fd: int, length: int) -> None:
    """Do the same with a file whose size is not known."""
    check_size(size_of(fd), length)


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
