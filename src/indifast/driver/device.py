"""`Device`: a named group of property vectors."""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from indifast.handover import at_home
from indifast.protocol import wire
from indifast.protocol.numbers import getfloat
from indifast.protocol.timestamps import timestamp_text

if TYPE_CHECKING:
    from indifast.driver.owners import OwningDriver
    from indifast.driver.port import Port
    from indifast.driver.propertyvectors import PropertyVector

logger = logging.getLogger("indifast.driver.ipydriver")


class Device(UserDict[str, Any]):
    """Mapping of vector name to vector.

    Args:
        devicename: The name, in ASCII.
        properties: The vectors; if two have the same name, the later one is kept.
        devicedata: Any other keyword arguments, kept in the attribute `devicedata`.

    Raises:
        ValueError: The name is not ASCII.

    Attributes:
        propertyvectors: Dictionary of vector name to vector.
        enable: While False, the device receives nothing and sends nothing but its deletion.
        driver: The driver; set when the device becomes part of one.
    """

    def __init__(self, devicename: str, properties: Iterable[PropertyVector], **devicedata: Any) -> None:
        super().__init__()
        self.propertyvectors: dict[str, PropertyVector] = self.data
        if not devicename.isascii():
            raise ValueError(f"the device name {devicename!r} must be ASCII")
        self.devicename = devicename
        self.devicedata = devicedata
        self.enable = True
        self.driver: OwningDriver | None = None
        self._stop = False
        self._backgroundlist: list[tuple[Coroutine[Any, Any, Any], str]] = []
        for vector in properties:
            vector.devicename = devicename
            self.data[vector.name] = vector

    def __setitem__(self, vectorname: str, vector: object = None) -> NoReturn:
        raise TypeError("vectors can't be added to a device: pass them to its constructor")

    def properties(self) -> list[PropertyVector]:
        """Return a list of the vectors."""
        return list(self.data.values())

    @property
    def stop(self) -> bool:
        """Whether the driver has been told to stop."""
        return self._stop

    def shutdown(self) -> None:
        """Note that the driver is stopping: set `stop` of the device and its vectors."""
        self._stop = True
        for vector in self.data.values():
            vector.shutdown()

    @staticmethod
    def indi_number_to_float(value: object) -> float:
        """Convert the text of an INDI number to a float.

        Raises:
            TypeError: The value is not a number.
        """
        return getfloat(value)

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine with the driver: from its start, or from now if it is already running.

        Raises:
            TypeError: `coro` is not a coroutine.
        """
        what = f"a background coroutine of {self.devicename}"
        check_coroutine(coro)
        if self.driver is None:
            self._backgroundlist.append((coro, what))
        else:
            self.driver._indifast_port.add(coro, what)

    @at_home("driver._indifast_port.home")
    async def send_device_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Send a message about this device, for the users of clients.

        Args:
            message: The text.
            timestamp: UTC, aware or naive; None means now.
        """
        stamp = sendable_stamp(timestamp, f"the message of {self.devicename}")
        if stamp is not None and self.enable:
            await port_of(self).transmit(wire.message(message or None, stamp, self.devicename))

    @at_home("driver._indifast_port.home")
    async def send_delProperty(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Tell clients that the device is gone, and disable it.

        Args:
            message: The reason, for the users of clients.
            timestamp: UTC, aware or naive; None means now.
        """
        stamp = sendable_stamp(timestamp, f"the deletion of {self.devicename}")
        if stamp is not None:
            deletion = wire.del_property(self.devicename, None, stamp, message or None)
            await port_of(self).transmit(deletion)
            self.enable = False

    # -- Hooks for subclasses, called only by the user's driver

    async def devhardware(self, *args: Any, **kwargs: Any) -> None:
        """Control the hardware of this device. Meant to be called by the driver's `hardware`."""

    async def devrxevent(self, event: Any, *args: Any, **kwargs: Any) -> None:
        """Handle an event for this device. Meant to be called by the driver's `rxevent`."""

    async def devclientevent(self, event: Any, *args: Any, **kwargs: Any) -> None:
        """Handle an event for this device. Meant to be called by the driver's `clientevent`."""

    async def devsnoopevent(self, event: Any, *args: Any, **kwargs: Any) -> None:
        """Handle an event from another driver. Meant to be called by the driver's `snoopevent`."""


# What the rest of the package does with a device. These are not methods, to leave the names to user programs.


def attach(device: Device, driver: OwningDriver) -> None:
    """Make a device and its vectors part of a driver."""
    device.driver = driver
    for vector in device.data.values():
        vector.driver = driver
    waiting, device._backgroundlist = device._backgroundlist, []
    for coro, what in waiting:
        driver._indifast_port.add(coro, what)


def begin(device: Device) -> None:
    """Note that the driver is running: clear `stop` of the device and its vectors."""
    device._stop = False
    for vector in device.data.values():
        vector._stop = False


def port_of(device: Device) -> Port:
    """Return the port through which a device sends its messages.

    Raises:
        TypeError: The device has no driver yet.
    """
    if device.driver is None:
        raise TypeError(f"the device {device.devicename} is not part of a driver")
    return device.driver._indifast_port


def sendable_stamp(timestamp: datetime | None, what: str) -> str | None:
    """Return a timestamp as it is sent; if it is not a UTC time, log that `what` is not sent and return None."""
    try:
        return timestamp_text(timestamp)
    except (TypeError, ValueError) as error:
        logger.error("%s not sent: %s", what, error)
        return None


def check_coroutine(coro: object) -> None:
    """Raise TypeError unless `coro` is a coroutine object."""
    if not isinstance(coro, Coroutine):
        raise TypeError(f"expected a coroutine (the result of calling an async function), not {coro!r}")
