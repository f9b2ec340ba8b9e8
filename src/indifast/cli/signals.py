"""How commands handle signals: those that were ignored when the command was started stay ignored.

`nohup` starts a command with SIGHUP ignored, a script starts `command &` with SIGINT ignored: the command is to live
on. Python and asyncio respect that when they handle SIGINT on their own (KeyboardInterrupt, `asyncio.Runner`), and so
does everything here. Child processes start with the same dispositions as the command: what is ignored is inherited,
what has a handler goes back to its default.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

TYPE_CHECKING = False  # as in `typing`, which is not to be imported before the server listens
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a server whose work is done, with status 0."""

COUNTERS = signal.SIGUSR1
"""Asks a server to print its counters."""

_IGNORED = frozenset(number for number in (*STOPPING, COUNTERS) if signal.getsignal(number) is signal.SIG_IGN)
"""What was ignored at the start: nothing in the process ignores a signal before it imports this module."""


def handle(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], Any] | signal.Handlers
) -> None:
    """As `signal.signal`, for those of the signals that were not ignored at the start."""
    for number in numbers:
        if number not in _IGNORED:
            signal.signal(number, handler)


def handle_in(
    loop: AbstractEventLoop, numbers: Iterable[signal.Signals], callback: Callable[..., object], *args: Any
) -> None:
    """As `loop.add_signal_handler`, for those of the signals that were not ignored at the start."""
    for number in numbers:
        if number not in _IGNORED:
            loop.add_signal_handler(number, callback, *args)


def hold_back(numbers: Iterable[signal.Signals]) -> None:
    """Nothing is left for these signals to end: they wait, and have no effect up to the end of the process.

    An event loop that is closed gives them their defaults back, and so does the interpreter in its last moments. One
    that came then would end the process with another status than the one it is to end with.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM as something to look at, where a command has processes to end first.

    Gives the signals that have come so far. Behind the block there is nothing left to end, and they are ignored.
    """
    received: list[int] = []
    handle(SIGNALS, lambda which, _frame: received.append(which))
    try:
        yield received
    finally:
        handle(SIGNALS, signal.SIG_IGN)
