"""Those who wait for something are all told, whatever one of them does about it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable

from indifast.protocol.complaints import Complaints

_complaints = Complaints(logging.getLogger(__name__))


def call_all(callbacks: Iterable[Callable[[], object]], now: float) -> None:
    """Call each of some functions. What one of them raises is logged, at a limited rate, and the others are called.

    Args:
        callbacks: The functions. They may add others to what they came from, but not to `callbacks`.
        now: The time, for the limit: monotonic seconds.
    """
    for callback in callbacks:
        try:
            callback()
        except Exception as error:
            with contextlib.suppress(MemoryError):  # there may be none for the line
                text = "Error in a callback; the others are called all the same"
                _complaints.say(logging.ERROR, now, text, exc_info=error)
