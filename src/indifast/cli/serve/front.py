"""What the native front of `indifast-server` (`front/front.c`) opened before Python started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence

VARIABLE = "INDIFAST_FRONT"
"""Environment variable in which the front describes it, as the comment at the top of `front.c` explains."""


class Front:
    """Listening sockets, a FIFO, and signals that are blocked until something can handle them.

    All of this is empty if the front left everything to Python, or if there is no front.
    """

    def __init__(self, sockets: Sequence[int] = (), fifo: int | None = None, held: Iterable[int] = ()) -> None:
        self.sockets = sockets
        self.fifo = fifo
        self._held = frozenset(held)

    def release(self) -> None:
        """Unblock the signals that the front blocked."""
        if self._held:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)


def take() -> Front:
    """Take over what the front opened, so that no process started from here on inherits or sees any of it."""
    description = os.environ.pop(VARIABLE, "")
    words = {name: value for name, _, value in (word.partition("=") for word in description.split())}
    if words.get("pid") != str(os.getpid()):
        return Front()
    sockets, fifo = _numbers(words["sockets"]), _numbers(words["fifo"])
    for descriptor in sockets + fifo:
        os.set_inheritable(descriptor, False)
    return Front(sockets, fifo[0] if fifo else None, _numbers(words["held"]))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
