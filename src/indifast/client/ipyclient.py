"""The client: connects, keeps a model of the server's devices, and tells its program what happens."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from indifast.client import commands, events, frames, waiting
from indifast.client.base import told_of
from indifast.client.commandchecks import check_command
from indifast.client.connection import Connection, open_stream, writable
from indifast.client.device import Device
from indifast.client.model import DEF_EVENTS, DEFTAGS, SET_EVENTS, Model
from indifast.client.propertymembers import ParseException
from indifast.client.snapshot import Snap, SnapDevice, _ParentDevice
from indifast.protocol import wire
from indifast.protocol.backoff import pause_after, varied
from indifast.protocol.message import Wire
from indifast.protocol.shown import shown

if TYPE_CHECKING:
    from xml.etree import ElementTree

    from indifast._parser import Element
    from indifast.client.frames import Frame
    from indifast.protocol.message import Routable
    from indifast.transport.stream import Stream

__all__ = ["DEFTAGS", "Device", "IPyClient", "Snap", "SnapDevice", "_ParentDevice"]

logger = logging.getLogger(__name__)


class IPyClient(Model):
    """A client of an INDI server: a mapping of device names to devices.

    Subclass it, override `rxevent` (and `hardware` for a task of your own), and run `asyncrun()`; or use it as an
    asynchronous context manager. `indihost` is a host name or address, or a Unix socket: a path, or `unix:PATH`. `ssl`
    is True or an `ssl.SSLContext` for TLS. All other keywords are kept in `clientdata`.

    The attributes below may be changed at any time; those about connecting count from the next attempt.
    """

    connect_timeout: float = 10.0
    """Seconds for the server to take the connection."""
    retry_min: float = 1.0
    """Seconds, about, before the first attempt to connect again."""
    retry_max: float = 30.0
    """Seconds, about, between attempts at most: the time doubles from `retry_min`, varied at random by a quarter."""
    grace: float = 2.0
    """Seconds that `hardware` and a running `rxevent` get after `shutdown` before they are cancelled."""
    reconnect: bool = True
    """Connect again after a failure. If False, `asyncrun` raises the OSError that ended the attempt or the connection.
    """
    check_before_send: bool = False
    """`send_newVector` checks permission, range and rule first, as with its keyword `check=True`."""

    def __init__(
        self,
        indihost: str = "localhost",
        indiport: int | str = 7624,
        *,
        ssl: ssl_module.SSLContext | bool | None = None,
        **clientdata: Any,
    ) -> None:
        super().__init__()
        self.indihost = indihost
        self.indiport = indiport
        self.ssl = ssl
        self.clientdata = clientdata
        self.stopped = asyncio.Event()
        self._run: asyncio.Task[None] | None = None
        self._running = False

    # -- running

    async def hardware(self) -> None:
        """A task of the program's own, started with `asyncrun`; override it."""

    async def asyncrun(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `shutdown` is called.

        Returns at once if that was called before the first run. An exception in `hardware` ends the client and is
        raised here; without `reconnect` so does, and is, an OSError. RuntimeError if the client is running already.
        """
        if self._running:
            raise RuntimeError("this client is running already")
        self._prepare()
        self._stop_asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopping:
            self._ended()
            return
        self._running = True
        comms = self._loop.create_task(self._comms(), name="indifast client")
        hardware = self._loop.create_task(self.hardware(), name="indifast client hardware")
        stop = self._loop.create_task(self._stop_asked.wait())
        tasks = {comms, hardware, stop}
        try:
            waited = set(tasks)
            while not (comms.done() or stop.done() or (hardware.done() and _failed(hardware))):
                waited = {task for task in waited if not task.done()}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            self._stopping = True
            self._stop_now()
            await asyncio.wait((comms, hardware), timeout=self.grace)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._running = False
            self._ended()
        for task in (hardware, comms):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _prepare(self) -> None:
        """Another run is to begin: what the one before was told is over. A `shutdown` from now on counts."""
        if self.stopped.is_set():
            self.stopped.clear()
            self._stopping = False

    def _ended(self) -> None:
        """The run is over."""
        self._stopping = True
        self.stopped.set()
        self._notify_watchers(None)

    def shutdown(self) -> None:
        """Stop: `asyncrun` will close the connection and return. May be called from any thread."""
        self._stop = True

    async def __aenter__(self) -> IPyClient:
        """Run in the background while the block runs. Wait for `ready()` before using devices."""
        self._prepare()
        self._run = asyncio.get_running_loop().create_task(self.asyncrun(), name="indifast client run")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        run, self._run = self._run, None
        assert run is not None
        self.shutdown()
        await run

    async def _unless_stopped(self, work: Coroutine[Any, Any, Stream]) -> Stream | None:
        """The result, or None once the client is to stop."""
        assert self._stop_asked is not None
        task = asyncio.get_running_loop().create_task(work)
        stop = asyncio.get_running_loop().create_task(self._stop_asked.wait())
        taken = False
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            taken = task.done()
            return task.result() if taken else None
        finally:
            stop.cancel()
            if not taken:
                task.cancel()
                task.add_done_callback(_let_go)  # a cancellation may have come together with the stream

    async def _comms(self) -> None:
        """Connect, serve the connection, and again."""
        where = f"{self.indihost}:{self.indiport}"
        failures = 0
        while not self._stopping:
            where = f"{self.indihost}:{self.indiport}"
            self.tx_timer = None
            self.idle_timer = time.monotonic()
            await self.warning(f"Attempting to connect to {where}")
            try:
                stream = await self._unless_stopped(
                    open_stream(self.indihost, self.indiport, self.connect_timeout, self.ssl)
                )
            except OSError as error:
                failure, reason = error, str(error)
            except Exception as error:
                logger.exception("%s: the attempt to connect failed", where)
                reason = f"{type(error).__name__}: {error}"
                failure = ConnectionError(reason)
            else:
                if stream is None:
                    return
                began = time.monotonic()
                reason = await self._session(stream, where)
                failure = ConnectionError(f"the connection to {where} has ended: {reason}")
                if time.monotonic() - began > self.retry_max:
                    failures = 0
            if self.stop:
                return
            if not self.reconnect:
                raise failure
            failures += 1
            delay = self._retry_delay(failures)
            await self.warning(f"Connection to {where} failed ({reason}), trying again in {delay:.1f} s")
            await self._pause(delay)

    def _retry_delay(self, failures: int) -> float:
        """Seconds until the next attempt, after so many in a row that failed."""
        return varied(pause_after(failures, self.retry_min, self.retry_max))

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond `shutdown`."""
        assert self._stop_asked is not None
        stop = asyncio.get_running_loop().create_task(self._stop_asked.wait())
        try:
            await asyncio.wait((stop,), timeout=seconds)
        finally:
            stop.cancel()

    async def _session(self, stream: Stream, where: str) -> str:
        """One connection from its beginning to its end; returns why it ended."""
        connection = Connection(stream, self.limits, self._on_receive, self._on_skip, self._on_refuse)
        self._forget()
        self._connection = connection
        self._connected = True
        self._counts["connections"] += 1
        try:
            await self.warning(f"Connected to {where}")
            await self._tell(events.ConnectionMade())
            connection.start()
            await self._ask_definitions()
            await self._pump(connection)
            self._quieten()
            await self.warning(f"Connection to {where} closed")
            await self._tell(events.ConnectionLost())
        finally:
            self._quieten()
            connection.close()
            self._connection = None
            self._counts["received"] += connection.received
            self._counts["received_bytes"] += connection.received_bytes
            self._connected = False
            self._remember_user_strings()
            self._forget()
            self._notify_watchers(None)
        return connection.reason

    def _quieten(self) -> None:
        """Stop everything that goes with the connection."""
        self._alive_alarm.cancel()
        self._timeout_alarm.cancel()
        self._definitions_alarm.cancel()
        self._burst_alarm.cancel()
        self._pending.clear()
        self._jobs.clear()
        for task in self._tasks:
            task.cancel()

    # -- what comes from the server

    def _on_skip(self, reason: str, nbytes: int, excerpt: bytes) -> None:
        """The tokenizer left out something that is no message; the program is told from the receiving task."""
        self._counts["skipped"] += 1
        self._counts["skipped_bytes"] += nbytes
        self._complain_soon(f"{nbytes} bytes were not understood and skipped: {reason} {excerpt[:80]!r}")

    def _on_refuse(self, text: str) -> None:
        """A message has come with BLOBs that are not taken."""
        self._counts["refused"] += 1
        self._complain_soon(text)

    async def _pump(self, connection: Connection) -> None:
        """Take what is received, message by message, until the connection or the client ends."""
        jobs = self._jobs
        while not self.stop:
            if jobs.finished:
                await self._tell_finished(connection)
            elif self._unsaid:
                await self._complain(self._unsaid.popleft())
            elif jobs.full():
                await connection.hold()
            elif connection.messages:
                await self._take_waiting(connection)
            elif connection.lost and not jobs.running:
                return
            else:
                await connection.wait()

    async def _tell_finished(self, connection: Connection) -> None:
        """A BLOB that was worked on in a thread is ready."""
        event = await self._jobs.take(connection.messages)
        if event is not None:
            await self._tell(event)

    async def _take_waiting(self, connection: Connection) -> None:
        """Take the messages that wait, until something has to come before the next one.

        The receive path: no coroutine for a message but `rxevent`, unless there is something special about it.
        """
        messages, jobs = connection.messages, self._jobs
        tracing = self._verbose and logger.isEnabledFor(logging.DEBUG)
        while messages and not self._stopping:
            message = messages.popleft()
            if jobs.running and jobs.defer(message, messages):
                if jobs.full():
                    return
                continue
            if self.on_message is not None:
                self._show(message)
            element = message.element()
            event = None
            try:
                event = self._take_in(message, element, connection)
            except Exception as error:
                await self._refuse(element, error)
            if event is not None:
                if self._watchers:
                    self._notify_watchers(event)
                try:
                    await self.rxevent(event)
                except Exception as error:
                    self._log_fault(error, "Error in rxevent, handling %s", event.eventtype)
                event = None  # a BLOB must not outlive its event
                if self._early and element.tag in DEF_EVENTS:
                    await self._tell_early(element.device)
                if self._watchers:
                    await self._hold(connection)
            if tracing:
                self._trace.received(element, self._verbose)
            del message, element  # nor these
            if jobs.finished or self._unsaid:
                return

    async def _refuse(self, element: Element, error: Exception) -> None:
        """An element can't be taken into the model: that costs this one only."""
        if not isinstance(error, ParseException):
            self._counts["failed"] += 1
            self._log_fault(error, "An element could not be handled: %s %s", element.tag, shown(element.name))
            return
        self._counts["refused"] += 1
        if not isinstance(error, events.UndefinedError):
            self._is_new_problem(element, str(error))
        await self._complain(told_of(element, str(error)))

    def _take_in(self, message: Routable, element: Element, connection: Connection) -> Any:
        """Take a message into the model; returns its event, or None if the program need not know (yet)."""
        cls = SET_EVENTS.get(element.tag)
        if cls is None:
            return self._receive(element, connection)
        device = self.data.get(element.device or "")
        if device is None:
            self._counts["unknown"] += 1
            return None
        event = cls(element, device, self)
        if cls is events.setBLOBVector:
            return self._receive_blobs(message, event)
        event.vector._update(event)
        return event

    def _show(self, message: Routable) -> None:
        """Hand a message on as it came, before anything is made of it; what `on_message` raises is logged."""
        assert self.on_message is not None
        try:
            self.on_message(writable(message))
        except Exception as error:
            self._log_fault(error, "Error in on_message, handling %s", message.tag)

    async def _hold(self, connection: Connection) -> None:
        """Wait while somebody who takes everything is behind, unless somebody else waits for what comes next."""
        while not self._stopping and not connection.lost and self._held():
            await connection.hold()

    def _held(self) -> bool:
        watchers = [watcher for reference in self._watchers if (watcher := reference()) is not None]
        return any(watcher.holding for watcher in watchers) and not any(watcher.urgent for watcher in watchers)

    # -- what goes to the server

    async def send(self, xmldata: ElementTree.Element) -> None:
        """Send an element; dropped while not connected or stopping. TypeError if it cannot be written as XML."""
        if self._can_send:
            data = wire.tree(xmldata).encode()
            await self._transmit(Wire(xmldata.tag, xmldata.get("device"), xmldata.get("name"), data))

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask for the definitions of everything, of a device, or of one vector of it."""
        await self._transmit(wire.get_properties(devicename, vectorname if devicename else None))

    async def send_newVector(
        self,
        devicename: str,
        vectorname: str,
        timestamp: datetime | None = None,
        members: Mapping[str, Any] = {},
        *,
        wait: bool = False,
        timeout: float | None = None,
        accept: Iterable[str] = ("Ok", "Idle"),
        until: waiting.Until = None,
        check: bool | None = None,
        complete: bool = True,
    ) -> Any:
        """Send a command; for what is unknown, and for lights, nothing happens.

        Of texts and numbers those not given are sent as they stand, unless `complete` is False: some drivers need all,
        such as mounts both coordinates, and others refuse what they have not set yet. Of a write-only vector never more
        is sent than was given.

        With `wait`, return the vector at the first update received after sending that has a state of `accept` and
        fulfils `until`; see `waiting.command`. INDIAlert at an update with Alert, TimeoutError after `timeout`
        seconds, both with the vector's last message; INDIDeleted when the vector or its device goes. With `check`,
        raise INDICheckError before sending what the vector cannot take.
        """
        self._check(devicename, vectorname, members, check, complete)
        if wait:
            return await waiting.command(
                self, devicename, vectorname, timestamp, members, timeout, accept, until, complete=complete
            )
        await self._send_members(self._find(devicename, vectorname or "", None), timestamp, members, complete)
        return None

    def _check(
        self, devicename: str, vectorname: str, members: Mapping[str, Any], check: bool | None, complete: bool
    ) -> None:
        if check if check is not None else self.check_before_send:
            check_command(devicename, vectorname, self._find(devicename, vectorname or "", None), members, complete)

    async def _send_members(
        self, vector: Any, timestamp: datetime | None, members: Mapping[str, Any], complete: bool
    ) -> None:
        send = getattr(vector, f"send_new{vector.vectortype}", None) if vector is not None else None
        if send is None:
            return
        try:
            if vector.vectortype in commands.COMPLETED:
                await send(timestamp, members, complete=complete)
            else:
                await send(timestamp, members)
        except Exception:
            logger.exception("%s %s: the command was not sent", vector.devicename, vector.name)
            raise

    # -- beyond events

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the server has taken the connection; see `waiting.wait_connected`."""
        await waiting.wait_connected(self, timeout)

    async def ready(self, timeout: float | None = 30.0, *names: Any, quiet: float = 0.5) -> None:
        """Wait until the server's devices are known; see `waiting.ready`."""
        await waiting.ready(self, timeout, names, quiet)

    async def wait_for(
        self,
        devicename: str,
        vectorname: str | None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = None,
        there: bool = False,
    ) -> Any:
        """Wait until a device or vector is defined and, if asked for, has a state; see `waiting.wait_for`."""
        return await waiting.wait_for(self, devicename, vectorname, state, timeout, there)

    async def ping(self, timeout: float | None = 10.0) -> float:
        """Seconds until the server answers a pingRequest; TimeoutError, or ConnectionError if not connected."""
        return await waiting.ping(self, timeout)

    def events(
        self,
        device: str | None = None,
        vector: str | None = None,
        types: type | tuple[type, ...] | None = None,
        queue: int = 10_000,
    ) -> AsyncIterator[Any]:
        """Events from now on, filtered; see `waiting.EventStream`."""
        return waiting.EventStream(self, device, vector, types, queue)

    def frames(
        self,
        device: str,
        vector: str | None = None,
        *,
        keep: bool = True,
        newest: bool = False,
        queue: int = 2,
    ) -> AsyncIterator[Frame]:
        """BLOBs of a device from now on; see `frames.FrameStream`."""
        return frames.FrameStream(self, device, vector, keep=keep, newest=newest, queue=queue)

    async def expose(self, device: str, seconds: float, **keywords: Any) -> Frame:
        """Take one exposure; see `frames.expose`."""
        return await frames.expose(self, device, seconds, **keywords)


def _let_go(task: asyncio.Task[Stream]) -> None:
    """Close a stream that was opened for nobody."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
