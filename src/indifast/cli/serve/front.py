"""What `indifast-server` has open already when Python begins: its native front has seen to that (`front/front.c`)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence

VARIABLE = "INDIFAST_FRONT"
"""What the front tells, in words that the comment on top of `front.c` explains."""


class Front:
    """Listening sockets, a FIFO, and signals that are held back until somebody answers them.

    Nothing of it is there when the front left everything to Python, or when there is none.
    """

    def __init__(self, sockets: Sequence[int] = (), fifo: int | None = None, held: Iterable[int] = ()) -> None:
        self.sockets = sockets
        self.fifo = fifo
        self._held = frozenset(held)

    def release(self, numbers: Iterable[int] | None = None) -> None:
        """Let those of these signals come, or of all, that were not blocked when the program was started."""
        released = self._held if numbers is None else self._held.intersection(numbers)
        self._held -= released
        if released:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, released)


def take() -> Front:
    """Take over what the front has told; whatever is started from here on hears and inherits nothing of it."""
    told = os.environ.pop(VARIABLE, "")
    words = {name: value for name, _, value in (word.partition("=") for word in told.split())}
    if words.get("pid") != str(os.getpid()):
        return Front()
    sockets, fifo = _numbers(words["sockets"]), _numbers(words["fifo"])
    for descriptor in sockets + fifo:
        os.set_inheritable(descriptor, False)
    return Front(sockets, fifo[0] if fifo else None, _numbers(words["held"]))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
