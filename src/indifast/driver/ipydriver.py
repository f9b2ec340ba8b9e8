"""The driver: some devices, and what a user's program does with them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import UserDict
from collections.abc import Coroutine, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

from indifast.driver.device import Device, attach, check_coroutine, sendable_stamp
from indifast.driver.runtime import GRACE, Runtime
from indifast.protocol import wire
from indifast.protocol.message import Wire
from indifast.protocol.numbers import getfloat

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.driver.port import VectorPort
    from indifast.protocol.message import Routable

logger = logging.getLogger(__name__)


class Devices(Mapping[str, Device]):
    """The devices of a driver, both as a mapping (`driver.devices["Camera"]`) and as a call (`driver.devices()`)."""

    def __init__(self, data: dict[str, Device]) -> None:
        self._data = data

    def __getitem__(self, name: str) -> Device:
        return self._data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __call__(self) -> list[Device]:
        return list(self._data.values())


class IPyDriver(UserDict[str, Device]):
    """A mapping of device name to device. Usually subclassed, with `rxevent` and `hardware` of one's own.

    It runs in one of three ways: `await driver.asyncrun()` on stdin and stdout, as INDI servers start it;
    `IPyServer(driver)`; or `driver.listen(host, port)` and `await driver.asyncrun()`, for one client at a time.

    Args:
        devices: `Device` objects; also accepted as one list, or as the keyword `devices`.
        tasks: coroutines to run with the driver (keyword, if they are coroutines).
        driverdata: anything else, kept in the attribute `driverdata`.

    Attributes:
        devices: `driver.devices()` is a list of the devices, `driver.devices[name]` one of them.
        auto_send_def: True: getProperties is answered with the definitions. False: `rxevent` is told instead.
        debug_enable: log what is sent and received, at level DEBUG.
        stopped: an asyncio.Event, set when the driver has stopped.
        shutdownrequested: an asyncio.Event, set by `shutdown`.
        snoopall, snoopdevices, snoopvectors: what of other drivers' devices is listened to; snoopvectors maps (device
            name, vector name) to None, or to [time-out, time of the last request or event].

    Raises:
        ValueError: two devices have the same name.
    """

    def __init__(self, *devices: Device, **driverdata: Any) -> None:
        super().__init__()
        self.devices = Devices(self.data)
        found, tasks = _older_style(devices, driverdata)
        self.driverdata = driverdata
        self.debug_enable = False
        self.stopped = asyncio.Event()
        self.shutdownrequested = asyncio.Event()
        self.snoopall = False
        self.snoopdevices: set[str] = set()
        self.snoopvectors: dict[tuple[str, str], list[Any] | None] = {}
        self._runtime = Runtime(self)
        self._vectorport: VectorPort = self._runtime
        for device in found:
            if device.devicename in self.data:
                raise ValueError(f"two devices of this driver have the name {device.devicename}")
            self.data[device.devicename] = device
            attach(device, self)
        for coro in tasks:
            self._add_background(coro, "a task of the driver")
        self.auto_send_def = not self._has_clientevent()

    def __setitem__(self, devicename: str, device: object = None) -> NoReturn:
        raise TypeError("the devices of a driver are given when it is made")

    @staticmethod
    def indi_number_to_float(value: object) -> float:
        """The float that a number text stands for; TypeError when it stands for none."""
        return getfloat(value)

    # hooks for subclasses

    async def hardware(self) -> None:
        """Started once with the driver; may run as long as `stop` is False, or return."""

    async def rxevent(self, event: Any) -> None:
        """Told of each command of a client: one at a time for each vector."""
        if self._has_clientevent():
            await self.clientevent(event)  # type: ignore[attr-defined]

    async def snoopevent(self, event: Any) -> None:
        """Told of what other drivers say, as far as this one listens to it: one at a time."""

    def _has_clientevent(self) -> bool:
        """`clientevent` is what older programs have in place of `rxevent`; they answer getProperties themselves."""
        return hasattr(self, "clientevent") and type(self).rxevent is IPyDriver.rxevent

    # running

    def listen(self, host: str = "localhost", port: int = 7624) -> None:
        """Serve clients on this port, one at a time, when `asyncrun` is called. Port 0 takes a free one.

        Raises:
            RuntimeError: the driver belongs to a server, or listens already.
            TypeError, ValueError: the port is no int, or not from 0 to 65535.
        """
        from indifast.driver.portlink import PortLink
        from indifast.transport.sockets import check_port

        check_port(port)
        self._runtime.serve_itself("its own port", lambda refuse: PortLink.open(host, port, refuse))

    @property
    def listening_port(self) -> int | None:
        """The port that is listened on, once the driver runs; None when it does not listen."""
        return getattr(self._runtime.link, "port", None)

    async def asyncrun(self, *, grace: float = GRACE) -> None:
        """Run the driver until it is shut down, or until nobody is at the other end of its stdin.

        Returns at once if it was shut down before its first run.

        An exception in user code ends a driver that runs by itself, and is raised here; under a server it is logged,
        and the driver goes on.

        Args:
            grace: seconds that `hardware` and other coroutines have after shutdown, before they are cancelled.

        Raises:
            OSError: the port can't be had.
            RuntimeError: the driver is running already.
        """
        if self._runtime.served_by is None:
            from indifast.driver.streamlink import open_stdio_link

            self._runtime.serve_itself("its standard input and output", open_stdio_link)
        await self._runtime.run_until_end(grace)

    async def __aenter__(self) -> Self:
        """Run in the background, until the block ends."""
        runtime = self._runtime
        runtime.prepare()
        runtime.up = asyncio.Event()  # of this event loop: the driver may have run in another one before
        runtime.main = asyncio.create_task(self.asyncrun())
        up = asyncio.create_task(runtime.up.wait())
        await asyncio.wait((runtime.main, up), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if runtime.main.done():
            runtime.main.result()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.shutdown()
        if self._runtime.main is not None:
            await self._runtime.main

    @property
    def stop(self) -> bool:
        """The driver has been told to stop."""
        return self._runtime.stopping

    @property
    def _stop(self) -> bool:
        """`stop`, by the name that older programs use."""
        return self._runtime.stopping

    @_stop.setter
    def _stop(self, value: bool) -> None:
        self._runtime.stopping = value

    def shutdown(self) -> None:
        """Stop the driver. `asyncrun` returns after at most its grace time."""
        self._runtime.note_stop()
        self._runtime.end()

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine with the driver: from its start on, or from now when it runs already.

        Raises:
            TypeError: not a coroutine.
        """
        self._add_background(coro, "a background coroutine")

    def _add_background(self, coro: Coroutine[Any, Any, Any], what: str) -> None:
        check_coroutine(coro)
        self._runtime.add(coro, what)

    def stats(self) -> dict[str, int]:
        """Counters since the driver was made: what was refused, left out, replaced, not wanted or sent to nobody, and
        faults.
        """
        return dict(self._runtime.counters)

    # sending

    async def send(self, xmldata: TreeElement) -> None:
        """Send an element of `xml.etree.ElementTree` as it is; BLOBs in it go to those who want them.

        Raises:
            ValueError: it is no INDI message, or no base64 stands in place of BLOB content.
        """
        await self._runtime.transmit(_message(wire.tree(xmldata).encode()))

    async def send_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Send a message that belongs to no device to the users of clients."""
        stamp = sendable_stamp(timestamp, "the message")
        if stamp is not None:
            await self._runtime.transmit(wire.message(message or None, stamp))

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask other drivers for their definitions, and listen to them from now on: to all, a device, or a vector.

        An empty name is none, as it is on the wire.
        """
        devicename, vectorname = devicename or None, vectorname or None
        if devicename is None:
            await self._runtime.transmit(wire.get_properties())
            self.snoopall = True
        elif devicename in self.data:
            logger.error("the driver can't snoop on %s, which is its own device", devicename)
        else:
            await self._runtime.transmit(wire.get_properties(devicename, vectorname))
            if vectorname is None:
                self.snoopdevices.add(devicename)
            else:
                self.snoopvectors.setdefault((devicename, vectorname), None)

    def snoop(self, devicename: str, vectorname: str, timeout: int = 30) -> None:
        """Listen to a vector of another driver, and ask for it again whenever it is silent for `timeout` seconds.

        Args:
            timeout: 5 or more.
        """
        seconds = int(timeout)
        if seconds < 5:
            logger.error("snooping on %s.%s: the time-out should be 5 seconds or more", devicename, vectorname)
        elif devicename in self.data:
            logger.error("the driver can't snoop on %s, which is its own device", devicename)
        else:
            self.snoopvectors[(devicename, vectorname)] = [seconds, time.time()]
            self._runtime.snoops.watch((devicename, vectorname))


def _older_style(devices: tuple[Any, ...], driverdata: dict[str, Any]) -> tuple[list[Device], list[Any]]:
    """The devices and tasks, wherever they were given: positionally, as lists, or as `devices=` and `tasks=`.

    The keywords are taken out of driverdata, but only if they hold devices and coroutines.
    """
    tasks: list[Any] = []
    found = list(devices)
    if devices and isinstance(devices[0], list | tuple):
        found = list(devices[0])
        if len(devices) > 1:
            tasks = list(devices[1])
    given = driverdata.get("devices")
    if isinstance(given, list | tuple | set) and given and all(isinstance(item, Device) for item in given):
        found += driverdata.pop("devices")
    waiting = driverdata.get("tasks")
    if isinstance(waiting, list | tuple | set) and all(isinstance(item, Coroutine) for item in waiting):
        tasks += driverdata.pop("tasks")
    return found, tasks


def _message(data: bytes) -> Routable:
    """A message from what a program has written; with BLOBs in it, as if it had been received."""
    from indifast._parser import Tokenizer
    from indifast.protocol.limits import unbounded
    from indifast.transport.blobs import routable

    elements = Tokenizer(relay=True, on_skip=None, **unbounded(len(data))).feed(data)
    if len(elements) != 1:
        raise ValueError(f"this is no INDI message: {data[:200]!r}")
    element = elements[0]
    return routable(element) if element.blob else Wire(element.tag, element.device, element.name, data)
