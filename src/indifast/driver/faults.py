"""What goes wrong while a driver runs: messages that are not obeyed, exceptions of user code."""

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

_QUIET = 10.0  # seconds for which the same refusal is not logged again
_FAULT_QUIET = 1.0  # and the same fault of user code


class Refusals:
    """Counts and logs messages from outside that are not obeyed, or not wholly."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._refusals = RateLimits(1, 1 / _QUIET)
        self._losses = RateLimits(1, 1 / _FAULT_QUIET)

    def refuse(self, kind: Hashable, text: str, *args: object) -> None:
        """A message is not obeyed. The same kind is not logged all the time."""
        self._counters["refused"] += 1
        suppressed = self._refusals.permit(kind, time.monotonic())
        if suppressed is not None:
            told = [for_log(str(one), 200) if isinstance(one, str | Exception) else one for one in args]
            logger.error(text + "%s", *told, more(suppressed))

    def left_out(self, what: str, faults: Sequence[str]) -> None:
        """A message is obeyed, except for what can't be read in it."""
        self._counters["left_out"] += len(faults)
        suppressed = self._refusals.permit(("left out", what), time.monotonic())
        if suppressed is not None:
            logger.warning("%s: %s%s", what, for_log("; ".join(faults), 200), more(suppressed))

    def lost(self, message: Routable, error: Exception) -> None:
        """A message could not be handled: the fault is ours."""
        self._counters["refused"] += 1
        suppressed = self._losses.permit(type(error).__qualname__, time.monotonic())
        if suppressed is not None:
            where = f"{message.tag} for {for_log(message.device)}.{for_log(message.name)}"
            logger.error("%s is lost%s", where, more(suppressed), exc_info=error)


class UserFaults:
    """Exceptions that user code has raised: a driver that runs by itself ends with the first one, a driver under a
    server tells clients and goes on.
    """

    def __init__(self, counters: Counter[str], tell: Callable[[Routable], None], end: Callable[[], None]) -> None:
        """`tell` sends a message to clients, `end` ends the driver."""
        self.isolated = True
        """A server carries the driver, which does not end with a fault."""
        self.fatal: Exception | None = None
        """The fault with which this run ends."""
        self._counters = counters
        self._tell = tell
        self._end = end
        self._faults = RateLimits(1, 1 / _FAULT_QUIET)

    def report(self, error: Exception, what: str, devicename: str | None) -> None:
        """User code has raised this; `what` it was doing, and for which device."""
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
