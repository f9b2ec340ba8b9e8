"""Frames that are compressed for slow links: by a thread, block by block, once for all receivers.

A frame is compressed when it is the next one to be written, never in advance: it might be replaced by a newer one. Its
first block leaves while the others are compressed. What does not become smaller is sent as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import TYPE_CHECKING
from weakref import ref

from indifast.compression import LZ4, ZSTD, Compressor, best_width_of, compressed_size, usable
from indifast.protocol.callbacks import call_all
from indifast.protocol.complaints import Complaints
from indifast.protocol.compress import AUTO, OFF
from indifast.protocol.message import Buffer
from indifast.routing.cutting import LARGEST_PIECE
from indifast.routing.packed import Block
from indifast.transport.cores import usable_cores

if TYPE_CHECKING:
    from indifast.transport.stream import Stream

BLOCK = LARGEST_PIECE
"""Bytes of the largest block: larger ones do not become smaller, and the first one would leave later."""

SMALLEST = 16 << 10
"""Bytes of content that are worth starting a thread."""

LEAST_GAIN = 0.05
"""The part by which a frame has to become smaller for all of this to be done."""

COMPRESSED = (
    ".z", ".gz", ".fz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", "jpg", "jpeg", ".jp2", ".jxl", ".png", ".gif",
    ".webp", ".mp4", ".mkv",
)  # fmt: skip
"""How the formats of what is compressed already end."""

UP_TO = {ZSTD: 25e6, LZ4: 200e6}
"""Bytes per second of a link up to which a method is chosen, the best one first.

Cameras' frames then take half the time. On faster links, the two programs have other things to do.
"""

MOST_THREADS = 4
"""Threads that compress at the same time, if there are as many processors: what is beside them has work to do, too."""

KEPT = 128 << 20
"""Bytes of finished compressed frames that a process keeps for further receivers. The oldest ones are made again."""

_complaints = Complaints(logging.getLogger(__name__))

_STAY = 1.25  # the method stays until the rate is this much higher
_SAMPLES = 4
_SAMPLE = 8 << 10  # bytes of each sample
_PAUSE = 0.1  # seconds before a thread tries again what fails for lack of memory


_shared: ref[ThreadPoolExecutor] | None = None


def threads() -> ThreadPoolExecutor:
    """Return the threads that compress, the same ones for everybody in this process.

    They are not those of the event loop, because what waits there waits for seconds while frames are compressed, and
    frames would wait for what programs do there. Each is started when it is needed. They end once nobody refers to
    them, which is when no connection is left that may compress.
    """
    global _shared
    found = None if _shared is None else _shared()
    if found is None:
        found = ThreadPoolExecutor(min(usable_cores(), MOST_THREADS), "indifast compression")
        _shared = ref(found)
    return found


def wanted(choice: str, stream: Stream) -> Callable[[], tuple[str, ...]]:
    """Return a function that says which methods one side of a connection allows.

    To find out imports libraries, so it should not be done before the other side is known to have any.

    Args:
        choice: One of `compression.CHOICES`. What is on this machine is compressed only by a method that is named.
        stream: The connection.
    """
    return lambda: usable(OFF if choice == AUTO and stream.nearby else choice)


class ByRate:
    """Chooses a method by the rate at which a peer takes what is written.

    Args:
        choice: One of `compression.CHOICES`. A method is used at any rate.
        methods: What was agreed on.
    """

    def __init__(self, choice: str, methods: Sequence[str]) -> None:
        self._choice = choice
        self._methods = methods
        self._method = ""
        self._threads = threads() if methods else None  # they stay from one frame to the next

    def __call__(self, rate: float) -> str:
        """Return the method for a peer that takes `rate` bytes per second, 0 if that is unknown; "" for none."""
        if self._choice != AUTO:
            self._method = self._choice if self._choice in self._methods else ""
        else:
            self._method = next((method for method in UP_TO if self._suits(method, rate)), "")
        return self._method

    def _suits(self, method: str, rate: float) -> bool:
        return method in self._methods and 0 < rate <= UP_TO[method] * (_STAY if method == self._method else 1)


def pack(
    contents: Sequence[Sequence[Buffer]],
    formats: Sequence[str],
    method: str,
    give_up: Callable[[], object] = lambda: None,
) -> PackedContents | None:
    """Have the contents of a message compressed, except for those whose format says that they are compressed already.

    Args:
        contents: The contents, each in pieces that never change.
        formats: Their formats.
        method: The method, which is installed.
        give_up: Called, in any thread, when there are too many finished ones in memory: the caller keeps it no longer.

    Returns:
        What is being compressed; None if there is too little of it.
    """
    fresh = [not format.lower().endswith(COMPRESSED) for format in formats]
    if sum(_length(content) for content, is_fresh in zip(contents, fresh, strict=True) if is_fresh) < SMALLEST:
        return None
    return PackedContents(contents, fresh, method, give_up)


class PackedContents:
    """The contents of a message, which are being compressed. See `indifast.routing.packed.Packed`.

    The thread stops once nobody refers to this any more: the frame was replaced, or its last receiver is gone.

    Args:
        contents: The contents, each in pieces that never change.
        fresh: For each, whether to compress it.
        method: The method.
        give_up: Makes its owner keep it no longer.
    """

    def __init__(
        self,
        contents: Sequence[Sequence[Buffer]],
        fresh: Sequence[bool],
        method: str,
        give_up: Callable[[], object] = lambda: None,
    ) -> None:
        self.worth: bool | None = None
        """Whether the contents become so much smaller that they are sent like this; None as long as nobody knows."""
        self._contents = contents
        self._fresh = fresh
        self._method = method
        self.give_up = give_up
        # All blocks as they are. Compressed ones take their places, so nothing is missing if memory runs out.
        blocks = [[Block(part) for part in _parts(content)] for content in contents]
        self._counts = [len(some) for some in blocks]
        self._blocks = list(chain.from_iterable(blocks))
        self._compressors: Iterator[Compressor | None] = iter(())  # of the blocks that are not ready
        self._ready = 0
        self._news = _News()
        self._threads = threads()
        try:
            asyncio.get_running_loop().run_in_executor(self._threads, _work, ref(self), self._news)
        except RuntimeError:  # no thread can be started any more
            self.worth = False

    @property
    def count(self) -> int:
        """How many blocks there are, ready or not."""
        return len(self._blocks)

    def block(self, at: int) -> Block | None:
        """Return a block; None if it is not ready."""
        return self._blocks[at] if at < self._ready else None

    def when_more(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when more is known or there are more blocks."""
        self._news.waiting[callback] = None

    # -- In a thread

    def go_on(self) -> bool:
        """Do the next step of the work; return whether there are more."""
        if self.worth is None:
            self._judge()
            return bool(self.worth)
        if not self.worth:
            return False
        at = self._ready
        compressor = next(self._compressors)
        if compressor is not None:
            self._blocks[at] = _compressed(memoryview(self._blocks[at].data), compressor)
        self._ready = at + 1
        if self._ready < len(self._blocks):
            return True
        _kept.add(self, sum(len(block.data) for block in self._blocks if block.method))
        return False

    def end(self) -> None:
        """Leave what is not compressed as it is."""
        self.worth = bool(self.worth)
        self._ready = len(self._blocks)

    def _judge(self) -> None:
        widths = self._widths()
        if widths is not None:
            compressors = [Compressor(self._method, width) if width else None for width in widths]
            self._compressors = chain.from_iterable(map(repeat, compressors, self._counts))
        self.worth = widths is not None

    def _widths(self) -> Sequence[int] | None:
        """Return the width by which to shuffle each content, 0 to leave it as it is; None if nothing is gained."""
        widths = []
        total = expected = 0.0
        for content, fresh in zip(self._contents, self._fresh, strict=True):
            length = _length(content)
            width, ratio = _judged(content, length, self._method) if fresh else (0, 1.0)
            widths.append(width if ratio <= 1 - LEAST_GAIN else 0)
            total += length
            expected += length * ratio
        return widths if expected <= total * (1 - LEAST_GAIN) else None


class _Kept:
    """The finished compressed frames of this process, which are given up beyond `KEPT` bytes, oldest first.

    The limits of a queue hold for frames as they are. A frame that waits in a slow queue may have been compressed for a
    fast one, and so takes memory for which no queue stands. A receiver that is in the middle of one that is given up
    finishes it. The newest one stays, however large it is: it may just be about to be sent.
    """

    def __init__(self) -> None:
        self.total = 0
        self._sizes: dict[ref[PackedContents], int] = {}
        self._lock = threading.RLock()  # `_gone` may be called in the middle of `add`

    def add(self, contents: PackedContents, size: int) -> None:
        """Keep one more, and give up others if these are too many. In any thread."""
        with self._lock:
            self._sizes[ref(contents, self._gone)] = size
            self.total += size
            while self.total > KEPT and len(self._sizes) > 1:
                oldest = next(iter(self._sizes))
                self.total -= self._sizes.pop(oldest)
                if (given_up := oldest()) is not None:
                    given_up.give_up()

    def _gone(self, reference: ref[PackedContents]) -> None:
        with self._lock:
            self.total -= self._sizes.pop(reference, 0)


_kept = _Kept()


class _News:
    """Those who wait for more of what a thread compresses. It outlives the contents: who waits is always told."""

    def __init__(self) -> None:
        self.waiting: dict[Callable[[], None], None] = {}
        self._loop = asyncio.get_running_loop()

    def tell(self) -> bool:
        """Have those called who wait: until this is done, nothing may come of a frame that is begun.

        Returns:
            False if the loop is closed.
        """
        while True:
            try:
                self._loop.call_soon_threadsafe(self._notify)
            except MemoryError:
                time.sleep(_PAUSE)
            except RuntimeError:
                return False
            else:
                return True

    def _notify(self) -> None:
        waiting, self.waiting = self.waiting, {}
        call_all(waiting, time.monotonic())


def _work(found: Callable[[], PackedContents | None], news: _News) -> None:
    """Compress contents, in a thread, as long as somebody has them."""
    try:
        more = True
        while more and (contents := found()) is not None:
            more = contents.go_on()
            del contents
            more = news.tell() and more
    except Exception as error:
        with contextlib.suppress(MemoryError):
            _complaints.say(logging.ERROR, time.monotonic(), "A frame is not compressed: %r", error, exc_info=error)
    finally:  # whatever happens, nobody waits for ever
        if (contents := found()) is not None:
            contents.end()
        news.tell()


def _compressed(part: memoryview, compressor: Compressor) -> Block:
    try:
        made = compressor.compress(part)
    except MemoryError:
        made = part
    return Block(part) if made is part else Block(made, compressor.method, compressor.width, len(part))


def _length(content: Sequence[Buffer]) -> int:
    return sum(map(len, content))


def _parts(content: Sequence[Buffer]) -> Iterator[memoryview]:
    """Return a content in parts of at most `BLOCK` bytes. Each is of one piece only, so nothing is copied."""
    for piece in content:
        view = memoryview(piece).cast("B")
        for start in range(0, len(view), BLOCK):
            yield view[start : start + BLOCK]


def _judged(content: Sequence[Buffer], length: int, method: str) -> tuple[int, float]:
    """Return by which width to shuffle a content, and to which part of its size it then shrinks, by samples."""
    samples = [_taken(content, start, _SAMPLE) for start in _places(length)]
    width = best_width_of(samples)
    return width, compressed_size(samples, method, width) / max(_length(samples), 1)


def _places(length: int) -> Sequence[int]:
    """Return where samples are taken: none where the header of a FITS file is, if there are several."""
    if length <= _SAMPLE * _SAMPLES:
        return range(0, length, _SAMPLE)
    return [(2 * number + 1) * (length - _SAMPLE) // (2 * _SAMPLES) // 8 * 8 for number in range(_SAMPLES)]


def _taken(content: Sequence[Buffer], start: int, size: int) -> bytes:
    """Return `size` bytes of a content, or less at its end."""
    found = []
    for piece in content:
        if start < len(piece):
            found.append(bytes(memoryview(piece).cast("B")[start : start + size]))
            size -= len(found[-1])
            start = len(piece)
        if not size:
            break
        start -= len(piece)
    return b"".join(found)
