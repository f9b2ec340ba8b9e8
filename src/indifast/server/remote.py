"""Links from this server to other servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from ssl import SSLContext
from typing import TYPE_CHECKING

from indifast.compression import check_choice
from indifast.protocol.backoff import pause_after, varied
from indifast.protocol.drivernames import peer_port
from indifast.protocol.loglevels import NOTICE
from indifast.routing.peer import Kind, Peer
from indifast.transport.connect import open_tcp
from indifast.transport.stream import CLOSE_GRACE, Stream
from indifast.transport.tlsfaults import LINK, TLSError

if TYPE_CHECKING:
    from indifast.server.host import LinkHost

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
"""Seconds before the first retry. Each further retry doubles the pause."""

LONGEST_PAUSE = 5.0
"""Maximum seconds between attempts, not counting jitter: a link is back soon after the other server is."""

HEALTHY = 10.0
"""Seconds that a link has to last for earlier failed attempts to be forgotten."""


class RemoteConnection:
    """A link to another server, which reconnects whenever it is lost.

    Each attempt resolves the host name again. Clients are sent a message when the state of the link changes, but not
    for each attempt. When the link is lost, the devices behind it are deleted; when it is back, they are defined again.

    Args:
        host: The name or address of the other server.
        port: Its TCP port.
        blob_enable: Whether BLOBs may cross the link, in both directions.
        debug_enable: Has no effect; see the attribute.
        device: Restrict the link to this device.
        ssl: The context for TLS; None for a plain connection.
        compress: How frames are compressed, one of `compression.CHOICES`; None for what holds for the server.

    Raises:
        ValueError: The port is out of range, or `compress` is something else.
        ImportError: `compress` is a method that is not installed.

    Attributes:
        indihost: The name or address of the other server.
        indiport: Its TCP port.
        connected: Whether the link is up.
        blob_enable: Whether BLOBs may cross the link, in both directions.
        debug_enable: Kept for programs that set it. `IPyServer.debug_enable` controls logging.
        stop: Whether the link has been told to end.
    """

    def __init__(
        self,
        host: str,
        port: int,
        blob_enable: bool | str = False,
        debug_enable: bool = False,
        *,
        device: str | None = None,
        ssl: SSLContext | None = None,
        compress: str | None = None,
    ) -> None:
        if compress is not None:
            check_choice(compress)
        self.indihost = host
        self.indiport = peer_port(port)
        self.blob_enable = bool(blob_enable) and blob_enable != "Never"  # older releases took the values of enableBLOB
        self.debug_enable = debug_enable
        self.connected = False
        self.stop = False
        self.attempts = 0
        """The number of attempts since the link was last up for `HEALTHY` seconds."""
        self.peer: Peer | None = None
        self._device = device or None  # an empty name means no restriction
        self._ssl = ssl
        self._compress = compress
        self._host: LinkHost | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._failure_reported = False

    def __repr__(self) -> str:
        return f"<RemoteConnection {self.name}>"

    @property
    def name(self) -> str:
        """The link as `[device@]host:port`, for display."""
        host = f"[{self.indihost}]" if ":" in self.indihost else self.indihost
        return f"{self._device + '@' if self._device else ''}{host}:{self.indiport}"

    @property
    def devicenames(self) -> set[str]:
        """The names of the devices behind the link; empty while it is down."""
        return set(self.peer.devices) if self.peer is not None else set()

    def __contains__(self, devicename: object) -> bool:
        return devicename in self.devicenames

    def __iter__(self) -> Iterator[str]:
        return iter(self.devicenames)

    def start(self, host: LinkHost) -> None:
        """Connect, and reconnect whenever the link is lost, until `end` is called."""
        self._host = host
        self.stop = False
        outbox = host.new_outbox()
        self.peer = Peer(
            Kind.REMOTE, f"Remote {self.name}", outbox, blob_enable=self.blob_enable, limit_to=self._device
        )
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"link to {self.name}")

    async def end(self, grace: float = CLOSE_GRACE) -> None:
        """Take the link down for good, after the other server has taken what is queued, within `grace` seconds."""
        self.stop = True
        if self._stream is not None:
            self._stream.close(grace)
            await self._stream.wait_closed()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    async def _run(self) -> None:
        assert self._host is not None
        assert self.peer is not None
        try:
            while not self.stop:
                up = await self._attempt()
                if up >= HEALTHY:
                    self.attempts = 0
                # After a link that has lasted, the pause is the same as after the first failure.
                await asyncio.sleep(varied(pause_after(max(self.attempts, 1), FIRST_PAUSE, LONGEST_PAUSE)))
        finally:
            self.connected = False
            if self._stream is not None:
                self._stream.abort()
            self._host.remove(self.peer)

    async def _attempt(self) -> float:
        """Connect and wait until the link is lost. Return how many seconds it lasted."""
        assert self._host is not None
        assert self.peer is not None
        self.attempts += 1
        try:
            self._stream = await open_tcp(self.indihost, self.indiport, ssl=self._ssl)
        except OSError as failure:
            if not self._failure_reported:
                self._failure_reported = True
                if isinstance(failure, TLSError):
                    self._tell(f"no connection: {failure.why(LINK)}; trying again")
                else:
                    self._tell(f"{failure.strerror or failure}; trying again")
            return 0.0
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        connected_at = time.monotonic()

        def on_lost(exc: Exception | None) -> None:
            if not lost.done():
                lost.set_result(exc)

        self._host.carry(self.peer, self._stream, on_lost, compress=self._compress)
        self.connected = True
        self._failure_reported = False
        self._tell("connected", NOTICE)
        try:
            exc = await lost
        finally:
            self.connected = False
            with contextlib.suppress(Exception):
                self._host.lose(self.peer)
            self._stream = None
        if self.stop:
            return 0.0
        self._failure_reported = True
        why = exc.why(LINK) if isinstance(exc, TLSError) else exc
        self._tell(f"connection lost{f' ({why})' if why else ''}; trying again")
        return time.monotonic() - connected_at

    def _tell(self, what: str, level: int = logging.WARNING) -> None:
        assert self._host is not None
        text = f"Remote {self.name}: {what}"
        logger.log(level, "%s", text)
        self._host.tell_clients(text)
