"""What processes do with signals, according to /proc."""

from __future__ import annotations

import re
import signal
from pathlib import Path

ALWAYS_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}
"""Signals that every Python process ignores."""


def in_mask(mask: str) -> set[int]:
    """Return the signals in a hexadecimal mask."""
    return {number for number in signal.valid_signals() if int(mask, 16) >> number - 1 & 1}


def caught(pid: int) -> set[int]:
    """Return the signals for which a process has handlers."""
    return _signals(pid, "SigCgt")


def ignored(pid: int) -> set[int]:
    """Return the signals that a process ignores, except for those that Python always ignores."""
    return _signals(pid, "SigIgn") - ALWAYS_IGNORED


def _signals(pid: int, field: str) -> set[int]:
    found = re.search(rf"^{field}:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return in_mask(found[1])
