"""Signal handling for commands, which leaves signals ignored that were ignored when the command was started.

`nohup` starts a command with SIGHUP ignored, and a script starts `command &` with SIGINT ignored, so that the command
keeps running. Python and asyncio respect that when they handle SIGINT themselves (KeyboardInterrupt, `asyncio.Runner`),
and so does everything here. Child processes start with the same dispositions as the command: ignored signals are
inherited, those with a handler go back to their defaults.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

TYPE_CHECKING = False  # as in `typing`, which must not be imported before the server listens
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that stop a server, with exit status 0."""

COUNTERS = signal.SIGUSR1
"""Signal that asks a server to print its counters."""

_IGNORED = frozenset(number for number in (*STOPPING, COUNTERS) if signal.getsignal(number) is signal.SIG_IGN)
"""Signals ignored at the start: nothing in the process ignores a signal before this module is imported."""


def handle(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], Any] | signal.Handlers
) -> None:
    """Call `signal.signal` for those of the signals that were not ignored at the start."""
    for number in numbers:
        if number not in _IGNORED:
            signal.signal(number, handler)


def handle_in(
    loop: AbstractEventLoop, numbers: Iterable[signal.Signals], callback: Callable[..., object], *args: Any
) -> None:
    """Call `loop.add_signal_handler` for those of the signals that were not ignored at the start."""
    for number in numbers:
        if number not in _IGNORED:
            loop.add_signal_handler(number, callback, *args)


def hold_back(numbers: Iterable[signal.Signals]) -> None:
    """Block signals while the process ends, so that they no longer have any effect.

    An event loop restores their default handlers when it closes, and so does the interpreter when it shuts down. A
    signal that arrived after that would end the process with the wrong exit status.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, for a command that has to end its processes first.

    After the block there is nothing left to end, and the signals are ignored.

    Yields:
        The signals received so far, in order.
    """
    received: list[int] = []
    handle(SIGNALS, lambda which, _frame: received.append(which))
    try:
        yield received
    finally:
        handle(SIGNALS, signal.SIG_IGN)
