"""Notification of the program, of watchers and of the log."""

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
    """Passes events and notices to watchers and the program; complaints about the server are rate-limited."""

    def __init__(
        self,
        program: Program,
        settings: Settings,
        watchers: Watchers,
        note: Callable[[datetime, str], None],
        wake: Callable[[], None],
    ) -> None:
        self.complaints: deque[str] = deque(maxlen=8)
        """Complaints that wait for the receiving task to make them."""
        self._program = program
        self._settings = settings
        self._watchers = watchers
        self._note = note
        self._wake = wake
        self._limit = RateLimit()
        self._faults = Complaints(logger)

    @property
    def left_out(self) -> int:
        """Number of complaints that were suppressed because there were too many."""
        return self._limit.suppressed

    async def tell(self, event: Any) -> None:
        """Pass an event to the program; exceptions that it raises are logged and go no further."""
        if self._watchers.references:
            self._watchers.notify(event)
        try:
            await self._program.rxevent(event)
        except Exception as error:
            self.log_fault(error, "Error in rxevent, handling %s", event.eventtype)

    async def emit(self, event: Any) -> None:
        """Pass an event that the program created to `rxevent`; exceptions are left to the caller."""
        self._watchers.notify(event)
        await self._program.rxevent(event)

    def log_fault(self, error: BaseException, text: str, *args: object) -> None:
        """Log what went wrong with something received, at a limited rate, as it may go wrong every time."""
        self._faults.say(logging.ERROR, time.monotonic(), text, *args, exc_info=error)

    async def report(self, text: str) -> None:
        """Log a text at INFO and perhaps pass it to the program. See `IPyClient.report`."""
        logger.info(text)
        if self._settings.enable_reports:
            await self._notice(text)

    async def warning(self, text: str) -> None:
        """Log a text at WARNING and pass it to the program. See `IPyClient.warning`."""
        logger.warning(text)
        await self._notice(text)

    async def _notice(self, text: str) -> None:
        event = events.Message._notice(text)
        self._note(event.timestamp, text)
        await self.tell(event)

    async def complain(self, text: str) -> None:
        """Warn of something left out, at a limited rate; the next warning says how many were suppressed before it."""
        suppressed = self._limit.permit(time.monotonic())
        if suppressed is not None:
            await self._program.warning(text + more(suppressed))

    def complain_soon(self, text: str) -> None:
        """Let the receiving task make a complaint; for callers that are not coroutines."""
        if len(self.complaints) == self.complaints.maxlen:
            self.complaints.popleft()
            self._limit.suppress()
        self.complaints.append(text)
        self._wake()
