"""Outlet for the messages of a driver: its link, as long as there is one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from indifast.handover import awaited, library_method, overridden
from indifast.protocol import wire

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.protocol.message import Routable
    from indifast.routing.link import Link

logger = logging.getLogger("indifast.driver.ipydriver")


class Sending(Protocol):
    """What the outlet needs of a driver: whether to log messages, and its `send`, which programs may override."""

    debug_enable: bool

    async def send(self, xmldata: TreeElement) -> None:
        """Send an element of `xml.etree.ElementTree`."""
        ...


class Outlet:
    """Sends messages on the link of a driver.

    Messages sent while there is no link, or after the driver was told to stop, are counted and dropped. If the program
    overrides `send` of the driver, messages go there instead, and come back as elements from the `send` of `IPyDriver`.
    """

    def __init__(self, driver: Sending, counters: Counter[str]) -> None:
        self.link: Link | None = None
        self.stopping = False
        """Whether the driver has been told to stop."""
        self.start: Callable[[Coroutine[Any, Any, None], str], None] | None = None
        """Runs a coroutine with the driver."""
        self._driver = driver
        self._attributes = driver.__dict__
        self._library_send = library_method(type(driver), "send")
        self._counters = counters

    def sending_link(self) -> Link | None:
        """Return the link; None, and counted, if there is none to send on. See `Port`."""
        link = self.link
        if link is None or link.closed or self.stopping:
            self._counters["sent_nowhere"] += 1
            return None
        return link

    def filtered(self) -> bool:
        """Return whether the program has a `send` of its own. See `Port`."""
        return "send" in self._attributes or type(self._driver).send is not self._library_send

    def send(self, message: Routable) -> None:
        """Send a message. See `Port`."""
        if self.filtered():
            assert self.start is not None
            self.start(self._filter(message), "send")
        else:
            self.send_as_is(message)

    def _filter(self, message: Routable) -> Coroutine[Any, Any, None]:
        send: Callable[[TreeElement], Awaitable[None]] = overridden(self._driver, "send") or self._driver.send
        return awaited(send(wire.parsed(message)))

    def send_as_is(self, message: Routable) -> None:
        """Send a message on the link, whatever the program overrides."""
        link = self.sending_link()
        if link is not None:
            link.send(message)
            if self._driver.debug_enable and logger.isEnabledFor(logging.DEBUG):
                _log_sent(message)

    async def transmit(self, message: Routable) -> None:
        """Send a message, and wait while the peer is far behind. See `Port`."""
        if self.filtered():
            await self._filter(message)
            return
        self.send_as_is(message)
        if self.link is not None:
            await self.link.not_full()

    async def transmit_as_is(self, message: Routable) -> None:
        """Send a message on the link, whatever the program overrides, and wait while the peer is far behind."""
        self.send_as_is(message)
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
