"""Telling the program, those who wait, and the log."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from indifast.client import events
from indifast.client.settings import Program, Settings
from indifast.client.watchers import Watchers
from indifast.protocol.complaints import Complaints, RateLimit, more

logger = logging.getLogger("indifast.client.ipyclient")


class Notifier:
    """Hands events and notices to watchers and program; complaints about the server at a limited rate."""

    def __init__(
        self,
        program: Program,
        settings: Settings,
        watchers: Watchers,
        note: Callable[[datetime, str], None],
        wake: Callable[[], None],
    ) -> None:
        self.unsaid: deque[str] = deque(maxlen=8)
        """Complaints that the receiving task is to make."""
        self._program = program
        self._settings = settings
        self._watchers = watchers
        self._note = note
        self._wake = wake
        self._limit = RateLimit()
        self._faults = Complaints(logger)

    @property
    def left_out(self) -> int:
        """Complaints that were not made, as there were too many."""
        return self._limit.suppressed

    async def tell(self, event: Any) -> None:
        """Hand an event to the program; what it raises is logged and goes no further."""
        if self._watchers.references:
            self._watchers.notify(event)
        try:
            await self._program.rxevent(event)
        except Exception as error:
            self.log_fault(error, "Error in rxevent, handling %s", event.eventtype)

    async def emit(self, event: Any) -> None:
        """Hand an event of the program's own to it; what it raises is the caller's."""
        self._watchers.notify(event)
        await self._program.rxevent(event)

    def log_fault(self, error: BaseException, text: str, *args: object) -> None:
        """Log what went wrong with something that was received; it may go wrong each time."""
        self._faults.say(logging.ERROR, time.monotonic(), text, *args, exc_info=error)

    async def report(self, text: str) -> None:
        """See `IPyClient.report`."""
        logger.info(text)
        if self._settings.enable_reports:
            await self._notice(text)

    async def warning(self, text: str) -> None:
        """See `IPyClient.warning`."""
        logger.warning(text)
        await self._notice(text)

    async def _notice(self, text: str) -> None:
        event = events.Message._notice(text)
        self._note(event.timestamp, text)
        await self.tell(event)

    async def complain(self, text: str) -> None:
        """Warn of what was left out; of many such warnings some are not given, but the next that is tells how many."""
        suppressed = self._limit.permit(time.monotonic())
        if suppressed is not None:
            await self._program.warning(text + more(suppressed))

    def complain_soon(self, text: str) -> None:
        """The same for what is no coroutine: the receiving task says it."""
        if len(self.unsaid) == self.unsaid.maxlen:
            self.unsaid.popleft()
            self._limit.suppress()
        self.unsaid.append(text)
        self._wake()
