"""Links that this server makes to others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from ssl import SSLContext
from typing import TYPE_CHECKING

from indifast.protocol.backoff import pause_after, varied
from indifast.routing.peer import Kind, Peer
from indifast.transport.connect import open_tcp
from indifast.transport.stream import Stream

if TYPE_CHECKING:
    from indifast.server.host import LinkHost

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
"""Seconds before the first new attempt; doubled for each further one."""

LONGEST_PAUSE = 30.0
"""Seconds between attempts at most, but for the jitter."""

HEALTHY = 10.0
"""A link that has lasted for so many seconds starts with a clean record."""


class RemoteConnection:
    """A link to another server, made again whenever it is lost.

    Each attempt resolves the host's name anew. Clients are told of each change of its state, not of each attempt; the
    devices behind a lost link vanish, and are defined again when it returns. `device` restricts the link to one device.

    Attributes:
        indihost, indiport: where to.
        connected: the link is up.
        blob_enable: BLOBs may cross it, in both directions.
        debug_enable: kept for programs that set it; `IPyServer.debug_enable` rules the log.
        stop: it was told to end.
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
    ) -> None:
        self.indihost = host
        self.indiport = port
        self.blob_enable = bool(blob_enable) and blob_enable != "Never"  # older releases had enableBLOB's words
        self.debug_enable = debug_enable
        self.connected = False
        self.stop = False
        self.attempts = 0
        """Attempts since the link was last up."""
        self.peer: Peer | None = None
        self._device = device or None  # an empty name is none
        self._ssl = ssl
        self._host: LinkHost | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._told_failure = False

    def __repr__(self) -> str:
        return f"<RemoteConnection {self.name}>"

    @property
    def name(self) -> str:
        """`[device@]host:port`, for people."""
        host = f"[{self.indihost}]" if ":" in self.indihost else self.indihost
        return f"{self._device + '@' if self._device else ''}{host}:{self.indiport}"

    @property
    def devicenames(self) -> set[str]:
        """The devices behind the link; none while it is down."""
        return set(self.peer.devices) if self.peer is not None else set()

    def __contains__(self, devicename: object) -> bool:
        return devicename in self.devicenames

    def __iter__(self) -> Iterator[str]:
        return iter(self.devicenames)

    def start(self, host: LinkHost) -> None:
        """Keep the link up from now on."""
        self._host = host
        self.stop = False
        outbox = host.new_outbox()
        self.peer = Peer(
            Kind.REMOTE, f"Remote {self.name}", outbox, blob_enable=self.blob_enable, limit_to=self._device
        )
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"link to {self.name}")

    async def end(self) -> None:
        """Take the link down for good."""
        self.stop = True
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
                # After a link that has lasted, as after the first failure.
                await asyncio.sleep(varied(pause_after(max(self.attempts, 1), FIRST_PAUSE, LONGEST_PAUSE)))
        finally:
            self.connected = False
            if self._stream is not None:
                self._stream.abort()
            self._host.remove(self.peer)

    async def _attempt(self) -> float:
        """Connect, and stay until the link is lost. Returns the seconds that it lasted."""
        assert self._host is not None
        assert self.peer is not None
        self.attempts += 1
        try:
            self._stream = await open_tcp(self.indihost, self.indiport, ssl=self._ssl)
        except OSError as failure:
            if not self._told_failure:
                self._told_failure = True
                self._tell(f"{failure.strerror or failure}; trying again")
            return 0.0
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        born = time.monotonic()

        def on_lost(exc: Exception | None) -> None:
            if not lost.done():
                lost.set_result(exc)

        self._host.carry(self.peer, self._stream, on_lost)
        self.connected = True
        self._told_failure = False
        self._tell("connected")
        try:
            exc = await lost
        finally:
            self.connected = False
            with contextlib.suppress(Exception):
                self._host.lose(self.peer)
            self._stream = None
        self._told_failure = True
        self._tell(f"connection lost{f' ({exc})' if exc else ''}; trying again")
        return time.monotonic() - born

    def _tell(self, what: str) -> None:
        assert self._host is not None
        text = f"Remote {self.name}: {what}"
        logger.warning("%s", text)
        self._host.tell_clients(text)
