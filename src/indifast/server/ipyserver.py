"""The server: connects drivers in this process, drivers that are programs, and links to other servers with clients."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, cast

from indifast.compression import check_choice
from indifast.protocol import wire
from indifast.protocol.compress import AUTO
from indifast.protocol.drivernames import PORT
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable
from indifast.routing.clientqueue import Outbox
from indifast.routing.peer import Kind, Peer
from indifast.routing.tap import TapFunction
from indifast.server.hub import COMMAND_TIMEOUT, READ_TIMEOUT, Hub, raise_descriptor_limit
from indifast.server.locallink import LocalLink, LocalOutbox
from indifast.server.metrics import Labels, Page, Traffic
from indifast.server.remote import RemoteConnection
from indifast.transport.connect import listen_tcp, listen_unix
from indifast.transport.listener import Listener
from indifast.transport.senders import check_count
from indifast.transport.sockets import check_port, unix_path
from indifast.transport.stream import Stream

if TYPE_CHECKING:
    from datetime import datetime

    from indifast.driver.device import Device
    from indifast.driver.ipydriver import IPyDriver
    from indifast.protocol.limits import LimitOptions
    from indifast.routing.link import Link
    from indifast.server.admission import ConnectionWriter
    from indifast.server.exdriver import ExDriver, ExDriverOptions
    from indifast.server.statistics import PeerStats, ServerStats

logger = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds that drivers and connections have to end after shutdown."""

_MANY_CONNECTIONS = 100  # above this, the default limit of descriptors may be too low


class IPyServer:
    """Serves drivers to clients.

    Args:
        *drivers: `IPyDriver` objects, or one list of them.
        host: The name or address to listen on. "localhost" means its IPv4 and IPv6 addresses, "" all interfaces.
        port: The TCP port. 0 means any free port, which the attribute `port` then holds; None means no TCP port.
        maxconnections: The maximum number of clients, at least 1; None for no limit. Further connections are accepted
            and closed at once.
        ssl: The context for TLS on the TCP port, for servers. Its `verify_mode` determines whether clients need
            certificates.
        unix_socket: Also listen on this Unix socket, over which BLOBs are sent as file descriptors. A file is made with
            mode 600: only this user can connect. A name that begins with "@" or NUL is abstract: every user can.
        accept_links: Whether clients may bring their own devices, as servers linked to this one do.
        newest_wins: Whether BLOBs that wait for a slow client are replaced by newer ones of any format, and not only
            streamed BLOBs. Either a bool, or the properties to which this applies, as pairs (device, name), or a
            function that takes a client's address and returns whether this applies to the connection.
        read_timeout: Seconds after which a client that reads nothing of what is queued for it is disconnected.
        command_timeout: Seconds for which a client is kept waiting if a driver accepts no more commands.
        raw_frames: Whether to send BLOBs as raw bytes, instead of base64, to indifast clients and servers that do the
            same.
        compress: How frames are compressed on connections with raw frames: "auto" (where that makes a link faster, if
            `indifast[compression]` is installed), "off", or always by "lz4" or "zstd".
        grace: Seconds that drivers and connections have to end after `shutdown`.
        senders: The maximum number of threads that write frames, so that several cores do; 0 for none: the event loop
            writes everything. None means as many as pay off on the cores that the process may use. Connections with TLS
            don't use them, and they exist on Linux only.
        limits: The limits on what peers may send and on what is queued for them.
        **more_limits: Single fields of `Limits`, as in IPyServer(blob=64 << 20).

    Raises:
        TypeError: A driver, the port or a keyword is not valid.
        ValueError: Two drivers have a device with the same name, `maxconnections`, `port` or `senders` is out of
            range, or `compress` is another word.
        ImportError: `compress` is a method that is not installed.
        RuntimeError: A driver already belongs to a server, or listens itself.
    """

    exdriver_pipes: ClassVar[bool] = False
    """Whether external drivers get pipes if `add_exdriver` does not specify it. See `ExDriver`."""

    def __init__(
        self,
        *drivers: IPyDriver | Iterable[IPyDriver],
        host: str | None = "localhost",
        port: int | str | None = PORT,
        maxconnections: int | None = 5,
        ssl: SSLContext | None = None,
        unix_socket: str | None = None,
        accept_links: bool = True,
        newest_wins: bool | Iterable[tuple[str, str]] | Callable[[str], bool] = False,
        read_timeout: float = READ_TIMEOUT,
        command_timeout: float = COMMAND_TIMEOUT,
        raw_frames: bool = True,
        compress: str = AUTO,
        grace: float = GRACE,
        senders: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        **more_limits: Unpack[LimitOptions],
    ) -> None:
        _check_connections(maxconnections)
        if port is not None:
            port = check_port(port)
        if senders is not None:
            check_count(senders)
        check_choice(compress)
        self.limits = replace(limits, connections=maxconnections, **more_limits)
        self.host = host
        self.port: int | None = port
        self.maxconnections = maxconnections
        self.ssl = ssl
        self.unix_socket = unix_socket
        self.accept_links = accept_links
        self.newest_wins = newest_wins
        self.debug_enable = True
        """Whether to log all traffic at level DEBUG."""
        self.drivers: list[IPyDriver] = []
        self.remotes: list[RemoteConnection] = []
        self.exdrivers: list[ExDriver] = []
        self.connectionpool: list[Stream] = []
        """The streams of the connected clients."""
        self.server: Listener | None = None
        self.stopped = asyncio.Event()
        """Set when `asyncrun` is about to return."""
        self._indifast_keepalive: float | None = 30.0
        self._indifast_read_timeout = read_timeout
        self._indifast_command_timeout = command_timeout
        self._indifast_raw_frames = raw_frames
        self._indifast_compress = compress
        self._indifast_grace = grace
        self._indifast_senders = senders
        self._stop = False
        self._indifast_shutdown: asyncio.Event | None = None
        self._indifast_ready = False
        self._indifast_awaiting_ready: list[asyncio.Future[None]] = []
        self._indifast_hub: Hub | None = None
        self._indifast_thread = 0
        self._indifast_listeners: list[Listener] = []
        self._indifast_open_links: list[LocalLink] = []
        self._indifast_tasks: dict[int, asyncio.Task[None]] = {}
        self._indifast_local: dict[int, Peer] = {}
        self._indifast_clients: dict[Peer, Stream] = {}
        self._indifast_admissions: dict[asyncio.Task[None], ConnectionWriter] = {}
        self._indifast_keepalive_timer: asyncio.TimerHandle | None = None
        self._indifast_sent_before: dict[Peer, int] = {}
        self._indifast_running: asyncio.Task[None] | None = None
        self.surplus = 0
        """Connections that were closed at once, because there were too many clients."""
        self._indifast_restarts: Counter[str] = Counter()  # by name of the driver
        self._indifast_driver_labels = Labels()
        self._indifast_link_labels = Labels()
        self._indifast_reason_labels = Labels()
        for driver in _flatten(drivers):
            self._indifast_adopt(driver)

    # -- Drivers and links

    def _indifast_adopt(self, driver: object) -> None:
        from indifast.driver.ipydriver import IPyDriver

        if not isinstance(driver, IPyDriver):
            raise TypeError(f"drivers must be IPyDriver objects, not {driver!r}")
        known = self.devices
        for name in driver.data:
            if name in known or (self._indifast_hub is not None and name in self._indifast_hub.router.owners):
                raise ValueError(f"two drivers have a device named {name}: rename one of the devices")
        driver._indifast_runtime.serve("an IPyServer")
        self.drivers.append(driver)

    @property
    def devices(self) -> dict[str, Device]:
        """The devices of the drivers in this process, by name."""
        return {name: device for driver in self.drivers for name, device in driver.data.items()}

    def add_driver(self, driver: IPyDriver) -> None:
        """Add a driver. This is possible while the server is running.

        Raises:
            TypeError: It is not an `IPyDriver`.
            ValueError: Another driver has a device with the same name.
            RuntimeError: The driver already belongs to a server, or listens itself.
        """
        self._indifast_adopt(driver)
        if self._indifast_hub is not None:
            self._indifast_start_driver(driver, ask=True)

    async def remove_driver(self, driver: IPyDriver) -> None:
        """Shut down a driver and remove it from the server."""
        driver.shutdown()
        task = self._indifast_tasks.get(id(driver))
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
        compress: str | None = None,
    ) -> RemoteConnection:
        """Link this server to another one. Each server shows the other's devices to its clients and drivers.

        Args:
            host: The name or address of the other server.
            port: Its TCP port.
            blob_enable: Whether BLOBs may cross the link, in both directions, if any client or driver wants them.
            debug_enable: Has no effect.
            device: Show only this device of the other server, and none of this server's devices there.
            ssl: The context for TLS, for clients; None for a plain connection.
            compress: How frames are compressed on this link, if not as on all other connections; see `IPyServer`.

        Raises:
            TypeError: The port is neither an int nor a str.
            ValueError: The port is not in the range from 1 to 65535, or `compress` is another word.
            ImportError: `compress` is a method that is not installed.
        """
        remote = RemoteConnection(host, port, blob_enable, debug_enable, device=device, ssl=ssl, compress=compress)
        self.remotes.append(remote)
        if self._indifast_hub is not None:
            remote.start(self._indifast_hub)
        return remote

    async def remove_remote(self, remote: RemoteConnection) -> None:
        """Take down a link and remove it from the server."""
        self.remotes.remove(remote)
        await remote.end()
        if remote.peer is not None:
            self._indifast_sent_before.pop(remote.peer, None)

    def add_exdriver(
        self, program: str, *args: str, debug_enable: bool = False, **options: Unpack[ExDriverOptions]
    ) -> ExDriver:
        """Add a driver that is a program, in any language. This is possible while the server is running.

        Args:
            program: The name or path of the program.
            *args: Its arguments.
            debug_enable: Has no effect.
            **options: More keywords for `ExDriver`.

        Raises:
            FileNotFoundError: There is no such program. If the server is not running yet, `asyncrun` raises this.
            PermissionError: The program can't be executed. If the server is not running yet, `asyncrun` raises this.
        """
        from indifast.server.exdriver import ExDriver

        options.setdefault("pipes", self.exdriver_pipes)
        exdriver = ExDriver(program, *args, debug_enable=debug_enable, **options)
        exdriver.on_restart = self._indifast_count_restart
        if self._indifast_hub is not None:
            exdriver.start(self._indifast_hub)
        self.exdrivers.append(exdriver)
        return exdriver

    def _indifast_count_restart(self, exdriver: ExDriver) -> None:
        self._indifast_restarts[self._indifast_driver_labels.of(exdriver.name)] += 1

    async def remove_exdriver(self, exdriver: ExDriver) -> None:
        """End an executable driver and remove it from the server."""
        self.exdrivers.remove(exdriver)
        await exdriver.stop()

    def open_link(self, label: str) -> Link:
        """Open a link on which the caller acts as a driver, as long as the server runs.

        Messages sent on the link reach clients and drivers like those of any other driver. The link owns the devices
        that it defines first. It receives general `getProperties` requests, and requests and commands for its devices.
        If clients have asked before, a `getProperties` is already waiting.

        Args:
            label: The name of the link in logs and in `stats`.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._indifast_hub is None or self._stop:
            raise RuntimeError("this server is not running: open the link when it is ready")
        peer = Peer(Kind.DRIVER, f"Driver {label}", LocalOutbox())
        link = LocalLink(self._indifast_hub, peer)
        self._indifast_hub.router.introduce(peer, time.monotonic())
        self._indifast_open_links = [*(each for each in self._indifast_open_links if not each.closed), link]
        return link

    # -- Running

    @property
    def stop(self) -> bool:
        """Whether the server has been told to stop."""
        return self._stop

    @property
    def keepalive(self) -> float | None:
        """Seconds after which a client that was sent nothing else is sent a message; 0 or None for never."""
        return self._indifast_keepalive

    @keepalive.setter
    def keepalive(self, seconds: float | None) -> None:
        if seconds is not None and not isinstance(seconds, int | float):
            raise TypeError(f"keepalive must be a number of seconds or None, not {seconds!r}")
        self._indifast_keepalive = seconds
        if self._indifast_hub is not None:
            self._indifast_schedule_keepalive()

    async def ready(self) -> None:
        """Wait until clients can connect.

        Raises:
            RuntimeError: The server ended before they could. Unless it was shut down, `asyncrun` raises the reason.
        """
        if not self._indifast_ready:
            waiter = asyncio.get_running_loop().create_future()
            self._indifast_awaiting_ready.append(waiter)
            await waiter

    def _indifast_tell_ready(self, ready: bool) -> None:
        self._indifast_ready = ready
        waiters, self._indifast_awaiting_ready = self._indifast_awaiting_ready, []
        for waiter in waiters:
            if waiter.done():
                continue
            if ready:
                waiter.set_result(None)
            else:
                waiter.set_exception(RuntimeError("this server ended before clients could connect"))

    async def asyncrun(self) -> None:
        """Run until `shutdown` is called.

        Errors at the start are raised. Later errors are logged, and end only the driver, link or connection concerned.
        If `shutdown` was called before the first run, this returns at once.

        Raises:
            OSError: The port is in use, or can't be listened on.
            FileNotFoundError: There is no program for an executable driver.
            PermissionError: The program of an executable driver can't be executed.
            RuntimeError: The server is already running.
        """
        if self._indifast_hub is not None:
            raise RuntimeError("this server is running already")
        self._indifast_prepare()
        self._indifast_shutdown = asyncio.Event()
        if self._stop:
            self.stopped.set()
            self._indifast_tell_ready(False)
            return
        self._indifast_thread = threading.get_ident()
        if self.maxconnections is None or self.maxconnections > _MANY_CONNECTIONS:
            raise_descriptor_limit()
        hub = self._indifast_hub = self._indifast_make_hub()
        if self._stop:  # another thread has shut down the server in the meantime
            self._indifast_shutdown.set()
        try:
            await self._indifast_listen()
            for exdriver in self.exdrivers:
                exdriver.start(hub)
            for driver in self.drivers:
                self._indifast_start_driver(driver, ask=False)
            for remote in self.remotes:
                remote.start(hub)
            self._indifast_schedule_keepalive()
            self._indifast_tell_ready(True)
            await self._indifast_shutdown.wait()
        finally:
            if not self._indifast_shutdown.is_set():
                self._indifast_call_shutdown()
            self._stop = True
            self._indifast_tell_ready(False)
            try:
                await self._indifast_close(hub)
            finally:
                hub.close()
                self._indifast_hub = None
                self.stopped.set()

    def _indifast_prepare(self) -> None:
        """Prepare for a new run: forget the `shutdown` of the previous run. Later calls of `shutdown` take effect."""
        if self.stopped.is_set():
            self.stopped.clear()
            self._stop = False

    def shutdown(self, shutdownmessage: str = "") -> None:
        """Stop the server. `asyncrun` returns when drivers and connections have ended, or their grace time is over.

        This may be called from any thread. It is also called when `asyncrun` ends for another reason.

        Args:
            shutdownmessage: A message to log.
        """
        if shutdownmessage:
            logger.error("%s", shutdownmessage)
        self._stop = True
        shutdown, hub = self._indifast_shutdown, self._indifast_hub
        if shutdown is None or hub is None:
            return
        if threading.get_ident() == self._indifast_thread:
            shutdown.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing is running
                hub.loop.call_soon_threadsafe(shutdown.set)

    def _indifast_call_shutdown(self) -> None:
        try:
            self.shutdown()
        except Exception:  # of a subclass
            logger.exception("error in shutdown; the server ends all the same")

    async def __aenter__(self) -> Self:
        """Run the server in the background until the block ends. Clients can connect when the block begins."""
        self._indifast_prepare()
        self._indifast_running = asyncio.create_task(self.asyncrun())
        ready = asyncio.create_task(self.ready())
        await asyncio.wait((self._indifast_running, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        if self._indifast_running.done():
            self._indifast_running.result()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.shutdown()
        if self._indifast_running is not None:
            await self._indifast_running

    async def send_message(self, message: str, timestamp: datetime | None = None) -> None:
        """Send all clients and linked servers a message that belongs to no device.

        Args:
            message: The text.
            timestamp: The time of the message; None for now. If it is not valid, nothing is sent.
        """
        if self._indifast_hub is None or self._stop:
            return
        from indifast.protocol.timestamps import timestamp_text  # imports datetime, which the start should not wait for

        try:
            stamp = timestamp_text(timestamp)
        except (TypeError, ValueError):
            return
        router, now = self._indifast_hub.router, time.monotonic()
        router.tell_clients(message, now, stamp)
        for peer in self._indifast_linked():
            if peer.limit_to is None:
                router.tell(peer, wire.message(message, stamp), now)

    def _indifast_linked(self) -> list[Peer]:
        """Return the servers at the other ends of those of our links that are up."""
        return [remote.peer for remote in self.remotes if remote.connected and remote.peer is not None]

    def _indifast_tap(self) -> TapFunction | None:
        """Return the function that sees all traffic; None if there is none."""
        return self._indifast_log_traffic if logger.isEnabledFor(logging.DEBUG) else None

    def _indifast_make_hub(self) -> Hub:
        hub = Hub(
            self.limits,
            accept_links=self.accept_links,
            newest_wins=self.newest_wins is True,
            read_timeout=self._indifast_read_timeout,
            command_timeout=self._indifast_command_timeout,
            senders=self._indifast_senders,
            raw_frames=self._indifast_raw_frames,
            compress=self._indifast_compress,
            tap=self._indifast_tap(),
        )
        if not (isinstance(self.newest_wins, bool) or callable(self.newest_wins)):
            hub.newest_wins_of = frozenset((device, name) for device, name in self.newest_wins)
        return hub

    def _indifast_log_traffic(self, direction: str, peer: Peer, message: Routable) -> None:
        if self.debug_enable:
            sign = "RX" if direction == "from" else "TX"
            logger.debug("%s:: %s: %s", sign, peer.label, describe(message))

    async def _indifast_listen(self) -> None:
        if self.port is not None:
            self.server = await self._indifast_listen_tcp(self.port)
            self._indifast_listeners.append(self.server)
            self.port = self.server.port
            for sock, address in zip(self.server.sockets, self.server.addresses, strict=True):
                logger.info("listening to port %d on fd %d (%s)", self.port, sock.fileno(), address)
        if self.unix_socket is not None:
            listener = await self._indifast_listen_unix(unix_path(self.unix_socket))
            self._indifast_listeners.append(listener)
            for address in listener.addresses:
                logger.info("Local server: listening on local domain at: %s", address)

    async def _indifast_listen_tcp(self, port: int) -> Listener:
        return await listen_tcp(self.host, port, self._indifast_accept_tcp(), ssl=self.ssl)

    async def _indifast_listen_unix(self, path: str) -> Listener:
        return await listen_unix(path, self._indifast_accept)

    def _indifast_start_driver(self, driver: IPyDriver, *, ask: bool) -> None:
        assert self._indifast_hub is not None
        hub = self._indifast_hub
        label = f"Driver {', '.join(driver.data) or type(driver).__name__}"
        peer = Peer(Kind.DRIVER, label, LocalOutbox(), blobs_by_default=True)
        self._indifast_local[id(driver)] = peer
        driver._indifast_runtime.attach(LocalLink(hub, peer), self._indifast_grace)
        for name in driver.data:
            hub.router.claim(peer, name)
        if ask:
            hub.router.start(peer, time.monotonic())
        self._indifast_tasks[id(driver)] = hub.loop.create_task(self._indifast_run_driver(driver, peer), name=label)

    async def _indifast_run_driver(self, driver: IPyDriver, peer: Peer) -> None:
        """Run a driver. If it ends or fails, the server continues."""
        try:
            await driver.asyncrun()
        except Exception:
            logger.exception("%s has failed; the server continues without it", peer.label)
        finally:
            self._indifast_tasks.pop(id(driver), None)
            self._indifast_local.pop(id(driver), None)
            if self._indifast_hub is not None:
                self._indifast_hub.remove(peer)

    async def _indifast_close(self, hub: Hub) -> None:
        """End everything that belongs to this run."""
        for listener in self._indifast_listeners:
            listener.close()
        self._indifast_listeners.clear()
        self.server = None
        if self._indifast_keepalive_timer is not None:
            self._indifast_keepalive_timer.cancel()
            self._indifast_keepalive_timer = None
        for link in self._indifast_open_links:
            link.close()
        self._indifast_open_links.clear()
        for driver in self.drivers:
            driver._indifast_runtime.shut_down()
        await _all([*(exdriver.stop() for exdriver in self.exdrivers), *self._indifast_tasks.values()])
        hub.flush()
        await _all([remote.end(self._indifast_grace) for remote in self.remotes])
        for task, writer in list(self._indifast_admissions.items()):
            if not writer.served:
                task.cancel()
        hub.flush()
        streams = list(self._indifast_clients.values())
        for stream in streams:
            stream.close(self._indifast_grace)
        if streams:
            await asyncio.wait([asyncio.ensure_future(stream.wait_closed()) for stream in streams])
            await asyncio.sleep(0)  # the streams report their end from the loop
        if admissions := set(self._indifast_admissions):
            _, late = await asyncio.wait(admissions, timeout=self._indifast_grace)
            for task in late:
                task.cancel()
        self._indifast_sent_before.clear()

    # -- Clients

    async def handle_data(self, reader: Any, writer: Any) -> None:
        """Serve a client on the TCP port until it leaves.

        It is called only if a program overrides it, for instance to admit some addresses only: nothing is sent or read
        before the override calls this method, and the connection is closed when the override returns.

        Args:
            reader: The reading side: an object with the method `read`.
            writer: The writing side. `writer.get_extra_info("peername")` is the client's address; with `write`, `drain`
                and `close`, a program can send something else and end the connection.
        """
        await writer.serve()

    def _indifast_accept_tcp(self) -> Callable[[Stream], None]:
        """Return the function that takes new connections to the TCP port."""
        overridden = "handle_data" in self.__dict__ or type(self).handle_data is not IPyServer.handle_data
        return self._indifast_admit if overridden else self._indifast_accept

    def _indifast_admit(self, stream: Stream) -> None:
        """Ask the program's `handle_data` about a client that has connected, unless there are too many."""
        from indifast.server.admission import ConnectionWriter

        assert self._indifast_hub is not None
        asking = sum(not writer.served for writer in self._indifast_admissions.values())
        if self._indifast_full(asking):
            self._indifast_accept(stream, asking)
            return
        writer = ConnectionWriter(stream, self._indifast_serve_until_lost)
        task = self._indifast_hub.loop.create_task(self._indifast_handle(writer), name=f"Client {stream.peername}")
        self._indifast_admissions[task] = writer
        task.add_done_callback(self._indifast_admissions.pop)
        task.add_done_callback(lambda _: writer.close())  # if it was cancelled before its first step

    async def _indifast_handle(self, writer: ConnectionWriter) -> None:
        from indifast.server.admission import ConnectionReader

        try:
            handling: object = self.handle_data(ConnectionReader(writer), writer)
            if inspect.isawaitable(handling):
                await handling
        except Exception:
            logger.exception("Client %s: handle_data has failed; the connection is closed", writer.stream.peername)
        finally:
            writer.close()

    async def _indifast_serve_until_lost(self, stream: Stream) -> None:
        if self._indifast_hub is None:
            stream.abort()
            return
        self._indifast_accept(stream)
        await stream.wait_closed()
        await asyncio.sleep(0)  # the stream reports its end from the loop

    def _indifast_full(self, asking: int = 0) -> bool:
        """Return whether no further client can be served, if so many are waiting to be admitted."""
        clients = len(self._indifast_clients) + asking
        return self._stop or (self.maxconnections is not None and clients >= self.maxconnections)

    def _indifast_accept(self, stream: Stream, asking: int = 0) -> None:
        """Serve a client that has connected, or close the connection if there are too many."""
        assert self._indifast_hub is not None
        hub = self._indifast_hub
        if self._indifast_full(asking):
            self.surplus += 1
            text = "connection from %s closed: there are already %d clients"
            hub.complain(logging.INFO, text, stream.peername, len(self._indifast_clients) + asking)
            stream.abort()
            return
        outbox = hub.new_outbox(attached=stream.local)
        if callable(self.newest_wins):
            outbox.newest_wins = bool(self.newest_wins(stream.peername))
        peer = Peer(Kind.CLIENT, f"Client {stream.peername}", outbox)
        self._indifast_clients[peer] = stream
        self.connectionpool.append(stream)
        logger.info("%s: new arrival - welcome!", peer.label)
        hub.carry(peer, stream, lambda exc: self._indifast_client_lost(hub, peer, stream, exc))

    def _indifast_client_lost(self, hub: Hub, peer: Peer, stream: Stream, exc: Exception | None) -> None:
        logger.info("%s: %s, shut down complete - bye!", peer.label, f"error {exc}" if exc else "end of file")
        del self._indifast_clients[peer]
        self.connectionpool.remove(stream)
        self._indifast_sent_before.pop(peer, None)
        hub.remove(peer)

    def _indifast_schedule_keepalive(self) -> None:
        if self._indifast_keepalive_timer is not None:
            self._indifast_keepalive_timer.cancel()
            self._indifast_keepalive_timer = None
        if self._indifast_hub is not None and self._indifast_keepalive:
            self._indifast_keepalive_timer = self._indifast_hub.loop.call_later(
                self._indifast_keepalive, self._indifast_keep_alive
            )

    def _indifast_keep_alive(self) -> None:
        """Send a message to each client and linked server that has been sent nothing but BLOBs since the last time.

        This reveals dead connections.
        """
        from indifast.protocol.timestamps import timestamp_text  # imports datetime, which the start should not wait for

        assert self._indifast_hub is not None
        now = time.monotonic()
        text = wire.message("Keep alive message", timestamp_text())
        linked = self._indifast_linked()
        for peer in [*self._indifast_clients, *linked]:
            outbox = peer.outbox
            assert isinstance(outbox, Outbox)
            sent = outbox.sent_messages - sum(outbox.frames_sent.values())
            if self._indifast_sent_before.get(peer) == sent and not outbox.queued:
                self._indifast_hub.router.tell(peer, text, now)
                sent += 1
            self._indifast_sent_before[peer] = sent
        self._indifast_schedule_keepalive()

    # -- Statistics

    def stats(self) -> ServerStats:
        """Return counters of the whole server and of each peer, as plain dicts, lists, strings and numbers."""
        hub = self._indifast_hub
        if hub is None:
            return {"running": False, "peers": []}
        router = hub.router
        return {
            "running": True,
            "port": self.port,
            "clients": len(self._indifast_clients),
            "surplus": self.surplus,
            "devices": {device: owner.label for device, owner in router.owners.items()},
            "refused": dict(router.refused),
            "unfinished_bytes": hub.held,
            "updates": {property_text(*key): count for key, count in router.traffic().items()},
            "peers": [_peer_stats(hub, peer) for peer in router.peers],
        }

    def metrics(self) -> str:
        """Return counters of the server as text for Prometheus. Its names are on the page about `indifast serve`.

        Unlike those of `stats`, these counters include peers that are gone, and there is a limit on how many there are.
        """
        page = Page()
        if self._indifast_hub is not None:
            self._indifast_measure(self._indifast_hub, page)
        return str(page)

    def _indifast_measure(self, hub: Hub, page: Page) -> None:
        router = hub.router
        page.gauge("clients", "Connected clients.", len(self._indifast_clients))
        page.counter("surplus", "Connections closed at once, because there were too many clients.", self.surplus)
        page.gauge("devices", "Devices that clients are shown.", len(router.owners))
        programs = [(each.name, each.pid is not None) for each in self.exdrivers]
        labels = self._indifast_driver_labels
        present, running = labels.sums((name, 1) for name, _ in programs), labels.sums(programs)
        page.gauge("drivers", "Drivers that are programs, running or to be started again.", present, "driver")
        page.gauge("drivers_running", "Those that run.", running, "driver")
        restarts = dict.fromkeys(present, 0) | self._indifast_restarts
        page.counter("driver_restarts", "Times that a driver has died to be started again.", restarts, "driver")
        links = [(each.name, each.connected) for each in self.remotes]
        labels = self._indifast_link_labels
        present, running = labels.sums((name, 1) for name, _ in links), labels.sums(links)
        page.gauge("links", "Links to other servers.", present, "link")
        page.gauge("links_up", "Those that are connected.", running, "link")
        traffic, updates = hub.traffic()
        page.counter("updates", "Updates without BLOBs that were passed on.", updates, "device")
        page.counter("blobs_sent", "Messages with BLOBs sent to clients and links.", traffic.blobs, "device")
        page.counter("dropped", "Messages dropped for slow readers.", traffic.dropped, "device")
        page.counter("replaced", "Messages replaced by newer ones for slow readers.", traffic.replaced, "device")
        page.counter("received_messages", "Messages received, by kind of sender.", traffic.received, "kind")
        page.counter("sent_messages", "Messages sent, by kind of receiver.", traffic.sent, "kind")
        page.counter("sent_bytes", "Bytes sent, by kind of receiver.", traffic.sent_bytes, "kind")
        waiting = dict.fromkeys(Traffic.KINDS, 0)
        for peer in router.peers:
            waiting[peer.kind.value] += peer.outbox.queued
        page.gauge("queued_bytes", "Bytes that wait, by kind of receiver.", waiting, "kind")
        page.gauge("unfinished_bytes", "Bytes of messages that have not arrived completely.", hub.held)
        refused = self._indifast_reason_labels.sums(router.refused.items())
        page.counter("refused", "Messages refused, by reason.", refused, "reason")


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
    """Return `device.name` for display; empty if there is no device."""
    return ".".join(part for part in (device, name) if part is not None)


def describe(message: Routable) -> str:
    """Describe a message in one line, without the content of its BLOBs."""
    if message.blob:
        return f"<{message.tag} device={message.device!r} name={message.name!r}> with {message.size} bytes of BLOBs"
    return b"".join(message.parts(False) or ()).decode("utf-8", "replace").rstrip()


def _flatten(drivers: Iterable[object]) -> Iterable[object]:
    """Yield drivers that were given one by one, or (as in older releases) as one list."""
    for driver in drivers:
        if isinstance(driver, list | tuple | set | frozenset):
            yield from driver
        else:
            yield driver


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Wait until all are done, whatever becomes of some of them."""
    if tasks := [asyncio.ensure_future(work) for work in works]:
        await asyncio.wait(tasks)


def _check_connections(maxconnections: int | None) -> None:
    if maxconnections is None:
        return
    if not isinstance(maxconnections, int):
        raise TypeError(f"maxconnections must be an int or None, not {maxconnections!r}")
    if maxconnections < 1:
        raise ValueError(f"maxconnections must be at least 1, or None for no limit, not {maxconnections}")
