"""A device: a named group of property vectors."""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from indifast.protocol import wire
from indifast.protocol.numbers import getfloat
from indifast.protocol.timestamps import timestamp_text

if TYPE_CHECKING:
    from indifast.driver.owners import OwningDriver
    from indifast.driver.port import Port
    from indifast.driver.propertyvectors import PropertyVector

logger = logging.getLogger("indifast.driver.ipydriver")


class Device(UserDict[str, Any]):
    """A mapping of vector name to vector.

    Args:
        devicename: ASCII.
        properties: the vectors; of two with the same name the later one stays.
        devicedata: anything else, kept in the attribute `devicedata`.

    Attributes:
        propertyvectors: vector name to vector, as a dictionary.
        enable: while False, nothing of this device is sent but its deletion, and nothing is received.
        driver: set when the device becomes part of a driver.

    Raises:
        ValueError: the name is not ASCII.
    """

    def __init__(self, devicename: str, properties: Iterable[PropertyVector], **devicedata: Any) -> None:
        super().__init__()
        self.propertyvectors: dict[str, PropertyVector] = self.data
        if not devicename.isascii():
            raise ValueError(f"the device name {devicename!r} should be ASCII")
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
        raise TypeError("the vectors of a device are given when it is made")

    def properties(self) -> list[PropertyVector]:
        """The vectors."""
        return list(self.data.values())

    @property
    def stop(self) -> bool:
        """The driver has been told to stop."""
        return self._stop

    def shutdown(self) -> None:
        """Note that the driver stops: `stop` becomes True here and in the vectors."""
        self._stop = True
        for vector in self.data.values():
            vector.shutdown()

    @staticmethod
    def indi_number_to_float(value: object) -> float:
        """The float that a number text stands for; TypeError when it stands for none."""
        return getfloat(value)

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine with the driver: from its start on, or from now when it runs already.

        Raises:
            TypeError: not a coroutine.
        """
        what = f"a background coroutine of {self.devicename}"
        check_coroutine(coro)
        if self.driver is None:
            self._backgroundlist.append((coro, what))
        else:
            self.driver._vectorport.add(coro, what)

    async def send_device_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Send a message about this device to the users of clients."""
        stamp = sendable_stamp(timestamp, f"the message of {self.devicename}")
        if stamp is not None and self.enable:
            await port_of(self).transmit(wire.message(message or None, stamp, self.devicename))

    async def send_delProperty(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Tell clients that the device is gone, and disable it."""
        stamp = sendable_stamp(timestamp, f"the deletion of {self.devicename}")
        if stamp is not None:
            deletion = wire.del_property(self.devicename, None, stamp, message or None)
            await port_of(self).transmit(deletion)
            self.enable = False

    # hooks for subclasses, called by nobody but the user's driver

    async def devhardware(self, *args: Any, **kwargs: Any) -> None:
        """Meant to be called by the driver's `hardware`."""

    async def devrxevent(self, event: Any, *args: Any, **kwargs: Any) -> None:
        """Meant to be called by the driver's `rxevent`."""

    async def devclientevent(self, event: Any, *args: Any, **kwargs: Any) -> None:
        """Meant to be called by the driver's `clientevent`."""

    async def devsnoopevent(self, event: Any, *args: Any, **kwargs: Any) -> None:
        """Meant to be called by the driver's `snoopevent`."""


# What the rest of the package does with a device: not by methods, whose names programs may want for their own.


def attach(device: Device, driver: OwningDriver) -> None:
    """The device has become part of a driver, and its vectors with it."""
    device.driver = driver
    for vector in device.data.values():
        vector.driver = driver
    waiting, device._backgroundlist = device._backgroundlist, []
    for coro, what in waiting:
        driver._vectorport.add(coro, what)


def begin(device: Device) -> None:
    """The driver runs: `stop` becomes False in the device and its vectors."""
    device._stop = False
    for vector in device.data.values():
        vector._stop = False


def port_of(device: Device) -> Port:
    """Where the messages of a device leave; TypeError while it has no driver."""
    if device.driver is None:
        raise TypeError(f"the device {device.devicename} is not part of a driver")
    return device.driver._vectorport


def sendable_stamp(timestamp: datetime | None, what: str) -> str | None:
    """A time as it is sent; None, and a line in the log, when it is not in UTC."""
    try:
        return timestamp_text(timestamp)
    except (TypeError, ValueError) as error:
        logger.error("%s not sent: %s", what, error)
        return None


def check_coroutine(coro: object) -> None:
    """TypeError for anything but a coroutine object."""
    if not isinstance(coro, Coroutine):
        raise TypeError(f"a coroutine is needed, what an async function returns when it is called, not {coro!r}")
