"""BLOBs on their way into files and out of compression, in a thread."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")
_NAME_MAX = 200
"""Bytes of a file name before its number; file systems take 255."""


class InflateError(ValueError):
    """Content is not what its `.z` format says, or more than was announced."""


def inflate(content: Any, size: int, limit: int) -> bytes:
    """The content of a `.z` BLOB.

    `size` is its inflated length as announced, 0 if unknown, `limit` the most that is allowed. Raises InflateError.
    """
    most = size if 0 < size <= limit else limit
    worker = zlib.decompressobj()
    try:
        inflated = worker.decompress(content, most)
        # One byte more would be too many: the announced size, not the sender, decides how much memory is used.
        if not worker.eof and worker.decompress(worker.unconsumed_tail, 1):
            raise InflateError(f"more than the {most} bytes announced or allowed")
    except zlib.error as error:
        raise InflateError(str(error)) from None
    if not worker.eof:
        raise InflateError("the content is incomplete")
    return inflated


def file_name(membername: str, timestamp: datetime, form: str) -> tuple[str, str]:
    """Stem and suffix of the file for a BLOB, neither of which can lead out of a folder or hide the file."""
    stem = _UNSAFE.sub("_", membername)
    stem = "_" + stem[1:] if stem.startswith(".") else stem
    stem = stem.encode("utf-8", "replace")[:_NAME_MAX].decode("utf-8", "ignore")
    suffix = _UNSAFE.sub("_", form).encode("utf-8", "replace")[:32].decode("utf-8", "ignore")
    return f"{stem}_{timestamp:%Y%m%d_%H_%M_%S}", suffix


def save(folder: Path, membername: str, timestamp: datetime, form: str, content: Any) -> str:
    """Write a BLOB into a new file of `folder` and return its bare name: `<member>_<time>[_<n>]<format>`.

    The file appears under its name only when it is complete, and no file is ever replaced. OSError if it can't be.
    """
    stem, suffix = file_name(membername, timestamp, form)
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with open(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())
            file.write(content)
        for number in itertools.count():
            name = f"{stem}_{number}{suffix}" if number else f"{stem}{suffix}"
            if _publish(temporary, str(folder / name)):
                return name
        raise AssertionError
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _publish(temporary: str, final: str) -> bool:
    """Give a complete file its name; False if the name is taken."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.exists(final):
            return False
        os.rename(temporary, final)
    return True


def _umask() -> int:
    """The process's mask for new files, which mkstemp leaves aside."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    return 0o077
