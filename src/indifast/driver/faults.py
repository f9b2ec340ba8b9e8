"""Handling of what goes wrong while a driver runs: refused messages, and exceptions in user code."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.complaints import RateLimits, more
from indifast.protocol.escape import for_log
from indifast.protocol.timestamps import timestamp_text

if TYPE_CHECKING:
    from indifast.protocol.message import Routable

logger = logging.getLogger("indifast.driver.ipydriver")

_QUIET = 10.0  # seconds during which the same refusal is not logged again
_FAULT_QUIET = 1.0  # seconds during which the same fault is not logged again


class Refusals:
    """Counts and logs received messages that are refused, in whole or in part."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._refusals = RateLimits(1, 1 / _QUIET)
        self._losses = RateLimits(1, 1 / _FAULT_QUIET)

    def refuse(self, kind: Hashable, text: str, *args: object) -> None:
        """Count and log a refused message. Refusals of the same kind are logged at a limited rate."""
        self._counters["refused"] += 1
        suppressed = self._refusals.permit(kind, time.monotonic())
        if suppressed is not None:
            safe = [for_log(str(arg), 200) if isinstance(arg, str | Exception) else arg for arg in args]
            logger.error(text + "%s", *safe, more(suppressed))

    def left_out(self, what: str, faults: Sequence[str]) -> None:
        """Count and log the parts of an accepted message that can't be read."""
        self._counters["left_out"] += len(faults)
        suppressed = self._refusals.permit(("left out", what), time.monotonic())
        if suppressed is not None:
            logger.warning("%s: %s%s", what, for_log("; ".join(faults), 200), more(suppressed))

    def lost(self, message: Routable, error: Exception) -> None:
        """Count and log a message that could not be handled because of an internal error."""
        self._counters["refused"] += 1
        suppressed = self._losses.permit(type(error).__qualname__, time.monotonic())
        if suppressed is not None:
            where = f"{message.tag} for {for_log(message.device)}.{for_log(message.name)}"
            logger.error("%s was lost to an internal error%s", where, more(suppressed), exc_info=error)


class UserFaults:
    """Handles exceptions in user code.

    A driver that runs without a server ends with the first one; a driver under a server tells clients and goes on.
    """

    def __init__(self, counters: Counter[str], tell: Callable[[Routable], None], end: Callable[[], None]) -> None:
        """Use `tell` to send a message to clients, and `end` to end the driver."""
        self.isolated = True
        """Whether the driver goes on after a fault, as it does under a server."""
        self.fatal: Exception | None = None
        """Fault that ends this run."""
        self._counters = counters
        self._tell = tell
        self._end = end
        self._faults = RateLimits(1, 1 / _FAULT_QUIET)

    def report(self, error: Exception, what: str, devicename: str | None) -> None:
        """Handle an exception in user code.

        Args:
            error: The exception.
            what: What the code was doing, for messages.
            devicename: The device that it was doing this for, if any.
        """
        self._counters["user_faults"] += 1
        if not self.isolated:
            if self.fatal is None:
                self.fatal = error
            self._end()
            return
        suppressed = self._faults.permit((what, type(error)), time.monotonic())
        if suppressed is None:
            return
        logger.error("%s failed, the driver goes on%s", what, more(suppressed), exc_info=error)
        text = f"{what} failed: {type(error).__name__}: {error}"
        self._tell(wire.message(text, timestamp_text(), devicename))
