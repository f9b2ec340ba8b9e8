"""Outlet for the messages of a driver: its link, as long as there is one."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from indifast.protocol.message import Routable
    from indifast.routing.link import Link

logger = logging.getLogger("indifast.driver.ipydriver")


class Verbose(Protocol):
    """What the outlet needs of a driver: whether to log messages."""

    debug_enable: bool


class Outlet:
    """Sends messages on the link of a driver.

    Messages sent while there is no link, or after the driver was told to stop, are counted and dropped.
    """

    def __init__(self, verbose: Verbose, counters: Counter[str]) -> None:
        self.link: Link | None = None
        self.stopping = False
        """Whether the driver has been told to stop."""
        self._verbose = verbose
        self._counters = counters

    def sending_link(self) -> Link | None:
        """Return the link; None, and counted, if there is none to send on. See `Port`."""
        link = self.link
        if link is None or link.closed or self.stopping:
            self._counters["sent_nowhere"] += 1
            return None
        return link

    def send(self, message: Routable) -> None:
        """Send a message. See `Port`."""
        link = self.sending_link()
        if link is not None:
            link.send(message)
            if self._verbose.debug_enable and logger.isEnabledFor(logging.DEBUG):
                _log_sent(message)

    async def transmit(self, message: Routable) -> None:
        """Send a message, and wait while the peer is far behind. See `Port`."""
        self.send(message)
        if self.link is not None:
            await self.link.not_full()

    def wanted(self, device: str, name: str) -> bool:
        """Return whether a client wants the content of a BLOB property. See `ThreadPort`."""
        link = self.link
        if link is None:
            return False
        try:
            return any(link.demand(device, name))
        except RuntimeError:  # the event loop's thread changed the data while this thread read it
            return True


def _log_sent(message: Routable) -> None:
    if message.blob:
        logger.debug("TX:: <%s device=%r name=%r> with BLOBs", message.tag, message.device, message.name)
    else:
        parts = message.parts(False) or ()
        logger.debug("TX:: %s", b"".join(parts).decode("utf-8", "replace"))
