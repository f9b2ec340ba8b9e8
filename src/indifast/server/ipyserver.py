"""The server: drivers in this process, drivers that are programs, links to other servers, and their clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ssl import SSLContext
from typing import TYPE_CHECKING, ClassVar, Self, Unpack, cast

from indifast.protocol import wire
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.tap import TapFunction
from indifast.server.hub import COMMAND_TIMEOUT, READ_TIMEOUT, Hub, raise_descriptor_limit
from indifast.server.locallink import LocalLink, LocalOutbox
from indifast.server.remote import RemoteConnection
from indifast.transport.connect import listen_tcp, listen_unix
from indifast.transport.listener import Listener
from indifast.transport.sockets import check_port, unix_path
from indifast.transport.stream import Stream

if TYPE_CHECKING:
    from datetime import datetime

    from indifast.driver.device import Device
    from indifast.driver.ipydriver import IPyDriver
    from indifast.protocol.limits import LimitOptions
    from indifast.routing.link import Link
    from indifast.server.exdriver import ExDriver, ExDriverOptions
    from indifast.server.statistics import PeerStats, ServerStats

logger = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds that drivers and connections have after shutdown."""

_MANY_CONNECTIONS = 100  # for which the usual limit of descriptors may be too low


class IPyServer:
    """Serves drivers to clients.

    Args:
        drivers: `IPyDriver` objects, or one list of them.
        host: name or address to listen on; "localhost" is IPv4 and IPv6, "" all interfaces.
        port: 0 takes a free one, which is then to be read as `port`.
        maxconnections: clients at a time, 1 or more; None for any number. Further ones are accepted and closed at once.
        ssl: TLS for the TCP port, an `ssl.SSLContext` for servers (its `verify_mode` decides on client certificates).
        unix_socket: also listen on this Unix socket, where BLOBs travel as file descriptors; a name that begins with
            "@" or NUL is an abstract one. port=None serves the Unix socket alone.
        accept_links: whether those who connect may bring devices of their own, as servers linked to this one do.
        newest_wins: BLOBs that wait for a slow client are replaced by newer ones of any format, not only streamed ones;
            True, or the properties for which it holds as pairs (device, name), or a function that says for a client's
            address whether it holds for this connection.
        read_timeout: seconds after which a client is disconnected that takes nothing of what waits for it.
        command_timeout: seconds for which a client is kept waiting when a driver takes no more commands.
        grace: seconds for drivers and connections to end after `shutdown`.
        limits: a `Limits` object; each of its fields is also a keyword here, as in IPyServer(blob=64 << 20).

    Raises:
        TypeError: not a driver; an unknown keyword; a port that is no int.
        ValueError: two drivers have a device of the same name; maxconnections below 1; a port above 65535.
        RuntimeError: a driver belongs to something else already.
    """

    exdriver_pipes: ClassVar[bool] = False
    """Whether external drivers get pipes when `add_exdriver` says nothing of it; see `ExDriver`."""

    def __init__(
        self,
        *drivers: IPyDriver | Iterable[IPyDriver],
        host: str | None = "localhost",
        port: int | None = 7624,
        maxconnections: int | None = 5,
        ssl: SSLContext | None = None,
        unix_socket: str | None = None,
        accept_links: bool = True,
        newest_wins: bool | Iterable[tuple[str, str]] | Callable[[str], bool] = False,
        read_timeout: float = READ_TIMEOUT,
        command_timeout: float = COMMAND_TIMEOUT,
        grace: float = GRACE,
        limits: Limits = DEFAULT_LIMITS,
        **more_limits: Unpack[LimitOptions],
    ) -> None:
        _check_connections(maxconnections)
        if port is not None:
            check_port(port)
        self.limits = replace(limits, connections=maxconnections, **more_limits)
        self.host = host
        self.port = port
        self.maxconnections = maxconnections
        self.ssl = ssl
        self.unix_socket = unix_socket
        self.accept_links = accept_links
        self.newest_wins = newest_wins
        self.debug_enable = True
        """Log all traffic at level DEBUG."""
        self.drivers: list[IPyDriver] = []
        self.remotes: list[RemoteConnection] = []
        self.exdrivers: list[ExDriver] = []
        self.connectionpool: list[Stream] = []
        """The streams of the clients that are connected."""
        self.server: Listener | None = None
        self.stopped = asyncio.Event()
        """Set when `asyncrun` is about to return."""
        self._keepalive: float | None = 30.0
        self._read_timeout = read_timeout
        self._command_timeout = command_timeout
        self._grace = grace
        self._stop = False
        self._shutdown: asyncio.Event | None = None
        self._ready = False
        self._awaiting_ready: list[asyncio.Future[None]] = []
        self._hub: Hub | None = None
        self._thread = 0
        self._listeners: list[Listener] = []
        self._open_links: list[LocalLink] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._local: dict[int, Peer] = {}
        self._clients: dict[Peer, Stream] = {}
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._heard: dict[Peer, int] = {}
        self._running: asyncio.Task[None] | None = None
        self.surplus = 0
        """Connections that were closed at once, because there were enough."""
        for driver in _flatten(drivers):
            self._adopt(driver)

    # -- what is served

    def _adopt(self, driver: object) -> None:
        from indifast.driver.ipydriver import IPyDriver

        if not isinstance(driver, IPyDriver):
            raise TypeError(f"the drivers of a server are IPyDriver objects, not {driver!r}")
        known = self.devices
        for name in driver.data:
            if name in known or (self._hub is not None and name in self._hub.router.owners):
                raise ValueError(f"two drivers have a device with the name {name}: rename one of the devices")
        driver._runtime.serve("an IPyServer")
        self.drivers.append(driver)

    @property
    def devices(self) -> dict[str, Device]:
        """The devices of the drivers in this process, by name."""
        return {name: device for driver in self.drivers for name, device in driver.data.items()}

    def add_driver(self, driver: IPyDriver) -> None:
        """Serve one more driver, also while the server runs. Raises as the constructor."""
        self._adopt(driver)
        if self._hub is not None:
            self._start_driver(driver, ask=True)

    async def remove_driver(self, driver: IPyDriver) -> None:
        """Shut a driver down and serve it no longer."""
        driver.shutdown()
        task = self._tasks.get(id(driver))
        if task is not None:
            await asyncio.wait((task,))
        with contextlib.suppress(ValueError):
            self.drivers.remove(driver)

    def add_remote(
        self,
        host: str,
        port: int,
        blob_enable: bool = False,
        debug_enable: bool = False,
        *,
        device: str | None = None,
        ssl: SSLContext | None = None,
    ) -> RemoteConnection:
        """Link this server to another one: each shows the other's devices to its clients and drivers.

        Args:
            blob_enable: let BLOBs pass, in both directions, as long as somebody wants them.
            device: only this device of the other server; nothing of this one is shown there then.
            ssl: TLS, an `ssl.SSLContext` for clients.
        """
        remote = RemoteConnection(host, port, blob_enable, debug_enable, device=device, ssl=ssl)
        self.remotes.append(remote)
        if self._hub is not None:
            remote.start(self._hub)
        return remote

    async def remove_remote(self, remote: RemoteConnection) -> None:
        """Take a link down."""
        self.remotes.remove(remote)
        await remote.end()
        if remote.peer is not None:
            self._heard.pop(remote.peer, None)

    def add_exdriver(
        self, program: str, *args: str, debug_enable: bool = False, **options: Unpack[ExDriverOptions]
    ) -> ExDriver:
        """Serve a driver that is a program, in any language. See `ExDriver` for more keywords.

        Raises (when the server runs already, else `asyncrun` does):
            FileNotFoundError, PermissionError: there is no such program.
        """
        from indifast.server.exdriver import ExDriver

        options.setdefault("pipes", self.exdriver_pipes)
        exdriver = ExDriver(program, *args, debug_enable=debug_enable, **options)
        if self._hub is not None:
            exdriver.start(self._hub)
        self.exdrivers.append(exdriver)
        return exdriver

    async def remove_exdriver(self, exdriver: ExDriver) -> None:
        """End the program and serve it no longer."""
        self.exdrivers.remove(exdriver)
        await exdriver.stop()

    def open_link(self, label: str) -> Link:
        """Take part in the server's traffic as a driver that speaks messages, as long as the server runs.

        What is sent on the link goes to clients and drivers as what any driver says; the first definition of a device
        makes it this link's. `getProperties` for all and for its devices, and commands for them, are to be received.
        If clients have asked before, a `getProperties` waits already. `label` names it in logs and in `stats`.

        Raises:
            RuntimeError: the server does not run.
        """
        if self._hub is None or self._stop:
            raise RuntimeError("this server is not running: open the link once it is ready")
        peer = Peer(Kind.DRIVER, f"Driver {label}", LocalOutbox())
        link = LocalLink(self._hub, peer)
        self._hub.router.introduce(peer, time.monotonic())
        self._open_links = [*(each for each in self._open_links if not each.closed), link]
        return link

    # -- running

    @property
    def stop(self) -> bool:
        """The server was told to stop."""
        return self._stop

    @property
    def keepalive(self) -> float | None:
        """Seconds after which a client that was told nothing else is sent a message; 0 or None: never."""
        return self._keepalive

    @keepalive.setter
    def keepalive(self, seconds: float | None) -> None:
        if seconds is not None and not isinstance(seconds, int | float):
            raise TypeError(f"keepalive is a number of seconds, not {seconds!r}")
        self._keepalive = seconds
        if self._hub is not None:
            self._schedule_keepalive()

    async def ready(self) -> None:
        """Wait until clients can connect.

        Raises:
            RuntimeError: the server has ended before they could; `asyncrun` raises why, unless it was shut down.
        """
        if not self._ready:
            waiter = asyncio.get_running_loop().create_future()
            self._awaiting_ready.append(waiter)
            await waiter

    def _tell_ready(self, ready: bool) -> None:
        self._ready = ready
        waiters, self._awaiting_ready = self._awaiting_ready, []
        for waiter in waiters:
            if waiter.done():
                continue
            if ready:
                waiter.set_result(None)
            else:
                waiter.set_exception(RuntimeError("this server has ended before clients could connect"))

    async def asyncrun(self) -> None:
        """Run until `shutdown`. What goes wrong at the start is raised; later faults are logged, and end what they hit.

        Returns at once if `shutdown` was called before the first run.

        Raises:
            OSError: the port is in use, or can't be listened on.
            FileNotFoundError, PermissionError: the program of an executable driver can't be started.
            RuntimeError: it runs already.
        """
        if self._hub is not None:
            raise RuntimeError("this server is running already")
        self._prepare()
        self._shutdown = asyncio.Event()
        if self._stop:
            self.stopped.set()
            self._tell_ready(False)
            return
        self._thread = threading.get_ident()
        if self.maxconnections is None or self.maxconnections > _MANY_CONNECTIONS:
            raise_descriptor_limit()
        hub = self._hub = self._make_hub()
        if self._stop:  # another thread has shut it down meanwhile
            self._shutdown.set()
        try:
            await self._listen()
            for exdriver in self.exdrivers:
                exdriver.start(hub)
            for driver in self.drivers:
                self._start_driver(driver, ask=False)
            for remote in self.remotes:
                remote.start(hub)
            self._schedule_keepalive()
            self._tell_ready(True)
            await self._shutdown.wait()
        finally:
            self._stop = True
            self._tell_ready(False)
            try:
                await self._close(hub)
            finally:
                self._hub = None
                self.stopped.set()

    def _prepare(self) -> None:
        """Another run is to begin: what the one before was told is over. A `shutdown` from now on counts."""
        if self.stopped.is_set():
            self.stopped.clear()
            self._stop = False

    def shutdown(self, shutdownmessage: str = "") -> None:
        """Stop the server: `asyncrun` returns when drivers and connections have ended; they have a grace time for it.

        For any thread; the message, if any, is logged.
        """
        if shutdownmessage:
            logger.error("%s", shutdownmessage)
        self._stop = True
        shutdown, hub = self._shutdown, self._hub
        if shutdown is None or hub is None:
            return
        if threading.get_ident() == self._thread:
            shutdown.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs
                hub.loop.call_soon_threadsafe(shutdown.set)

    async def __aenter__(self) -> Self:
        """Run in the background until the block ends; clients can connect when it begins."""
        self._prepare()
        self._running = asyncio.create_task(self.asyncrun())
        ready = asyncio.create_task(self.ready())
        await asyncio.wait((self._running, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        if self._running.done():
            self._running.result()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.shutdown()
        if self._running is not None:
            await self._running

    async def send_message(self, message: str, timestamp: datetime | None = None) -> None:
        """Tell all clients and linked servers something that belongs to no device.

        Nothing is sent with a time stamp that is none.
        """
        if self._hub is None or self._stop:
            return
        from indifast.protocol.timestamps import timestamp_text  # and with it datetime: not at every start

        try:
            stamp = timestamp_text(timestamp)
        except (TypeError, ValueError):
            return
        router, now = self._hub.router, time.monotonic()
        router.tell_clients(message, now, stamp)
        for peer in self._linked():
            if peer.limit_to is None:
                router.tell(peer, wire.message(message, stamp), now)

    def _linked(self) -> list[Peer]:
        """The servers at the other ends of our links that are up."""
        return [remote.peer for remote in self.remotes if remote.connected and remote.peer is not None]

    def _tap(self) -> TapFunction | None:
        """Who sees all traffic."""
        return self._log_traffic if logger.isEnabledFor(logging.DEBUG) else None

    def _make_hub(self) -> Hub:
        hub = Hub(
            self.limits,
            accept_links=self.accept_links,
            newest_wins=self.newest_wins is True,
            read_timeout=self._read_timeout,
            command_timeout=self._command_timeout,
            tap=self._tap(),
        )
        if not (isinstance(self.newest_wins, bool) or callable(self.newest_wins)):
            hub.newest_wins_of = frozenset((device, name) for device, name in self.newest_wins)
        return hub

    def _log_traffic(self, direction: str, peer: Peer, message: Routable) -> None:
        if self.debug_enable:
            sign = "RX" if direction == "from" else "TX"
            logger.debug("%s:: %s: %s", sign, peer.label, describe(message))

    async def _listen(self) -> None:
        if self.port is not None:
            self.server = await self._listen_tcp(self.port)
            self._listeners.append(self.server)
            self.port = self.server.port
            for sock, address in zip(self.server.sockets, self.server.addresses, strict=True):
                logger.info("listening to port %d on fd %d (%s)", self.port, sock.fileno(), address)
        if self.unix_socket is not None:
            path = unix_path(self.unix_socket)
            self._listeners.append(await self._listen_unix(path))
            logger.info("Local server: listening on local domain at: %s", path.replace("\0", "@"))

    async def _listen_tcp(self, port: int) -> Listener:
        return await listen_tcp(self.host, port, self._accept, ssl=self.ssl)

    async def _listen_unix(self, path: str) -> Listener:
        return await listen_unix(path, self._accept)

    def _start_driver(self, driver: IPyDriver, *, ask: bool) -> None:
        assert self._hub is not None
        hub = self._hub
        label = f"Driver {', '.join(driver.data) or type(driver).__name__}"
        peer = Peer(Kind.DRIVER, label, LocalOutbox(), blobs_by_default=True)
        self._local[id(driver)] = peer
        driver._runtime.attach(LocalLink(hub, peer))
        for name in driver.data:
            hub.router.claim(peer, name)
        if ask:
            hub.router.start(peer, time.monotonic())
        self._tasks[id(driver)] = hub.loop.create_task(self._run_driver(driver, peer), name=label)

    async def _run_driver(self, driver: IPyDriver, peer: Peer) -> None:
        """Run a driver; its end is not the server's."""
        try:
            await driver.asyncrun(grace=self._grace)
        except Exception:
            logger.exception("%s has failed; the server goes on without it", peer.label)
        finally:
            self._tasks.pop(id(driver), None)
            self._local.pop(id(driver), None)
            if self._hub is not None:
                self._hub.remove(peer)

    async def _close(self, hub: Hub) -> None:
        """End everything; afterwards nothing of this run is left."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self.server = None
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
            self._keepalive_timer = None
        for link in self._open_links:
            link.close()
        self._open_links.clear()
        for driver in self.drivers:
            driver.shutdown()
        ends = [asyncio.ensure_future(remote.end()) for remote in self.remotes]
        ends += [asyncio.ensure_future(exdriver.stop()) for exdriver in self.exdrivers]
        ends += self._tasks.values()
        if ends:
            await asyncio.wait(ends)
        hub.flush()
        streams = list(self._clients.values())
        for stream in streams:
            stream.close(self._grace)
        if streams:
            await asyncio.wait([asyncio.ensure_future(stream.wait_closed()) for stream in streams])
            await asyncio.sleep(0)  # the streams tell their end from the loop
        hub.close()
        self._heard.clear()

    # -- clients

    def _accept(self, stream: Stream) -> None:
        """A client has connected."""
        assert self._hub is not None
        hub = self._hub
        if self._stop or (self.maxconnections is not None and len(self._clients) >= self.maxconnections):
            self.surplus += 1
            text = "connection from %s closed: there are %d clients"
            hub.complain(logging.INFO, text, stream.peername, len(self._clients))
            stream.abort()
            return
        outbox = hub.new_outbox(attached=stream.local)
        if callable(self.newest_wins):
            outbox.newest_wins = bool(self.newest_wins(stream.peername))
        peer = Peer(Kind.CLIENT, f"Client {stream.peername}", outbox)
        self._clients[peer] = stream
        self.connectionpool.append(stream)
        logger.info("%s: new arrival - welcome!", peer.label)
        hub.carry(peer, stream, lambda exc: self._client_lost(hub, peer, stream, exc))

    def _client_lost(self, hub: Hub, peer: Peer, stream: Stream, exc: Exception | None) -> None:
        logger.info("%s: %s, shut down complete - bye!", peer.label, f"error {exc}" if exc else "end of file")
        del self._clients[peer]
        self.connectionpool.remove(stream)
        self._heard.pop(peer, None)
        hub.remove(peer)

    def _schedule_keepalive(self) -> None:
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
            self._keepalive_timer = None
        if self._hub is not None and self._keepalive:
            self._keepalive_timer = self._hub.loop.call_later(self._keepalive, self._keep_alive)

    def _keep_alive(self) -> None:
        """One message to each client and linked server that was told nothing but BLOBs since the last time.

        A connection that is dead shows itself by it.
        """
        from indifast.protocol.timestamps import timestamp_text  # and with it datetime: not at every start

        assert self._hub is not None
        now = time.monotonic()
        text = wire.message("Keep alive message", timestamp_text())
        linked = self._linked()
        for peer in [*self._clients, *linked]:
            outbox = peer.outbox
            assert isinstance(outbox, Outbox)
            told = outbox.sent_messages - sum(outbox.frames_sent.values())
            if self._heard.get(peer) == told and not outbox.queued:
                self._hub.router.tell(peer, text, now)
                told += 1
            self._heard[peer] = told
        self._schedule_keepalive()

    # -- what happened

    def stats(self) -> ServerStats:
        """Counters of the whole server and of each peer, made of plain dicts, lists, strings and numbers."""
        hub = self._hub
        if hub is None:
            return {"running": False, "peers": []}
        router = hub.router
        return {
            "running": True,
            "port": self.port,
            "clients": len(self._clients),
            "surplus": self.surplus,
            "devices": {device: owner.label for device, owner in router.owners.items()},
            "refused": dict(router.refused),
            "unfinished_bytes": hub.held,
            "updates": {property_text(*key): count for key, count in router.traffic().items()},
            "peers": [_peer_stats(hub, peer) for peer in router.peers],
        }


def _peer_stats(hub: Hub, peer: Peer) -> PeerStats:
    outbox = peer.outbox
    connection = hub.connections.get(peer)
    queued: dict[str, int] = {}
    sent = peer.told.copy()
    for message in outbox.waiting():
        key = property_text(message.device, message.name)
        queued[key] = queued.get(key, 0) + 1
        if peer.counts(message):
            sent[(message.device, message.name)] -= 1
    counters: dict[str, Mapping[tuple[str | None, str | None], int]]
    counters = {"replaced": outbox.replaced, "dropped": outbox.dropped}
    if isinstance(outbox, Outbox):
        counters["frames_sent"] = outbox.frames_sent
        sent.update(outbox.frames_sent)
    else:
        sent.subtract(outbox.replaced)
        sent.subtract(outbox.dropped)
    counters["sent"] = +sent
    stats: dict[str, object] = {
        "kind": peer.kind.value,
        "name": peer.label,
        "devices": list(peer.devices),
        "received": peer.received,
        "refused": dict(peer.refused),
        "queued_bytes": outbox.queued,
        "queued_messages": outbox.messages,
        "sent_bytes": outbox.sent_bytes,
        "sent_messages": outbox.sent_messages,
        "queued": queued,
    }
    for what, counter in counters.items():
        stats[what] = {property_text(*key): count for key, count in counter.items()}
    if connection is not None:
        tokenizer = connection.reader.tokenizer
        stats |= {
            "skipped": dict(tokenizer.skipped),
            "skipped_bytes": tokenizer.skipped_bytes,
            "characters_replaced": tokenizer.replaced,
            "pauses": connection.pauses,
        }
    return cast("PeerStats", stats)


def property_text(device: str | None, name: str | None) -> str:
    """`device.name` for people; an empty text for what belongs to no device."""
    return ".".join(part for part in (device, name) if part is not None)


def describe(message: Routable) -> str:
    """A message in one line, BLOB content left out."""
    if message.blob:
        return f"<{message.tag} device={message.device!r} name={message.name!r}> with {message.size} bytes of BLOBs"
    return b"".join(message.parts(False) or ()).decode("utf-8", "replace").rstrip()


def _flatten(drivers: Iterable[object]) -> Iterable[object]:
    """Drivers given one by one, or (as of old) as one list."""
    for driver in drivers:
        if isinstance(driver, list | tuple | set | frozenset):
            yield from driver
        else:
            yield driver


def _check_connections(maxconnections: int | None) -> None:
    if maxconnections is None:
        return
    if not isinstance(maxconnections, int):
        raise TypeError(f"maxconnections is a number or None, not {maxconnections!r}")
    if maxconnections < 1:
        raise ValueError(f"maxconnections is 1 or more, or None for any number, not {maxconnections}")
