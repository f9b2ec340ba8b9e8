"""Ctrl-C and SIGTERM as something to look at, where a command has processes to end first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a server whose work is done, with status 0."""


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """The signals that have come so far. Behind the block there is nothing left to end, and they are ignored."""
    received: list[int] = []
    for which in SIGNALS:
        signal.signal(which, lambda which, _frame: received.append(which))
    try:
        yield received
    finally:
        for which in SIGNALS:
            signal.signal(which, signal.SIG_IGN)
