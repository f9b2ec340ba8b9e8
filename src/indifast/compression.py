"""Lossless compression of frames: the bytes of each pixel are separated (byte shuffle), then compressed by LZ4 or zstd.

Frames are compressed piece by piece, so that neither side needs memory for more than one piece, and each piece can be
inflated by itself. A piece that would not become smaller is kept as it is. What others have compressed is inflated
within stated limits: a piece is never larger than `PIECE`, whatever it claims, and anything that is not exactly what
it should be raises `CompressionError`.

LZ4 and zstd are an extra, `indifast[compression]`: see `installed`. Python 3.14 has zstd itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from indifast.protocol.compress import AUTO, OFF

if TYPE_CHECKING:  # otherwise imported when first needed: a server must start fast
    import numpy as np
    from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview

PIECE = 1 << 20
"""The most bytes that are compressed at once, and that a piece may inflate to."""

LZ4, ZSTD = "lz4", "zstd"
METHODS = (LZ4, ZSTD)
"""The methods, fastest first."""

CHOICES = (AUTO, OFF, *METHODS)
"""How the frames on a connection are compressed: where that pays, not at all, or by a method."""

WIDTHS = (1, 2, 4, 8)
"""The widths of pixels in bytes that the shuffle knows. 1 leaves the bytes in their order."""

_SAMPLE = 8 << 10  # bytes of each of the samples by which a width is chosen
_SAMPLES = 3
_TOLERANCE = 1.02  # a larger width must be this much better than a smaller one
_ZSTD_LEVEL = 1  # the noise of a camera is not compressed better by higher levels, only more slowly
_ZSTD_WINDOW = 20  # log2 of `PIECE`


class CompressionError(ValueError):
    """A compressed piece is damaged, or is larger than it may be."""


@cache
def installed() -> tuple[str, ...]:
    """Return the methods that can be used, fastest first."""
    return tuple(method for method in METHODS if _is_installed(method))


def _is_installed(method: str) -> bool:
    try:
        _LOADERS[method]()
    except ImportError:
        return False
    return True


def check_choice(choice: str) -> None:
    """Check one of `CHOICES` that somebody asks for.

    Raises:
        TypeError: It is not a string.
        ValueError: It is another string.
        ImportError: It is a method that is not installed. The text says how to install it.
    """
    if not isinstance(choice, str):
        raise TypeError(f"compress must be a string, not {choice!r}")
    if choice not in CHOICES:
        raise ValueError(f"compress must be {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, not {choice!r}")
    if choice in METHODS:
        _load(choice)


def usable(choice: str) -> tuple[str, ...]:
    """Return the methods that one of `CHOICES` allows here, fastest first."""
    if choice == OFF:
        return ()
    return installed() if choice == AUTO else tuple(method for method in installed() if method == choice)


_loader: threading.Thread | None = None  # what loads NumPy


def prepared() -> bool:
    """Return whether NumPy is loaded. If not, a thread loads it, so that an event loop need not wait for that.

    Many connections that could carry compressed frames never do, so nobody should ask this before there is one.
    """
    global _loader
    numpy = sys.modules.get("numpy")
    if numpy is not None and not getattr(numpy.__spec__, "_initializing", False):
        return True
    if _loader is None:
        try:
            thread = threading.Thread(target=import_module, args=("numpy",), daemon=True)
            thread.start()
        except (RuntimeError, MemoryError):  # no thread can be started: then it has to wait
            return True
        _loader = thread
    return not _loader.is_alive()


class Compressor:
    """Compresses pieces. Not for several threads at the same time.

    Args:
        method: One of `METHODS`.
        width: Bytes per pixel, one of `WIDTHS`; see `best_width`.

    Raises:
        ImportError: The method is not installed. The text says how to install it.
    """

    def __init__(self, method: str, width: int = 1) -> None:
        self.method = method
        self.width = width
        self._compress, _ = _load(method)
        self._scratch: NDArray[np.uint8] | None = None

    def compress(self, piece: Buffer) -> Buffer:
        """Return a compressed piece, or `piece` itself if that would not make it smaller.

        Raises:
            ValueError: The piece has more than `PIECE` bytes.
        """
        size = len(piece)
        if size > PIECE:
            raise ValueError(f"a piece of {size} bytes, more than {PIECE}")
        if not size:
            return piece
        source: Any = piece
        if self.width > 1:
            import numpy as np

            if self._scratch is None or len(self._scratch) < size:
                self._scratch = np.empty(size, np.uint8)
            source = self._scratch[:size]
            _shuffle(np.frombuffer(piece, np.uint8), self.width, source)
        made: bytes = self._compress(source)
        return made if len(made) < size else piece


class Decompressor:
    """Inflates pieces. Not for several threads at the same time.

    Args:
        method: The method by which they were compressed.
        width: The width with which they were shuffled.

    Raises:
        ImportError: The method is not installed. The text says how to install it.
        CompressionError: There is no such method or width.
    """

    def __init__(self, method: str, width: int = 1) -> None:
        if method not in METHODS or width not in WIDTHS:
            raise CompressionError(f"compressed by an unknown method ({method}, {width} bytes per pixel)")
        self.method = method
        self.width = width
        _, self._inflate = _load(method)

    def decompress(self, data: Buffer, size: int, into: Buffer | None = None) -> Buffer:
        """Return the content of a piece.

        Args:
            data: The piece, as returned by `Compressor.compress`.
            size: The bytes that it must inflate to.
            into: Writable memory of exactly this size, which is returned, or None for new memory.

        Raises:
            CompressionError: It does not inflate to exactly `size` bytes, or they are more than `PIECE`.
        """
        if not 0 <= size <= PIECE:
            raise CompressionError(f"a piece of {size} bytes, more than {PIECE}")
        if len(data) > size:
            raise CompressionError(f"a piece of {len(data)} bytes that holds {size}")
        if len(data) == size:
            return _copied(data, into)
        whole = self._inflate(data, size)
        if len(whole) != size:
            raise CompressionError(f"a piece that inflates to {len(whole)} bytes instead of {size}")
        if self.width == 1:
            return _copied(whole, into)
        import numpy as np

        target: Buffer = bytearray(size) if into is None else into
        _unshuffle(np.frombuffer(whole, np.uint8), self.width, np.frombuffer(target, np.uint8))
        return target


def best_width(piece: Buffer) -> int:
    """Return the width with which samples of a piece compress best.

    The content says more than its format: a FITS file, a raw stream and a color picture are treated alike.

    Raises:
        ImportError: No method is installed.
    """
    return best_width_of(_samples(piece))


def best_width_of(samples: Sequence[Buffer]) -> int:
    """Return the width with which some samples of a content compress best; each begins where a pixel does.

    Raises:
        ImportError: No method is installed.
    """
    method = next(iter(installed()), LZ4)
    sizes = {width: compressed_size(samples, method, width) for width in WIDTHS}
    enough = min(sizes.values()) * _TOLERANCE
    return next(width for width in WIDTHS if sizes[width] <= enough)


def _samples(piece: Buffer) -> list[memoryview]:
    """Return evenly spread samples, at places that are multiples of every width."""
    view = memoryview(piece).cast("B")
    if len(view) <= _SAMPLE * _SAMPLES:
        return [view]
    step = (len(view) - _SAMPLE) // (_SAMPLES - 1) // max(WIDTHS) * max(WIDTHS)
    return [view[step * at : step * at + _SAMPLE] for at in range(_SAMPLES)]


def compressed_size(samples: Sequence[Buffer], method: str, width: int) -> int:
    """Return the bytes that samples take when they are compressed.

    Raises:
        ImportError: The method is not installed.
    """
    compressor = Compressor(method, width)
    return sum(len(compressor.compress(sample)) for sample in samples)


def _copied(data: Buffer, into: Buffer | None) -> Buffer:
    if into is None:
        return data
    memoryview(into).cast("B")[:] = data
    return into


# -- Shuffle: first the first bytes of all pixels, then the second bytes, and so on. What is left over stays at the end.


def _shuffle(source: NDArray[np.uint8], width: int, target: NDArray[np.uint8]) -> None:
    import numpy as np

    count = len(source) // width
    whole = count * width
    target[whole:] = source[whole:]
    if width == 2:  # shifting is three times as fast as taking every second byte
        words = source[:whole].view("<u2")
        np.copyto(target[:count], words, casting="unsafe")
        np.right_shift(words, 8, out=target[count:whole], casting="unsafe")
    else:
        target[:whole].reshape(width, count)[...] = source[:whole].reshape(count, width).T


def _unshuffle(source: NDArray[np.uint8], width: int, target: NDArray[np.uint8]) -> None:
    import numpy as np

    count = len(source) // width
    whole = count * width
    target[whole:] = source[whole:]
    if width == 2:
        words = target[:whole].view("<u2")
        np.left_shift(source[count:whole], 8, out=words, dtype="<u2", casting="unsafe")
        np.bitwise_or(words, source[:count], out=words)
    else:
        for place in range(width):
            target[place:whole:width] = source[place * count : (place + 1) * count]


# -- The libraries. Each is loaded as two functions: compress(data), inflate(data, size).

_Functions: TypeAlias = tuple[Callable[[Any], bytes], Callable[[Buffer, int], Buffer]]


def _load(method: str) -> _Functions:
    try:
        return _LOADERS[method]()
    except ImportError:
        raise ImportError(f"{method} is not installed: pip install indifast[compression]") from None


@cache
def _load_lz4() -> _Functions:
    from lz4.block import LZ4BlockError, compress, decompress

    def inflate(data: Buffer, size: int) -> Buffer:
        try:
            whole: bytes = decompress(data, uncompressed_size=size)  # writes no more than this
        except LZ4BlockError:
            raise CompressionError("LZ4 data that is damaged") from None
        return whole

    return lambda data: compress(data, store_size=False), inflate


@cache
def _load_zstd() -> _Functions:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd

    bounds = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}

    def inflate(data: Buffer, size: int) -> Buffer:
        stream = zstd.ZstdDecompressor(options=bounds)
        try:
            whole: bytes = stream.decompress(data, max_length=size)
            complete = stream.eof or (len(whole) == size and not stream.decompress(b"", max_length=1) and stream.eof)
        except zstd.ZstdError:
            raise CompressionError("zstd data that is damaged") from None
        if not complete or stream.unused_data:
            raise CompressionError(f"zstd data that does not end after {size} bytes")
        return whole

    return lambda data: zstd.compress(data, level=_ZSTD_LEVEL), inflate


_LOADERS = {LZ4: _load_lz4, ZSTD: _load_zstd}
