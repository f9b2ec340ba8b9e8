"""Functions that save and inflate BLOBs. They may take long: an event loop runs them in a thread."""

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
"""Bytes that the member name may take up in a file name; file systems allow 255 in all."""


class InflateError(ValueError):
    """Compressed content is damaged, incomplete, or larger than announced or allowed."""


def inflate(content: Any, size: int, limit: int) -> bytes:
    """Inflate the content of a `.z` BLOB.

    Args:
        content: The compressed bytes.
        size: Announced length of the inflated content, 0 if unknown.
        limit: The largest length allowed.

    Raises:
        InflateError: The content is damaged, incomplete or too large.
    """
    most = size if 0 < size <= limit else limit
    worker = zlib.decompressobj()
    try:
        inflated = worker.decompress(content, most)
        # Even one more byte is too many: the announced size limits the memory used, whatever the sender packed.
        if not worker.eof and worker.decompress(worker.unconsumed_tail, 1):
            raise InflateError(f"more than the {most} bytes announced or allowed")
    except zlib.error as error:
        raise InflateError(str(error)) from None
    if not worker.eof:
        raise InflateError("the content is incomplete")
    return inflated


def file_name(membername: str, timestamp: datetime, form: str) -> tuple[str, str]:
    """Return stem and suffix of a BLOB's file name; neither can lead out of a folder or hide the file."""
    stem = _UNSAFE.sub("_", membername)
    stem = "_" + stem[1:] if stem.startswith(".") else stem
    stem = stem.encode("utf-8", "replace")[:_NAME_MAX].decode("utf-8", "ignore")
    suffix = _UNSAFE.sub("_", form).encode("utf-8", "replace")[:32].decode("utf-8", "ignore")
    return f"{stem}_{timestamp:%Y%m%d_%H_%M_%S}", suffix


def save(folder: Path, membername: str, timestamp: datetime, form: str, content: Any) -> str:
    """Write a BLOB to a new file in `folder` and return its bare name: `<member>_<time>[_<n>]<format>`.

    The file appears under its name only when it is complete, and no file is ever replaced.

    Raises:
        OSError: The file could not be written.
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
    """Give a complete file its name; return False if the name is taken."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.exists(final):
            return False
        os.rename(temporary, final)
    return True


def _umask() -> int:
    """Return the process's umask, which mkstemp does not apply; the strictest if it is unknown."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    return 0o077
