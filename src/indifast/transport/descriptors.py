"""Received descriptors on their way to the messages that they belong to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from indifast.transport import shm
from indifast.transport.contents import File
from indifast.transport.shm import BlobTooLarge, DescriptorError, close_all

if TYPE_CHECKING:
    from indifast._parser import Element, Tokenizer

MAX_WAITING = 256
"""The number of descriptors that a peer may send ahead of the elements that they belong to."""


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

    def take(self, element: Element) -> list[File]:
        """Return the files of an element, one for each BLOB whose content it announces.

        They are checked, and closed with these objects. A BLOB of size 0 announces no content, but libindi's servers
        send a descriptor for it anyway, which is closed. Other peers may not: if a read brings fewer descriptors than
        its elements have BLOBs, none of them belong to BLOBs of size 0.

        Raises:
            DescriptorError: There are too few descriptors, they may belong to another message, the peer may not send
                them, or they do not match what the element says. They are closed.
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

    def _take(self, element: Element) -> list[File]:
        waiting = self._waiting
        announced = element.announced
        if len(waiting) < len(announced) or self._empty_bring is False:
            announced = [each for each in announced if each[0]]
        left = len(announced)
        files: list[File] = []
        total = 0
        try:
            if len(waiting) < left:
                raise DescriptorError(f"{left} attached BLOBs came with {len(waiting)} descriptors")
            for carries, size, length in announced:
                file = File(length or 0, size or 0)
                file.fd = waiting.popleft()
                left -= 1
                if carries:
                    file.holds = shm.check_received(file.fd)
                    shm.check_announced(size, length)
                    total += self._limited(min(file.holds, file.length))  # what the receivers get
                    files.append(file)
                elif size is None or size < 0:
                    raise DescriptorError("an attached BLOB without a valid size")
            if self._message is not None and total > self._message:
                raise BlobTooLarge(f"BLOBs of {total} bytes in all, more than {self._message}")
            for file in files:
                file.measure()
        finally:  # an earlier exception leaves them in the queue
            for _ in range(min(left, len(waiting))):
                close_all((waiting.popleft(),))
        return files

    def _limited(self, length: int) -> int:
        if length > self._blob:
            raise BlobTooLarge(f"a BLOB of {length} bytes, more than {self._blob}")
        return length

    def close(self) -> None:
        """Close all waiting descriptors."""
        close_all(self._waiting)
        self._waiting.clear()
