"""The contents of BLOBs: in memory, in files, or as received. Each can be had in every form that a peer may want."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from indifast._base64 import Decoder, decode, encode, encode_into, encoded_length
from indifast._descriptors import Descriptor, size_of
from indifast._parser import BlockPool
from indifast.protocol.message import Buffer
from indifast.transport import shm

if TYPE_CHECKING:
    from indifast._parser import Member

BLOCK = 3 << 18
"""Bytes encoded at a time: 1 MiB of text; both fit in the cache."""

_pool = BlockPool(BLOCK // 3 * 4, 48)  # enough for a frame of 36 MiB


class Content(Protocol):
    """The content of one member."""

    length: int
    """The number of bytes; of received text, an upper limit until `file` or `raw` is called."""
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

    def raw(self) -> Sequence[Buffer]:
        """Return the content in pieces that last, `length` bytes in all.

        Raises:
            DescriptorError: The content ends early.
            OSError: The content can't be read.
        """
        ...

    def read(self) -> bytes:
        """Return the content in memory. Raise DescriptorError or OSError if it is gone."""
        ...

    def blocks(self, size: int) -> Iterable[memoryview]:
        """Return the content in pieces of `size` bytes, a multiple of 3. Each is valid until the next one is taken.

        Iterating raises DescriptorError or OSError if the content is gone, and MemoryError.
        """
        ...


class _InMemory:
    """What all contents in memory have in common."""

    shared = False

    def check(self) -> None:
        """Do nothing: content in memory is never missing."""


class Memory(_InMemory):
    """Content in a buffer that belongs to the user."""

    def __init__(self, data: memoryview, size: int) -> None:
        self.data = data
        self.length = len(data)
        self.size = size

    def text(self) -> Iterator[Buffer]:
        return map(encode_block, self.blocks(BLOCK))

    def file(self) -> int:
        return shm.share(self.data, self.size)

    def raw(self) -> Sequence[Buffer]:
        return [self.data] if self.lasting else [_copied(block) for block in slices(self.data, BLOCK)]

    def read(self) -> bytes:
        return bytes(self.data)

    def blocks(self, size: int) -> Iterator[memoryview]:
        return slices(self.data, size)

    @property
    def lasting(self) -> bool:
        """Whether the content can't change: a driver may fill its buffers again after `BlobMessage.release`."""
        return isinstance(self.data.obj, bytes)


class File(Descriptor):
    """Content in a file, ours or a peer's.

    The creator sets `fd`, and then calls `inspect`, or sets `holds` and calls `measure`.
    """

    __slots__ = ("holds", "length", "shared", "size")

    def __init__(self, length: int, size: int) -> None:
        self.length = length
        self.size = size
        self.holds = 0
        """The bytes of the whole file when it was last looked at."""
        self.shared = False

    def inspect(self) -> None:
        """Find out whether the file is large enough for all receivers.

        Raises:
            DescriptorError: The file is too short for the content.
        """
        self.holds = size_of(self.fd)
        self.measure()

    def measure(self) -> None:
        """Do the same after somebody else has looked at the file."""
        shm.check_size(self.holds, self.length)
        self.shared = self.holds >= self.size

    def check(self) -> None:
        """Raise DescriptorError if the sender has truncated the file since it arrived."""
        shm.check(self.fd, self.length)

    def text(self) -> Iterator[Buffer]:
        return map(encode_block, self.blocks(BLOCK))

    def file(self) -> int:
        if self.shared:
            return shm.reopen_read_only(self.fd)
        return shm.share_copy(self.fd, self.length, self.size)

    def raw(self) -> Sequence[Buffer]:
        self.check()
        if shm.is_frozen(self.fd, self.length):
            return [shm.view(self.fd, self.length)]
        return [_copied(block) for block in shm.read_blocks(self.fd, self.length, BLOCK)]

    def read(self) -> bytes:
        return shm.read_all(self.fd, self.length)

    def blocks(self, size: int) -> Iterable[memoryview]:
        return shm.read_blocks(self.fd, self.length, size)

    def view(self) -> memoryview:
        """Return the content in the sender's own pages, for receivers that trust the sender."""
        return shm.view(self.fd, self.length)


class Encoded(_InMemory):
    """Content in base64 that we made ourselves, so that each piece can be decoded separately."""

    def __init__(self, pieces: list[Buffer], length: int, size: int) -> None:
        self.pieces = pieces
        self.length = length
        self.size = size

    def text(self) -> Iterable[Buffer]:
        return self.pieces

    def file(self) -> int:
        return shm.share_blocks(map(decode, self.pieces), max(self.length, self.size))

    def raw(self) -> Sequence[Buffer]:
        return [decode(piece) for piece in self.pieces]

    def read(self) -> bytes:
        return b"".join(map(decode, self.pieces))

    def blocks(self, size: int) -> Iterator[memoryview]:
        if size == BLOCK and all(len(piece) == encoded_length(size) for piece in self.pieces[:-1]):
            return (memoryview(decode(piece)) for piece in self.pieces)
        return slices(memoryview(self.read()), size)


class Text(_InMemory):
    """Content in base64 as received, within an element."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.length = sum(map(len, member.slices)) // 4 * 3
        self.size = member.blob_size or 0

    def text(self) -> Iterable[Buffer]:
        return self._member.slices

    def file(self) -> int:
        data = self.read()
        self.length = len(data)  # the text may have ended with padding
        return shm.share(data, self.size if self.size < shm.LARGEST else 0)

    def raw(self) -> Sequence[Buffer]:
        data = self._decoded()
        self.length = len(data)
        return [data]

    def read(self) -> bytes:
        return self._member.data or b""

    def blocks(self, size: int) -> Iterator[memoryview]:
        return slices(memoryview(self._decoded()), size)

    def _decoded(self) -> Buffer:
        decoder = Decoder(self.length)  # `read` would keep a copy in the member
        for piece in self._member.slices:
            decoder.feed(piece)
        return decoder.finish()


class Pieces(_InMemory):
    """Content in memory that lasts, in pieces of any length: raw bytes as received, or as they were sent."""

    def __init__(self, pieces: Sequence[Buffer], size: int) -> None:
        self.pieces = pieces
        self.length = sum(map(len, pieces))
        self.size = size

    def text(self) -> Iterator[Buffer]:
        return map(encode_block, self.blocks(BLOCK))

    def file(self) -> int:
        return shm.share_blocks(self.pieces, max(self.length, self.size if self.size < shm.LARGEST else 0))

    def raw(self) -> Sequence[Buffer]:
        return self.pieces

    def read(self) -> bytes:
        return b"".join(self.pieces)

    def blocks(self, size: int) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(size, self.length)))
        filled = 0
        for piece in self.pieces:
            view = memoryview(piece)
            while view:
                if not filled and len(view) >= size:
                    yield view[:size]
                    view = view[size:]
                    continue
                taken = min(len(view), size - filled)
                buffer[filled : filled + taken] = view[:taken]
                view = view[taken:]
                filled += taken
                if filled == size:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]


def slices(data: memoryview, size: int) -> Iterator[memoryview]:
    """Return a buffer in pieces of `size` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))


def decoded(member: Member) -> Memory:
    """Return the content of a member that was decoded as it arrived."""
    data = member.data or b""
    return Memory(memoryview(data), max(member.blob_size or 0, len(data)))


def encode_block(data: memoryview) -> Buffer:
    """Return the base64 of at most `BLOCK` bytes. A long one is in memory that is reused once all receivers have it.

    New memory costs more than the encoding, because the kernel allocates it page by page and clears it.
    """
    if len(data) < BLOCK // 2:
        return encode(data)
    block = _pool.get()
    return memoryview(block)[: encode_into(data, block)]


def _copied(data: memoryview) -> Buffer:
    """Return a copy of at most `BLOCK` bytes that lasts; in the same memory if it is long."""
    if len(data) < BLOCK // 2:
        return bytes(data)
    copy = memoryview(_pool.get())[: len(data)]
    copy[:] = data
    return copy
