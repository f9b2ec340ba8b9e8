"""Link between a driver and the clients of its own port, one at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from indifast.driver.streamlink import Refuse, StreamLink
from indifast.protocol.complaints import Complaints
from indifast.protocol.compress import AUTO
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.selection import selected
from indifast.routing.interest import MAX_ENTRIES, BlobPolicies
from indifast.routing.link import Demand, Link
from indifast.transport.stream import CLOSE_GRACE

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Routable
    from indifast.transport.listener import Listener
    from indifast.transport.stream import Stream

logger = logging.getLogger("indifast.driver.comms")

_LINGER = 2.0  # seconds during which a client that sends nothing more may still read answers
_PARTING = 0.05  # seconds to wait for the end of one client before the next is turned away


class PortLink(Link):
    """`Link` to the connected client. Further clients are turned away until that one has gone.

    Without a client, the driver's messages are dropped. Each client begins with BLOBs off.
    """

    def __init__(self, refuse: Refuse, limits: Limits, *, raw_frames: bool = True, compress: str = AUTO) -> None:
        self.closed = False
        self.ended = False
        self.port: int | None = None
        self._refuse = refuse
        self._limits = limits
        self._raw_frames = raw_frames
        self._compress = compress
        self._listener: Listener | None = None
        self._client: StreamLink | None = None
        self._callback: Callable[[], None] | None = None
        self._policies = BlobPolicies()
        self._complaints = Complaints(logger)

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        refuse: Refuse,
        limits: Limits = DEFAULT_LIMITS,
        *,
        raw_frames: bool = True,
        compress: str = AUTO,
    ) -> Self:
        """Listen on a port.

        Args:
            host: The name or address to listen on.
            port: The port to listen on; 0 picks a free one.
            refuse: Counts and logs what is refused.
            limits: The limits on what a client may send, and on what waits for it.
            raw_frames: Whether clients may ask for raw frames.
            compress: How these are compressed, one of `compression.CHOICES`.

        Raises:
            OSError: The port is not available.
        """
        from indifast.transport.connect import listen_tcp

        link = cls(refuse, limits, raw_frames=raw_frames, compress=compress)
        link._listener = await listen_tcp(host, port, link._accept)
        link.port = link._listener.port
        logger.info("listening on %s", ", ".join(link._listener.addresses))
        return link

    def _accept(self, stream: Stream) -> None:
        if self._client is None or self._client.ended:
            self._serve(stream)
        else:  # the current client may be gone already, with the end of its stream still to be read
            asyncio.get_running_loop().call_later(_PARTING, self._serve, stream)

    def _serve(self, stream: Stream) -> None:
        if self._client is not None and self._client.ended:
            self._client.close()
            self._lost(self._client)
        if self._client is not None or self.closed:
            text = "connection from %s turned away: another client is connected"
            self._complaints.say(logging.INFO, time.monotonic(), text, stream.peername)
            stream.abort()
            return
        logger.info("connection from %s", stream.peername)
        self._policies.clear()
        self._client = client = StreamLink(
            stream, self._refuse, limits=self._limits, raw_frames=self._raw_frames, compress=self._compress
        )
        client.on_receive(self._callback)
        client.start(lambda: self._lost(client))

    def _lost(self, client: StreamLink) -> None:
        if self._client is client:
            logger.info("connection from %s closed", client.peername)
            self._client = None

    # -- For the driver

    def demand(self, device: str, name: str) -> Demand:
        """Return what the client wants, according to its enableBLOB settings."""
        client = self._client
        if client is None or not self._policies.content(device, name):
            return Demand(False, False)
        return client.demand(device, name)

    def send(self, message: Routable) -> None:
        """Send a message, unless the client's enableBLOB settings exclude it. See `Link.send`."""
        if self._client is not None and self._policies.passes(message):
            self._client.send(message)

    async def paced(self, device: str, name: str) -> None:
        """Wait for the client to take a BLOB. See `Link.paced`."""
        if self._client is not None:
            await self._client.paced(device, name)

    async def not_full(self) -> None:
        """Wait while the client is very far behind."""
        if self._client is not None:
            await self._client.not_full()

    def take(self) -> Routable | None:
        """Return the next message, if there is one. See `Link.take`.

        A client that sends nothing more is disconnected after a while, or as soon as the next one connects.
        """
        client = self._client
        if client is None or client.ended:
            return None
        message = client.take()
        if message is None:
            if client.ended:
                asyncio.get_running_loop().call_later(_LINGER, client.close)
        elif message.tag == "enableBLOB":
            self._enable(message.element())
        return message

    def on_receive(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` when there may be something to take. See `Link.on_receive`."""
        self._callback = callback
        if self._client is not None:
            self._client.on_receive(callback)

    def close(self, grace: float = CLOSE_GRACE) -> None:
        """Stop listening, and disconnect the client once what is queued is written, or after `grace` seconds."""
        self.closed = True
        if self._listener is not None:
            self._listener.close()
        if self._client is not None:
            self._client.close(grace)

    async def wait_closed(self) -> None:
        """Wait until what was queued for the client has been written or given up."""
        if self._client is not None:
            await self._client.wait_closed()

    # -- enableBLOB

    def _enable(self, element: Element) -> None:
        device, name = selected(element)
        if device is not None and not self._policies.set(device, name, element.text.strip()):
            text = "enableBLOB for %s refused: there are %d settings already"
            self._refuse("policies", text, f"{device}.{name}" if name else device, MAX_ENTRIES)
