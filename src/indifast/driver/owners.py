"""Protocols for the device of a vector, and for the driver of a device.

`vector.device`, `vector.driver` and `device.driver` are the objects themselves, of whatever class the program uses.
Type checkers see them as these protocols, so that vectors need not import devices, nor devices drivers.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.driver.port import VectorPort


class OwningDevice(Protocol):
    """`Device`, as its vectors see it."""

    devicename: str
    devicedata: dict[str, Any]
    enable: bool

    @property
    def driver(self) -> OwningDriver | None:
        """Driver of the device; None while it has none."""
        ...

    @property
    def stop(self) -> bool:
        """Whether the driver has been told to stop."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """Vectors by name."""
        ...

    def properties(self) -> list[Any]:
        """Return a list of the vectors."""
        ...

    def __getitem__(self, vectorname: str, /) -> Any: ...

    def __contains__(self, vectorname: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def indi_number_to_float(self, value: object, /) -> float:
        """Convert the text of an INDI number to a float. See `Device.indi_number_to_float`."""
        ...

    def shutdown(self) -> None:
        """Note that the driver is stopping. See `Device.shutdown`."""
        ...

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine with the driver. See `Device.add_background`."""
        ...

    async def send_device_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Send a message about the device. See `Device.send_device_message`."""
        ...

    async def send_delProperty(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Tell clients that the device is gone. See `Device.send_delProperty`."""
        ...


class OwningDriver(Protocol):
    """`IPyDriver`, as its devices and vectors see it."""

    driverdata: dict[str, Any]
    auto_send_def: bool
    debug_enable: bool
    snoopall: bool
    snoopdevices: set[str]
    snoopvectors: dict[tuple[str, str], list[Any] | None]

    @property
    def _indifast_port(self) -> VectorPort:
        """Port through which devices and vectors send their messages."""
        ...

    @property
    def stop(self) -> bool:
        """Whether the driver has been told to stop."""
        ...

    @property
    def data(self) -> Mapping[str, OwningDevice]:
        """Devices by name."""
        ...

    def __getitem__(self, devicename: str, /) -> OwningDevice: ...

    def __contains__(self, devicename: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    @property
    def listening_port(self) -> int | None:
        """Port that the driver listens on, if any. See `IPyDriver.listening_port`."""
        ...

    def indi_number_to_float(self, value: object, /) -> float:
        """Convert the text of an INDI number to a float. See `IPyDriver.indi_number_to_float`."""
        ...

    def shutdown(self) -> None:
        """Stop the driver. See `IPyDriver.shutdown`."""
        ...

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine with the driver. See `IPyDriver.add_background`."""
        ...

    def stats(self) -> dict[str, int]:
        """Return the driver's counters. See `IPyDriver.stats`."""
        ...

    async def send(self, xmldata: TreeElement) -> None:
        """Send an element as it is. See `IPyDriver.send`."""
        ...

    async def send_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """Send a message that belongs to no device. See `IPyDriver.send_message`."""
        ...

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask other drivers for their definitions. See `IPyDriver.send_getProperties`."""
        ...

    def snoop(self, devicename: str, vectorname: str, timeout: int = 30) -> None:
        """Snoop on a vector of another driver. See `IPyDriver.snoop`."""
        ...
