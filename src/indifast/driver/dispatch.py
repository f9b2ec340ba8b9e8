"""Dispatcher of received messages: turns them into events and passes those to user code in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from indifast.driver import events
from indifast.protocol import wire
from indifast.protocol.escape import for_log
from indifast.protocol.message import opened
from indifast.protocol.selection import selected, speaker
from indifast.protocol.timestamps import timestamp_text
from indifast.protocol.vocabulary import DEF_VECTORS, NEW_VECTORS, SNOOPED, VERSION

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.driver.device import Device
    from indifast.driver.faults import Refusals, UserFaults
    from indifast.driver.propertyvectors import PropertyVector
    from indifast.driver.snooping import Key
    from indifast.driver.tasks import Tasks
    from indifast.protocol.message import Routable

logger = logging.getLogger("indifast.driver.ipydriver")

WAITING = 256
"""Events that may wait for user code; no more messages are taken in beyond that."""
WAITING_BYTES = 64 << 20
"""Bytes of messages whose events may wait for user code."""
LARGE = 256 << 10
"""Size in bytes from which messages, including those in files, are read and decoded in a thread."""

_Job = tuple[Callable[[], Any], Callable[[Any], Awaitable[None]], int, str]


class UserCode(Protocol):
    """What the dispatcher needs of a driver; see `IPyDriver`."""

    debug_enable: bool
    auto_send_def: bool
    snoopall: bool
    snoopdevices: set[str]
    snoopvectors: dict[Key, list[Any] | None]

    @property
    def data(self) -> Mapping[str, Device]:
        """Devices by name."""
        ...

    async def rxevent(self, event: Any) -> None:
        """Handle an event from a client."""
        ...

    async def snoopevent(self, event: Any) -> None:
        """Handle an event from another driver."""
        ...


class Dispatcher:
    """Turns messages into events and passes them to user code.

    Events for the same vector are passed on one at a time, in order of arrival; events for different vectors are
    handled concurrently. All snoop events together are handled like those of one vector.
    """

    def __init__(
        self,
        driver: UserCode,
        tasks: Tasks,
        refusals: Refusals,
        faults: UserFaults,
        *,
        send: Callable[[Routable], None],
        heard: Callable[[Key], None],
    ) -> None:
        """Use `send` to send to clients; call `heard` with each snooped vector that a message is about."""
        self._driver = driver
        self._tasks = tasks
        self._refusals = refusals
        self._faults = faults
        self._send = send
        self._heard = heard
        self._queues: dict[Hashable, deque[_Job]] = {}
        self._waiting = 0
        self._bytes = 0
        self._room: asyncio.Event | None = None

    def clear(self) -> None:
        """Forget all waiting events: the driver has stopped."""
        self._queues.clear()
        self._waiting = self._bytes = 0
        self._room = None

    async def dispatch(self, message: Routable) -> None:
        """Handle one received message. Waits only while too many events are waiting for user code."""
        element = message.element()
        if self._driver.debug_enable and logger.isEnabledFor(logging.DEBUG):
            logger.debug("RX:: %s", _log_text(element))
        tag = element.tag
        if tag == "getProperties":
            await self._get_properties(element)
        elif tag in NEW_VECTORS:
            self._new(element, message)
        elif tag in SNOOPED:
            self._snooped(element, message)
        elif tag == "enableBLOB":
            self._enable_blob(element)
        while self._waiting > WAITING or self._bytes > WAITING_BYTES:
            await self._changed()

    async def idle(self, within: float) -> None:
        """Wait until user code has handled all events, for at most `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._waiting and self._faults.fatal is None:
                    await self._changed()

    async def _changed(self) -> None:
        """Wait until one of the waiting events is done."""
        if self._room is None:
            self._room = asyncio.Event()
        await self._room.wait()

    async def _get_properties(self, element: Element) -> None:
        if element.attrs.get("version") != VERSION:
            text = "getProperties for %s refused: version %s instead of 1.7"
            self._refusals.refuse("version", text, element.device or "all devices", element.attrs.get("version"))
            return
        for vector in list(self._targets(element)):
            if not self._driver.auto_send_def:
                self._post(vector, events.getProperties, element, 0)
                continue
            try:
                await vector.send_defVector()
            except Exception as error:
                what = f"sending the definition of {vector.vectortype} {vector.devicename}.{vector.name}"
                self._faults.report(error, what, vector.devicename)

    def _targets(self, element: Element) -> Iterator[PropertyVector]:
        """Yield the enabled vectors that a getProperties or enableBLOB is about."""
        devices = self._driver.data
        devicename, name = selected(element)
        if devicename is not None:
            device = devices.get(devicename)
            chosen = [] if device is None else [device]
        else:
            chosen = list(devices.values())
        for device in chosen:
            if not device.enable:
                continue
            if name is not None:
                vector = device.data.get(name)
                vectors = [] if vector is None else [vector]
            else:
                vectors = list(device.data.values())
            yield from (vector for vector in vectors if vector.enable)

    def _own(self, element: Element) -> PropertyVector | None:
        """Return the enabled vector of this driver that an element names, if there is one."""
        devicename, name = element.device, element.name
        if devicename is None or name is None:
            return None
        device = self._driver.data.get(devicename)
        if device is None or not device.enable:
            return None
        vector: PropertyVector | None = device.data.get(name)
        return vector if vector is not None and vector.enable else None

    def _new(self, element: Element, message: Routable) -> None:
        vector = self._own(element)
        if vector is None:
            return
        where = f"{element.device}.{element.name}"
        if element.tag != f"new{vector.kind}Vector":
            text = "%s for %s refused: the vector is a %s"
            self._refusals.refuse((element.tag, where), text, element.tag, where, vector.vectortype)
        elif getattr(vector, "perm", None) == "ro":
            self._refusals.refuse(("ro", where), "%s for %s refused: it is read-only", element.tag, where)
        else:
            self._post(vector, events.NEW_EVENTS[element.tag], element, message.size, message)

    def _enable_blob(self, element: Element) -> None:
        """Post an enableBLOB. Only a driver that serves its one client without a server receives any."""
        for vector in self._targets(element):
            if vector.kind == "BLOB":
                self._post(vector, events.enableBLOB, element, 0)

    def _snooped(self, element: Element, message: Routable) -> None:
        driver = self._driver
        device = speaker(element) if element.tag == "message" else element.device
        name = element.name
        if device in driver.data:
            text = "%s for %s refused: it is one of this driver's own devices"
            self._refusals.refuse(("own", device, element.tag), text, element.tag, device)
            return
        if device is None and element.tag in DEF_VECTORS:
            return
        wanted = driver.snoopall or device in driver.snoopdevices or (device, name) in driver.snoopvectors
        if not wanted:
            return
        if device is not None and name is not None:
            self._heard((device, name))
        event = events.SNOOP_EVENTS[element.tag]
        build = partial(_opened, event, message) if element.attached else partial(event, element)
        what = for_log(f"snoopevent for {device}.{name}", 200)
        self._queue("snoop", build, driver.snoopevent, message.size, what)

    def _post(
        self,
        vector: PropertyVector,
        event: type[events.Event],
        element: Element,
        size: int,
        message: Routable | None = None,
    ) -> None:
        assert vector.devicename is not None  # it was found in a device
        key = (vector.devicename, vector.name)
        if message is not None and element.attached:
            build: Callable[[], Any] = partial(_opened, partial(event, *key, vector), message)
        else:
            build = partial(event, *key, vector, element)
        self._queue(key, build, self._driver.rxevent, size, f"rxevent for {key[0]}.{key[1]}")

    def _queue(
        self, key: Hashable, build: Callable[[], Any], handle: Callable[[Any], Awaitable[None]], size: int, what: str
    ) -> None:
        self._waiting += 1
        self._bytes += size
        queue = self._queues.get(key)
        if queue is not None:
            queue.append((build, handle, size, what))
            return
        self._queues[key] = queue = deque([(build, handle, size, what)])
        self._tasks.start(self._work(key, queue), what)

    async def _work(self, key: Hashable, queue: deque[_Job]) -> None:
        """Pass the events of one queue to user code until there are no more."""
        try:
            while queue and self._faults.fatal is None:
                await self._next(key, queue)
        finally:
            while queue:  # this task was cancelled, by the end of the driver or by user code that runs in it
                self._done(queue)
            if self._queues.get(key) is queue:
                del self._queues[key]

    async def _next(self, key: Hashable, queue: deque[_Job]) -> None:
        build, handle, size, what = queue[0]
        device = key[0] if isinstance(key, tuple) else None
        try:
            event = await self._build(key, build, size, what)
            if event is not None:
                await handle(event)
        except asyncio.CancelledError as error:
            self._tasks.cancelled(error, what, device)
        except Exception as error:
            self._faults.report(error, what, device)
        finally:
            self._done(queue)

    def _done(self, queue: deque[_Job]) -> None:
        """Remove the first event of a queue: it is done."""
        self._waiting -= 1
        self._bytes -= queue.popleft()[2]
        if self._room is not None:
            self._room.set()
            self._room = None

    async def _build(self, key: Hashable, build: Callable[[], Any], size: int, what: str) -> Any:
        """Return the event, decoded in a thread if it is large; None if the message is refused."""
        try:
            event = build() if size < LARGE else await asyncio.get_running_loop().run_in_executor(None, build)
        except events.EventException as error:
            self._refusals.refuse(what, "%s refused: %s", what, error)
            if isinstance(error, events.NumberException) and isinstance(key, tuple):
                text = f"refused: a command for {key[0]}.{key[1]}: {for_log(str(error))}"
                self._send(wire.message(text, timestamp_text(), key[0]))
            return None
        if faults := getattr(event, "_faults", ()):
            self._refusals.left_out(what, faults)
        return event


def _opened(build: Callable[[Any], Any], message: Routable) -> Any:
    """Return the event for a message whose content is in files."""
    try:
        root = opened(message)
    except (OSError, ValueError, MemoryError) as error:
        raise events.EventException(f"its content can't be read: {error or 'out of memory'}") from None
    return build(root)


def _log_text(element: Element) -> str:
    """Return the XML of a received element for the log, without BLOB content."""
    from xml.etree.ElementTree import tostring

    from indifast.protocol.etree import to_tree

    return tostring(to_tree(element, content=False), encoding="unicode")
