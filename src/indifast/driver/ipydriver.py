"""`IPyDriver`: a set of devices and the program that controls them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import UserDict
from collections.abc import Coroutine, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Self

from indifast.driver.device import Device, attach, check_coroutine, sendable_stamp
from indifast.driver.runtime import Runtime
from indifast.handover import at_home
from indifast.protocol import wire
from indifast.protocol.compress import AUTO
from indifast.protocol.drivernames import PORT
from indifast.protocol.message import Wire
from indifast.protocol.numbers import getfloat

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.driver.port import VectorPort
    from indifast.protocol.message import Routable

logger = logging.getLogger(__name__)


class Devices(Mapping[str, Device]):
    """Mapping of a driver's devices (`driver.devices["Camera"]`) that returns them as a list when called."""

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
    """Mapping of device name to device, usually subclassed to override `rxevent` and `hardware`.

    A driver runs in one of three ways: `await driver.asyncrun()` on stdin and stdout, as INDI servers start drivers;
    `IPyServer(driver)`; or `driver.listen(host, port)` and `await driver.asyncrun()`, for one client at a time.

    Args:
        devices: `Device` objects; they may also be passed as one list, or as the keyword argument `devices`.
        tasks: A list, tuple or set of coroutines to run with the driver, as a keyword argument. Any other value goes to
            `driverdata`.
        driverdata: Any other keyword arguments, kept in the attribute `driverdata`.

    Raises:
        ValueError: Two devices have the same name.

    Attributes:
        auto_send_def: If True, getProperties is answered with the definitions; if False, it is passed to `rxevent`.
        debug_enable: Whether to log sent and received messages at level DEBUG.
        stopped: An asyncio.Event that is set when the driver has stopped.
        shutdownrequested: An asyncio.Event that is set by `shutdown`.
        snoopall: Whether the driver snoops on all other drivers.
        snoopdevices: Names of the devices that the driver snoops on.
        snoopvectors: Vectors that the driver snoops on: maps (device name, vector name) to None, or to [timeout, time
            of the last request or event].
    """

    def __init__(self, *devices: Device, **driverdata: Any) -> None:
        super().__init__()
        found, tasks = _older_style(devices, driverdata)
        self.driverdata = driverdata
        self.debug_enable = False
        self.stopped = asyncio.Event()
        self.shutdownrequested = asyncio.Event()
        self.snoopall = False
        self.snoopdevices: set[str] = set()
        self.snoopvectors: dict[tuple[str, str], list[Any] | None] = {}
        self._indifast_runtime = Runtime(self)
        self._indifast_port: VectorPort = self._indifast_runtime
        for device in found:
            if device.devicename in self.data:
                raise ValueError(f"two devices of this driver are named {device.devicename}")
            self.data[device.devicename] = device
            attach(device, self)
        for coro in tasks:
            _start(self, coro, "a task of the driver")
        self.auto_send_def = not _has_clientevent(self)

    def __setitem__(self, devicename: str, device: object = None) -> NoReturn:
        raise TypeError("devices can't be added to a driver: pass them to its constructor")

    @cached_property
    def devices(self) -> Devices:
        """The devices: `driver.devices()` is a list of them, `driver.devices[name]` is one of them."""
        return Devices(self.data)

    @staticmethod
    def indi_number_to_float(value: object) -> float:
        """Convert the text of an INDI number to a float.

        Raises:
            TypeError: The value is not a number.
        """
        return getfloat(value)

    # -- Hooks for subclasses

    async def hardware(self) -> None:
        """Control the hardware. Started once with the driver, it may run until `stop` is True or return earlier."""

    async def rxevent(self, event: Any) -> None:
        """Handle an event from a client. Events for the same vector arrive one at a time."""
        if _has_clientevent(self):
            await self.clientevent(event)  # type: ignore[attr-defined]

    async def snoopevent(self, event: Any) -> None:
        """Handle an event from another driver that this driver snoops on. Events arrive one at a time."""

    # -- Running

    def listen(
        self, host: str = "localhost", port: int | str = PORT, *, raw_frames: bool = True, compress: str = AUTO
    ) -> None:
        """Serve clients on this port, one at a time, once `asyncrun` is called.

        Args:
            host: The name or address to listen on.
            port: The port to listen on; 0 picks a free one, see `listening_port`.
            raw_frames: Whether to send BLOBs as raw bytes, instead of base64, to indifast clients and servers that do
                the same.
            compress: How frames are compressed on a connection with raw frames: "auto" (where that makes it faster, if
                `indifast[compression]` is installed), "off", or always by "lz4" or "zstd".

        Raises:
            RuntimeError: The driver belongs to a server, or is already set to listen.
            TypeError: The port is not an int, or `compress` is not a string.
            ValueError: The port is not between 0 and 65535, or `compress` is another word.
            ImportError: `compress` is a method that is not installed.
        """
        from indifast.compression import check_choice
        from indifast.driver.portlink import PortLink
        from indifast.transport.sockets import check_port

        port = check_port(port)
        check_choice(compress)
        self._indifast_runtime.serve_itself(
            "its own port",
            lambda refuse: PortLink.open(host, port, refuse, raw_frames=raw_frames, compress=compress),
        )

    @property
    def listening_port(self) -> int | None:
        """Port that the running driver listens on; None if it does not listen."""
        return vars(self).get("listening_port", getattr(self._indifast_runtime.link, "port", None))

    @listening_port.setter
    def listening_port(self, value: int | None) -> None:
        vars(self)["listening_port"] = value  # an attribute of the program's own

    async def asyncrun(self, *, grace: float | None = None) -> None:
        """Run the driver until it is shut down, or until its stdin is closed.

        Returns at once if the driver was shut down before its first run.

        An exception in user code ends a driver that runs without a server, and is raised here; under a server, the
        exception is logged and the driver goes on.

        Args:
            grace: Seconds that `hardware` and other coroutines have after a shutdown before they are cancelled; None
                for those of the server, or 2. Without a server, the peer then has as long to read what was sent before,
                but at least 2 seconds. If `asyncrun` is cancelled, these are 0 and 2 seconds.

        Raises:
            OSError: The driver can't listen on its port.
            RuntimeError: The driver is already running.
        """
        if self._indifast_runtime.served_by is None:
            from indifast.driver.streamlink import open_stdio_link

            self._indifast_runtime.serve_itself("its standard input and output", open_stdio_link)
        await self._indifast_runtime.run_until_end(grace)

    async def __aenter__(self) -> Self:
        """Run the driver in the background until the block ends."""
        runtime = self._indifast_runtime
        runtime.prepare()
        runtime.up = asyncio.Event()  # an earlier run may have used another event loop
        runtime.main = asyncio.create_task(self.asyncrun())
        up = asyncio.create_task(runtime.up.wait())
        await asyncio.wait((runtime.main, up), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if runtime.main.done():
            runtime.main.result()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.shutdown()
        if self._indifast_runtime.main is not None:
            await self._indifast_runtime.main

    @property
    def stop(self) -> bool:
        """Whether the driver has been told to stop."""
        return self._indifast_runtime.stopping

    @property
    def _stop(self) -> bool:
        """`stop`, under the name that older programs use."""
        return self._indifast_runtime.stopping

    @_stop.setter
    def _stop(self, value: bool) -> None:
        self._indifast_runtime.stopping = value
        if value:
            self._indifast_runtime.end()

    def shutdown(self) -> None:
        """Stop the driver: `asyncrun` returns within its grace time.

        It is also called when `asyncrun` ends for another reason, so that a program that overrides it can close its
        hardware here.
        """
        self._indifast_runtime.note_stop()
        self._indifast_runtime.end()

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine with the driver: from its start, or from now if it is already running.

        Raises:
            TypeError: `coro` is not a coroutine.
        """
        _start(self, coro, "a background coroutine")

    def stats(self) -> dict[str, int]:
        """Return the driver's counters by name.

        They count what was refused, left out, replaced, not wanted or sent without a link, and faults of user code,
        since the driver was created.
        """
        return dict(self._indifast_runtime.counters)

    # -- Sending

    @at_home("_indifast_port.home")
    async def send(self, xmldata: TreeElement) -> None:
        """Send an element of `xml.etree.ElementTree` as it is; BLOBs in it go to the clients that want them.

        If a program overrides this method, all that the driver, its devices and its vectors send goes through it.

        Raises:
            ValueError: The element is not an INDI message, or the content of a BLOB is not base64.
        """
        await self._indifast_runtime.transmit_as_is(_message(wire.tree(xmldata).encode()))

    @at_home("_indifast_port.home")
    async def send_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Send a message that belongs to no device, for the users of clients.

        Args:
            message: The text.
            timestamp: UTC, aware or naive; None means now.
        """
        stamp = sendable_stamp(timestamp, "the message")
        if stamp is not None:
            await self._indifast_runtime.transmit(wire.message(message or None, stamp))

    @at_home("_indifast_port.home")
    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask other drivers for their definitions, and snoop on them from now on.

        Args:
            devicename: The device to snoop on; None or empty, as on the wire, for all devices.
            vectorname: The vector to snoop on; None or empty for all vectors of the device.
        """
        devicename, vectorname = devicename or None, vectorname or None
        if devicename is None:
            await self._indifast_runtime.transmit(wire.get_properties())
            self.snoopall = True
        elif devicename in self.data:
            logger.error("can't snoop on %s: it is one of this driver's own devices", devicename)
        else:
            await self._indifast_runtime.transmit(wire.get_properties(devicename, vectorname))
            if vectorname is None:
                self.snoopdevices.add(devicename)
            else:
                self.snoopvectors.setdefault((devicename, vectorname), None)

    def snoop(self, devicename: str, vectorname: str, timeout: int = 30) -> None:
        """Snoop on a vector of another driver.

        Args:
            devicename: The device of the other driver.
            vectorname: The vector of that device.
            timeout: Seconds of silence, at least 5, after which the driver asks for the vector again.
        """
        seconds = int(timeout)
        if seconds < 5:
            logger.error("can't snoop on %s.%s: the timeout must be at least 5 seconds", devicename, vectorname)
        elif devicename in self.data:
            logger.error("can't snoop on %s: it is one of this driver's own devices", devicename)
        else:
            self.snoopvectors[(devicename, vectorname)] = [seconds, time.time()]
            self._indifast_runtime.snoops.watch((devicename, vectorname))


# These are not methods, to leave the names to user programs.


def _has_clientevent(driver: IPyDriver) -> bool:
    """Return whether this is an older program: one with `clientevent` instead of `rxevent`.

    Such programs answer getProperties themselves.
    """
    return hasattr(driver, "clientevent") and type(driver).rxevent is IPyDriver.rxevent


def _start(driver: IPyDriver, coro: Coroutine[Any, Any, Any], what: str) -> None:
    """Run a coroutine with a driver. See `IPyDriver.add_background`."""
    check_coroutine(coro)
    driver._indifast_runtime.add(coro, what)


def _older_style(devices: tuple[Any, ...], driverdata: dict[str, Any]) -> tuple[list[Device], list[Any]]:
    """Return the devices and tasks, whether passed one by one, as lists, or as `devices=` and `tasks=`.

    The keywords are removed from `driverdata`, but only if they hold devices and coroutines.
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
    if isinstance(waiting, list | tuple | set) and waiting and all(isinstance(item, Coroutine) for item in waiting):
        tasks += driverdata.pop("tasks")
    return found, tasks


def _message(data: bytes) -> Routable:
    """Make a message from XML that a program has written. If it has BLOBs, treat it like a received message."""
    from indifast._parser import Tokenizer
    from indifast.protocol.limits import unbounded
    from indifast.transport.blobs import routable

    elements = Tokenizer(relay=True, on_skip=None, **unbounded(len(data))).feed(data)
    if len(elements) != 1:
        raise ValueError(f"not an INDI message: {data[:200]!r}")
    element = elements[0]
    return routable(element) if element.blob else Wire(element.tag, element.device, element.name, data)
