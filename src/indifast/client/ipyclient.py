"""The client: connects, keeps a model of the server's devices, and tells its program what happens."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import random
import ssl as ssl_module
import time
import weakref
from collections import UserDict, deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from indifast.client import events, frames, waiting
from indifast.client._watched import MessageDeque
from indifast.client.alarm import Alarm
from indifast.client.blobjobs import BlobJobs
from indifast.client.connection import Connection, open_stream, view_of
from indifast.client.device import Device
from indifast.client.memory import LARGE, give_back_large_blocks
from indifast.client.propertymembers import ParseException
from indifast.client.snapshot import Snap, SnapDevice, _ParentDevice, vector_state
from indifast.client.trace import Trace
from indifast.protocol import wire
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Wire
from indifast.protocol.vocabulary import BLOB_POLICIES
from indifast.transport.shm import close_all

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.client.frames import Frame
    from indifast.client.propertyvectors import PropertyVector
    from indifast.transport.stream import Stream

__all__ = ["DEFTAGS", "Device", "IPyClient", "Snap", "SnapDevice", "_ParentDevice"]

logger = logging.getLogger(__name__)

DEFTAGS = ("defSwitchVector", "defLightVector", "defTextVector", "defNumberVector", "defBLOBVector")

_DEF_EVENTS: dict[str, type[events.defVector]] = {tag: getattr(events, tag) for tag in DEFTAGS}
_SET_EVENTS: dict[str, type[events.setVector]] = {
    tag: getattr(events, tag) for tag in (deftag.replace("def", "set") for deftag in DEFTAGS)
}

ASK_AGAIN = 5.0
"""Seconds between two getProperties while the server has shown no device."""

_EARLY_DEVICES = 100
"""Devices whose messages are kept until they are defined."""

_Choice = tuple[str, str | None]


class IPyClient(UserDict[str, Any]):
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
    limits: Limits = DEFAULT_LIMITS
    """Bounds on what is received."""
    device_limit: int = 10_000
    """Devices of a server, and vectors of a device, beyond which definitions are refused."""
    inflate_blobs: bool = False
    """Inflate BLOBs whose format ends with `.z`, and take that suffix off the format."""
    give_back_memory: bool = True
    """Let the process give large freed blocks back to the system from the first large BLOB on (glibc only). A program
    that is busy with large arrays of its own may be faster without."""
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
        self.data = {}
        self.indihost = indihost
        self.indiport = indiport
        self.ssl = ssl
        self.clientdata = clientdata
        self.user_string = ""
        self.user_string_dict: dict[tuple[str, str | None, str | None], str] = {}
        self.messages: deque[tuple[datetime, str]] = MessageDeque(self._touch_nothing)
        self.vector_timeout_min: float = 2
        self.vector_timeout_max: float = 10
        self.enable_reports = True
        self.resend_enableBLOB_on_def = True
        self.stopped = asyncio.Event()
        self.idle_timer = time.monotonic()
        self.tx_timer: float | None = None

        self._timeout_enable = True
        self._idle_timeout: float = 20
        self._respond_timeout: float = 40
        self._enableBLOBdefault = "Never"
        self._BLOBfolder: pathlib.Path | None = None
        self._blobfolderchanged = False
        self._itemid = 0
        self._verbose = 1

        self._connected = False
        self._stopping = False
        self._stop_asked: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alive_alarm = Alarm(self._check_alive)
        self._timeout_alarm = Alarm(self._check_timeouts)
        self._definitions_alarm = Alarm(self._check_definitions)
        self._burst_alarm = Alarm(self._burst)
        self._pending: dict[tuple[str, str], PropertyVector] = {}
        self._early: dict[str, deque[Element]] = {}
        self._choices: dict[_Choice, str] = {}
        self._jobs = BlobJobs(self)
        self._watchers: list[weakref.ref[waiting.Watcher]] = []
        self._not_kept: dict[tuple[str, str | None], int] = {}
        self._records: dict[str, Any] = {}
        self._stale: dict[str, None] = {}
        self._skips: deque[str] = deque(maxlen=8)
        self._trace = Trace(logger)
        self._run: asyncio.Task[None] | None = None

    def __setitem__(self, devicename: str, device: Any) -> None:
        raise KeyError("the devices of a client come from the server")

    # -- attributes with consequences

    @property
    def connected(self) -> bool:
        """True from the moment the server took the connection until it is closed and the devices are gone."""
        return self._connected

    @property
    def stop(self) -> bool:
        """True after `shutdown`, and when `asyncrun` has ended."""
        return self._stopping

    @property
    def _stop(self) -> bool:
        """The same, for programs that write `while not self._stop`."""
        return self._stopping

    @_stop.setter
    def _stop(self, value: bool) -> None:
        self._stopping = value
        if value:
            self._call_soon(self._stop_now)

    @property
    def timeout_enable(self) -> bool:
        """Whether vectors time out, a silent connection is probed, and a dead one is given up."""
        return self._timeout_enable

    @timeout_enable.setter
    def timeout_enable(self, value: bool) -> None:
        self._timeout_enable = value
        self._call_soon(self._arm)

    @property
    def idle_timeout(self) -> float:
        """Seconds without traffic after which the server is asked for its definitions again."""
        return self._idle_timeout

    @idle_timeout.setter
    def idle_timeout(self, value: float) -> None:
        self._idle_timeout = value
        self._call_soon(self._arm)

    @property
    def respond_timeout(self) -> float:
        """Seconds without any answer to what was sent after which the connection is given up."""
        return self._respond_timeout

    @respond_timeout.setter
    def respond_timeout(self, value: float) -> None:
        self._respond_timeout = value
        self._call_soon(self._arm)

    @property
    def enableBLOBdefault(self) -> str:
        """Never, Also or Only: what devices that are new to the client are told. Other values are ignored."""
        return self._enableBLOBdefault

    @enableBLOBdefault.setter
    def enableBLOBdefault(self, value: str) -> None:
        if value in BLOB_POLICIES:
            self._enableBLOBdefault = value

    @property
    def BLOBfolder(self) -> pathlib.Path | None:
        """The folder that received BLOBs are saved to, or None.

        Setting a folder asks for the BLOBs of all devices, setting None goes back to `enableBLOBdefault`. KeyError for
        what is not an existing folder.
        """
        return self._BLOBfolder

    @BLOBfolder.setter
    def BLOBfolder(self, value: str | pathlib.Path | None) -> None:
        if not value:
            if self._BLOBfolder is None:
                return
            folder, choice = None, self._enableBLOBdefault
        else:
            folder = pathlib.Path(value).expanduser().resolve() if isinstance(value, str) else value
            if not folder.is_dir():
                raise KeyError(f"the BLOB folder {str(folder)!r} is not an existing folder")
            choice = "Also"
        self._BLOBfolder = folder
        self._choices.clear()
        for device in self.data.values():
            _choose(device, choice)
        self._blobfolderchanged = True
        self._call_soon(self._burst)

    # -- for the program to override

    async def rxevent(self, event: Any) -> None:
        """Called with every event; override it. While it runs, nothing more is read."""

    async def hardware(self) -> None:
        """A task of the program's own, started with `asyncrun`; override it."""

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **kwargs: Any) -> Any:
        """An identification for a device, vector or member that is new to the client; by default 1, 2, 3 …"""
        self._itemid += 1
        return self._itemid

    # -- running

    async def asyncrun(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `shutdown` is called.

        An exception in `hardware` ends the client and is raised here.
        """
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._stop_asked = asyncio.Event()
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
            self._stopping = True
            self._notify_watchers(None)
            self.stopped.set()
        for task in (hardware, comms):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def shutdown(self) -> None:
        """Stop: `asyncrun` will close the connection and return. May be called from any thread."""
        self._stop = True

    async def __aenter__(self) -> IPyClient:
        """Run in the background while the block runs. Wait for `ready()` before using devices."""
        self._run = asyncio.get_running_loop().create_task(self.asyncrun(), name="indifast client run")
        await asyncio.sleep(0)  # so that asyncrun has begun, and a shutdown from now on counts
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        run, self._run = self._run, None
        assert run is not None
        self.shutdown()
        await run

    def _stop_now(self) -> None:
        if self._stop_asked is not None:
            self._stop_asked.set()
        if self._connection is not None:
            self._connection.wake()

    def _call_soon(self, callback: Any) -> None:
        """Run on the event loop's thread, if the client runs at all."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(callback)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _unless_stopped(self, work: Coroutine[Any, Any, Stream]) -> Stream | None:
        """The result, or None once the client is to stop."""
        assert self._stop_asked is not None
        task = asyncio.get_running_loop().create_task(work)
        stop = asyncio.get_running_loop().create_task(self._stop_asked.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()

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
                reason = str(error)
            except Exception as error:
                logger.exception("%s: the attempt to connect failed", where)
                reason = f"{type(error).__name__}: {error}"
            else:
                if stream is None:
                    return
                began = time.monotonic()
                reason = await self._session(stream, where)
                if time.monotonic() - began > self.retry_max:
                    failures = 0
            if self.stop:
                return
            delay = self._retry_delay(failures)
            failures += 1
            await self.warning(f"Connection to {where} failed ({reason}), trying again in {delay:.1f} s")
            await self._pause(delay)

    def _retry_delay(self, failures: int) -> float:
        base = min(self.retry_max, self.retry_min * 2.0 ** min(failures, 30))
        return base * random.uniform(0.75, 1.25)

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
        connection = Connection(stream, self.limits, self._on_receive, self._on_skip)
        self._forget()
        self._connection = connection
        self._connected = True
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

    def _forget(self) -> None:
        self.messages.clear()
        self.data.clear()
        self._early.clear()
        self._records = {}
        self._stale.clear()

    # -- what comes from the server

    def _on_receive(self) -> None:
        self.tx_timer = None
        self.idle_timer = time.monotonic()

    def _on_skip(self, reason: str, nbytes: int, excerpt: bytes) -> None:
        """The tokenizer left out something that is no message; the program is told from the receiving task."""
        self._skips.append(f"{nbytes} bytes were not understood and skipped: {reason} {excerpt[:80]!r}")
        if self._connection is not None:
            self._connection.wake()

    async def _pump(self, connection: Connection) -> None:
        """Take what is received, element by element, until the connection or the client ends."""
        elements = connection.elements
        attachments = connection.attachments
        jobs = self._jobs
        while not self.stop:
            if jobs.finished:
                event = await jobs.take(elements)
                if event is not None:
                    await self._tell(event)
                    event = None
                continue
            if self._skips:
                await self.warning(self._skips.popleft())
                continue
            if jobs.full():
                await connection.hold()
                continue
            if not elements:
                if connection.lost and not jobs.running:
                    return
                await connection.wait()
                continue
            tracing = self._verbose and logger.isEnabledFor(logging.DEBUG)
            while elements and not self._stopping:
                element = elements.popleft()
                if jobs.running and jobs.defer(element, elements):
                    if jobs.full():
                        break
                    continue
                try:
                    if (cls := _SET_EVENTS.get(element.tag)) is None:
                        received = self._receive(element, connection)
                    elif (device := self.data.get(element.device or "")) is not None:
                        received = cls(element, device, self)
                        if cls is events.setBLOBVector:
                            received = self._receive_blobs(element, received, connection)
                        else:
                            received.vector._update(received)
                    else:
                        received = None
                except ParseException as error:
                    received = None
                    await self.warning(f"{element.device}: {error}")
                except Exception:
                    logger.exception("An element could not be handled: %s %s", element.tag, element.name)
                    received = None
                if received is not None:
                    if self._watchers:
                        self._notify_watchers(received)
                    try:
                        await self.rxevent(received)
                    except Exception:
                        logger.exception("Error in rxevent, handling %s", received.eventtype)
                    if self._early and element.tag in _DEF_EVENTS:
                        await self._tell_early(element.device)
                    received = None
                    if self._watchers:
                        await self._hold(connection)
                if attachments:  # of an element that was not taken in
                    close_all(attachments.pop(id(element), ()))
                if tracing:
                    self._trace.received(element, self._verbose)
                element = None  # type: ignore[assignment] # a BLOB must not outlive its event
                if jobs.finished or self._skips:
                    break

    async def _tell(self, event: Any) -> None:
        """Hand an event to the program; what it raises is logged and goes no further."""
        if self._watchers:
            self._notify_watchers(event)
        try:
            await self.rxevent(event)
        except Exception:
            logger.exception("Error in rxevent, handling %s", event.eventtype)

    def _receive(self, element: Element, connection: Connection) -> Any:
        """Take an element that is no update into the model; returns its event, or None if the program need not know."""
        tag = element.tag
        if tag in _DEF_EVENTS:
            return self._define(element)
        if tag == "message":
            return self._receive_message(element)
        if tag == "delProperty":
            return self._delete(element)
        if tag == "getProperties":
            return events.getProperties(element, self.data.get(element.device or ""), self)
        if tag == "pingRequest":
            connection.send(wire.ping_reply(element.attrs.get("uid", "")))
        elif tag == "pingReply":
            self._notify_watchers(waiting.PingReply(element.attrs.get("uid", "")))
        return None

    def _define(self, element: Element) -> Any:
        name = element.device
        if not name:
            raise ParseException("a definition without a device")
        device = self.data.get(name)
        known = device is not None
        if device is None:
            if len(self.data) >= self.device_limit:
                raise ParseException("too many devices")
            device = Device(name, self)
        elif not device.enable:
            device._enableBLOB = self._initial_blob_choice(name)
        if len(device.data) >= self.device_limit and element.name not in device.data:
            raise ParseException("too many vectors")
        event = _DEF_EVENTS[element.tag](element, device, self)
        if not known:
            self._introduce(device, name)
            self.data[name] = device
            self._stale[name] = None
        vector: Any = device._define(event, element.tag)
        event.vector = vector
        if element.tag == "defBLOBVector" and (
            self.resend_enableBLOB_on_def or (name, element.name) in self._choices or (name, None) in self._choices
        ):
            self._send_now(wire.enable_blob(name, element.name, vector._enableBLOB))
        if self._blobfolderchanged:
            self._burst_alarm.by(time.monotonic() + 0.1)
        if not known:
            self._definitions_alarm.cancel()
            self._arm()
        return event

    def _receive_message(self, element: Element) -> Any:
        name = element.device
        if not name:
            event = events.Message(element, None, self)
            self.messages.appendleft((event.timestamp, event.message))
            return event
        device = self.data.get(name)
        if device is None:
            # Drivers speak before they define anything; the program hears it when it knows the device.
            if name in self._early or len(self._early) < _EARLY_DEVICES:
                self._early.setdefault(name, deque(maxlen=8)).append(element)
            return None
        event = events.Message(element, device, self)
        device.messages.appendleft((event.timestamp, event.message))
        return event

    async def _tell_early(self, devicename: str | None) -> None:
        """The messages of a device that came before its first definition."""
        device = self.data.get(devicename or "")
        if device is not None and devicename is not None:
            for element in self._early.pop(devicename, ()):
                event = events.Message(element, device, self)
                device.messages.appendleft((event.timestamp, event.message))
                await self._tell(event)

    def _delete(self, element: Element) -> Any:
        device = self.data.get(element.device or "")
        if device is None:
            return None
        if not device.enable:
            raise ParseException("deleted already")
        event = events.delProperty(element, device, self)
        note = (event.timestamp, event.message)
        if element.name:
            vector = device.data.get(element.name)
            if vector is not None:
                vector.enable = False
                self._answered(vector)
                if event.message:
                    device.messages.appendleft(note)
        else:
            event.vectorname = None
            device.disable()
            for vector in device.data.values():
                self._answered(vector)
            if event.message:
                device.messages.appendleft(note)
                self.messages.appendleft(note)
        if not self.enabledlen():
            self._definitions_alarm.by(time.monotonic() + ASK_AGAIN)
        return event

    def _receive_blobs(self, element: Element, event: Any, connection: Connection) -> Any:
        """Content that came inline is here; shared memory is mapped; what takes time is done in a thread."""
        if element.attached:
            self._attach(element, event, connection.attachments.pop(id(element), []))
        for name in [name for name, content in event.data.items() if content is None]:
            # Without content and size 0, an update is about the state alone.
            if event.sizeformat[name][0] != 0:
                raise ParseException(f"{event.vectorname}: the BLOB {name} has no content")
            del event.data[name], event.sizeformat[name]
        if self.give_back_memory and any(size >= LARGE for size, _ in event.sizeformat.values()):
            give_back_large_blocks()
        if event.data and (
            self._BLOBfolder is not None
            or (self.inflate_blobs and any(form.endswith(".z") for _, form in event.sizeformat.values()))
        ):
            self._jobs.start(event)
            return None
        event.vector._update(event)
        return event

    def _attach(self, element: Element, event: Any, fds: list[int]) -> None:
        waiting_fds = deque(fds)
        try:
            for member in element.members:
                if member.attached and member.blob_size and waiting_fds:
                    length = int(member.attrs.get("len") or member.blob_size)
                    event.data[member.name] = view_of(waiting_fds.popleft(), length)
        except (OSError, ValueError) as error:
            raise ParseException(f"{element.name}: the shared memory of a BLOB cannot be read: {error}") from None
        finally:
            close_all(waiting_fds)

    def _keeps(self, vector: PropertyVector) -> bool:
        """Whether the model keeps the content of a BLOB vector."""
        if not self._not_kept:
            return True
        return not {(vector.devicename, vector.name), (vector.devicename, None)} & self._not_kept.keys()

    def _want_blobs(self, vector: Any) -> None:
        """Ask for the BLOBs of a vector on behalf of somebody who takes its frames, unless that was done."""
        if vector._enableBLOB == "Never":
            vector._enableBLOB = "Also"
            self._choices[vector.devicename, vector.name] = "Also"
            self._send_now(wire.enable_blob(vector.devicename, vector.name, "Also"))

    def _introduce(self, item: Any, devicename: str, vectorname: str = "", membername: str = "") -> None:
        """Give what is new to the model its id and its user string."""
        item._itemid = self.create_itemid(devicename, vectorname, membername)
        text = self.user_string_dict.get((devicename, vectorname or None, membername or None))
        if text is not None:
            item._user_string = text

    # -- timers

    def _arm(self) -> None:
        """See that the timers are set for what may become due."""
        if not (self._timeout_enable and self._connection is not None and self._loop is not None):
            return
        due = self.idle_timer + self._idle_timeout
        if self.tx_timer is not None:
            due = min(due, self.tx_timer + self._respond_timeout)
        self._alive_alarm.by(due)
        if self._pending:
            self._timeout_alarm.by(min(vector._deadline or 0.0 for vector in self._pending.values()))

    def _check_alive(self) -> None:
        connection = self._connection
        if connection is None or not self._timeout_enable or not self.enabledlen():
            return
        now = time.monotonic()
        if self.tx_timer is not None and now >= self.tx_timer + self._respond_timeout:
            connection.fail(f"no answer for {self._respond_timeout:g} s")
            return
        if now >= self.idle_timer + self._idle_timeout:
            self._send_now(wire.get_properties())
        self._arm()

    def _check_definitions(self) -> None:
        if self._connection is not None and not self.enabledlen():
            self._spawn(self._ask_definitions())

    async def _ask_definitions(self) -> None:
        self._send_now(wire.get_properties())
        self._definitions_alarm.by(time.monotonic() + ASK_AGAIN)
        await self.report("Asked the server for its devices")

    def _expect(self, vector: PropertyVector) -> None:
        """A command was sent to a vector: it times out unless the server says something of it."""
        timeout = vector._timeout or 0.0
        wait = min(max(timeout, self.vector_timeout_min), self.vector_timeout_max)
        vector._deadline = time.monotonic() + wait
        self._pending[vector.devicename, vector.name] = vector
        if self._timeout_enable:
            self._timeout_alarm.by(vector._deadline)

    def _answered(self, vector: PropertyVector) -> None:
        if vector._deadline is not None:
            vector._deadline = None
            self._pending.pop((vector.devicename, vector.name), None)

    def _check_timeouts(self) -> None:
        if not self._timeout_enable:
            return
        now = time.monotonic()
        overdue = [vector for vector in self._pending.values() if vector.checktimedout(now)]
        for vector in overdue:
            self._answered(vector)
            self._spawn(self._tell(events.VectorTimeOut(vector.device, vector)))
        self._arm()

    # -- what goes to the server

    @property
    def _can_send(self) -> bool:
        return self._connected and not self._stopping

    def _send_now(self, message: Wire) -> None:
        """Queue a message; dropped while not connected or stopping."""
        connection = self._connection
        if connection is None or not self._can_send:
            return
        connection.send(message)
        self.idle_timer = time.monotonic()
        if self.tx_timer is None and message.tag != "enableBLOB":
            self.tx_timer = self.idle_timer
            if self._timeout_enable and self.data:
                self._alive_alarm.by(self.tx_timer + self._respond_timeout)
        if self._verbose and logger.isEnabledFor(logging.DEBUG):
            self._trace.sent(message, self._verbose)

    async def _transmit(self, message: Wire) -> None:
        """Queue a message, and wait while the server is far behind."""
        self._send_now(message)
        if self._connection is not None:
            await self._connection.room()

    async def send(self, xmldata: ElementTree.Element) -> None:
        """Send an element; dropped while not connected or stopping. TypeError if it cannot be written as XML."""
        if self._can_send:
            data = ElementTree.tostring(xmldata, encoding="unicode").encode("utf-8", "xmlcharrefreplace")
            await self._transmit(Wire(xmldata.tag, xmldata.get("device"), xmldata.get("name"), data))

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask for the definitions of everything, of a device, or of one vector of it."""
        await self._transmit(wire.get_properties(devicename, vectorname if devicename else None))

    async def send_enableBLOB(self, value: str, devicename: str, vectorname: str | None = None) -> None:
        """Say whether BLOBs of a device, or of one vector, are wanted: Never, Also or Only.

        The choice is kept, also over a reconnection. Nothing happens for what is unknown, disabled or has no BLOBs.
        """
        if not self._can_send or value not in BLOB_POLICIES:
            return
        target = self._blob_target(devicename, vectorname)
        if target is None:
            return
        if vectorname:
            target._enableBLOB = value
            self._choices[devicename, vectorname] = value
        else:
            _choose(target, value)
            for key in [key for key in self._choices if key[0] == devicename]:
                del self._choices[key]
            self._choices[devicename, None] = value
        await self._transmit(wire.enable_blob(devicename, vectorname or None, value))

    async def resend_enableBLOB(self, devicename: str, vectorname: str | None = None) -> None:
        """Say again what was last said of a device's BLOBs, or of one vector's."""
        target = self._blob_target(devicename, vectorname) if self._can_send else None
        if target is not None:
            await self._transmit(wire.enable_blob(devicename, vectorname or None, target._enableBLOB))

    def _blob_target(self, devicename: str, vectorname: str | None) -> Any:
        device = self.data.get(devicename)
        if device is None or not device.enable:
            return None
        if not vectorname:
            return device
        vector = device.data.get(vectorname)
        return vector if vector is not None and vector.enable and vector.vectortype == "BLOBVector" else None

    def _initial_blob_choice(self, devicename: str, vectorname: str | None = None, inherited: str | None = None) -> str:
        """What is said of a device or vector that is new to the model: what was chosen before, or the default."""
        choice = self._choices.get((devicename, vectorname))
        return choice or inherited or ("Also" if self._BLOBfolder is not None else self._enableBLOBdefault)

    def _burst(self) -> None:
        """Say what is wanted of all BLOBs, after the BLOB folder was changed."""
        devices = [device for device in self.data.values() if device.enable]
        if not devices or not self._can_send:
            return
        self._blobfolderchanged = False
        for device in devices:
            self._send_now(wire.enable_blob(device.devicename, None, device._enableBLOB))
            for vector in device.data.values():
                if vector.enable and vector.vectortype == "BLOBVector":
                    self._send_now(wire.enable_blob(device.devicename, vector.name, vector._enableBLOB))

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
    ) -> Any:
        """Send a command; for what is unknown, and for lights, nothing happens.

        With `wait`, return the vector at the first update received after sending that has a state of `accept` and
        fulfils `until`; see `waiting.command`. INDIAlert at an update with Alert, TimeoutError after `timeout`
        seconds, both with the vector's last message. With `check`, raise INDICheckError before sending what the vector
        cannot take.
        """
        device = self.data.get(devicename)
        vector = None if device is None else device.data.get(vectorname)
        if check if check is not None else self.check_before_send:
            waiting.check_command(devicename, vectorname, vector, members)
        if wait:
            return await waiting.command(self, devicename, vectorname, timestamp, members, timeout, accept, until)
        await self._send_members(vector, timestamp, members)
        return None

    async def _send_members(self, vector: Any, timestamp: datetime | None, members: Mapping[str, Any]) -> None:
        send = getattr(vector, f"send_new{vector.vectortype}", None) if vector is not None else None
        if send is None:
            return
        try:
            await send(timestamp, members)
        except Exception:
            logger.exception("%s %s: the command was not sent", vector.devicename, vector.name)
            raise

    def set_vector_timeouts(
        self,
        timeout_enable: bool | None = None,
        timeout_min: float | None = None,
        timeout_max: float | None = None,
    ) -> None:
        """Change the bounds of the vectors' time-outs, in seconds; the others follow the largest."""
        if timeout_min is not None:
            self.vector_timeout_min = timeout_min
        if timeout_max is not None:
            self.vector_timeout_max = timeout_max
            self.idle_timeout = 2 * timeout_max
            self.respond_timeout = 4 * timeout_max
        if timeout_enable is not None:
            self.timeout_enable = timeout_enable

    # -- notices and logs

    async def report(self, message: str) -> None:
        """Log a text at INFO and, unless `enable_reports` is off, hand it to the program as a message."""
        logger.info(message)
        if self.enable_reports:
            await self._notice(message)

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and hand it to the program as a message."""
        logger.warning(message)
        await self._notice(message)

    async def _notice(self, text: str) -> None:
        event = events.Message._notice(text)
        self.messages.appendleft((event.timestamp, text))
        await self._tell(event)

    def debug_verbosity(self, verbose: int) -> None:
        """What the DEBUG log says of the traffic: 0 nothing, 1 start tags, 2 all but BLOB content, 3 all."""
        if verbose not in (0, 1, 2, 3):
            raise ValueError("the verbosity is 0, 1, 2 or 3")
        self._verbose = verbose

    # -- what is known

    def enabledlen(self) -> int:
        """Number of devices that have an enabled vector."""
        return sum(device.enable for device in self.data.values())

    def get_vector_state(self, devicename: str, vectorname: str) -> str | None:
        """The state of a vector, also of one that was deleted; None if there is none of these names."""
        return vector_state(self.data, devicename, vectorname)

    def set_user_string(
        self, devicename: str, vectorname: str | None, membername: str | None, user_string: str = ""
    ) -> None:
        """Set the free text of a device, vector or member, known already or not."""
        key = _user_string_key(devicename, vectorname, membername)
        self.user_string_dict[key] = user_string
        item = self._find(*key)
        if item is not None:
            item.user_string = user_string

    def get_user_string(self, devicename: str, vectorname: str | None, membername: str | None) -> str | None:
        """The free text of a device, vector or member; None if there is none."""
        key = _user_string_key(devicename, vectorname, membername)
        item = self._find(*key)
        text: str | None = self.user_string_dict.get(key) if item is None else item.user_string
        return text

    def _find(self, devicename: str, vectorname: str | None, membername: str | None) -> Any:
        item = self.data.get(devicename)
        for name in (vectorname, membername):
            if name is not None and item is not None:
                item = item.data.get(name)
        return item

    def _remember_user_strings(self) -> None:
        """Keep the user strings that were set on objects for those that take their place after a reconnection."""
        for devicename, device in self.data.items():
            self._remember(device, devicename, None, None)
            for vectorname, vector in device.data.items():
                self._remember(vector, devicename, vectorname, None)
                for membername, member in vector.data.items():
                    self._remember(member, devicename, vectorname, membername)

    def _remember(self, item: Any, *key: str | None) -> None:
        if item._user_string or key in self.user_string_dict:
            self.user_string_dict[key] = item._user_string  # type: ignore[index]

    def snapshot(self) -> Snap:
        """Everything as it stands now, safe to hand to another thread. Costs what changed since the last snapshot."""
        if self._stale or len(self._records) != len(self.data):
            records = self._records.copy()
            for name in self._stale:
                if name in self.data:
                    records[name] = self.data[name]._frozen()
            if len(records) != len(self.data):  # devices were taken out
                records = {name: device._frozen() for name, device in self.data.items()}
            self._records = records
            self._stale.clear()
        return Snap._of(
            self.indihost, self.indiport, self._connected, list(self.messages), self.user_string, self._records
        )

    def _touch_nothing(self) -> None:
        """The client's own messages are copied into every snapshot."""

    # -- beyond events

    def _notify_watchers(self, event: Any) -> None:
        for reference in tuple(self._watchers):
            watcher = reference()
            if watcher is not None:
                watcher.notify(event)

    async def _hold(self, connection: Connection) -> None:
        """Wait while somebody who takes everything is behind, unless somebody else waits for what comes next."""
        while not self._stopping and not connection.lost and self._held():
            await connection.hold()

    def _held(self) -> bool:
        watchers = [watcher for reference in self._watchers if (watcher := reference()) is not None]
        return any(watcher.holding for watcher in watchers) and not any(watcher.urgent for watcher in watchers)

    async def ready(self, timeout: float | None = 30.0, *names: Any, quiet: float = 0.5) -> None:
        """Wait until the server's devices are known; see `waiting.ready`."""
        await waiting.ready(self, timeout, names, quiet)

    async def wait_for(
        self,
        devicename: str,
        vectorname: str | None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Wait until a device or vector is defined and, if asked for, has a state; see `waiting.wait_for`."""
        return await waiting.wait_for(self, devicename, vectorname, state, timeout)

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


def _choose(device: Any, value: str) -> None:
    """Store an enableBLOB choice on a device and all its BLOB vectors."""
    device._enableBLOB = value
    for vector in device.data.values():
        if vector.vectortype == "BLOBVector":
            vector._enableBLOB = value


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


def _user_string_key(
    devicename: str, vectorname: str | None, membername: str | None
) -> tuple[str, str | None, str | None]:
    if not devicename or (membername and not vectorname):
        raise KeyError("a device name is needed, and for a member the vector name")
    return devicename, vectorname or None, membername or None
