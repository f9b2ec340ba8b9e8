"""What a vector and a device show of those that they are part of.

`vector.device`, `vector.driver` and `device.driver` are the objects themselves, of whatever class the program has made
them. These protocols are what type checkers know of them, so that vectors need not import devices, nor devices drivers.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.driver.port import VectorPort


class OwningDevice(Protocol):
    """A `Device`, as its vectors see it."""

    devicename: str
    devicedata: dict[str, Any]
    enable: bool

    @property
    def driver(self) -> OwningDriver | None:
        """The driver; None while there is none."""
        ...

    @property
    def stop(self) -> bool:
        """The driver has been told to stop."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """The vectors by name."""
        ...

    def properties(self) -> list[Any]:
        """The vectors."""
        ...

    def __getitem__(self, vectorname: str, /) -> Any: ...

    def __contains__(self, vectorname: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def indi_number_to_float(self, value: object, /) -> float:
        """See `Device.indi_number_to_float`."""
        ...

    def shutdown(self) -> None:
        """See `Device.shutdown`."""
        ...

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """See `Device.add_background`."""
        ...

    async def send_device_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """See `Device.send_device_message`."""
        ...

    async def send_delProperty(self, message: str = "", timestamp: datetime | None = None) -> None:
        """See `Device.send_delProperty`."""
        ...


class OwningDriver(Protocol):
    """An `IPyDriver`, as its devices and vectors see it."""

    driverdata: dict[str, Any]
    auto_send_def: bool
    debug_enable: bool
    snoopall: bool
    snoopdevices: set[str]
    snoopvectors: dict[tuple[str, str], list[Any] | None]

    @property
    def _vectorport(self) -> VectorPort:
        """Where the messages of its devices and vectors leave."""
        ...

    @property
    def stop(self) -> bool:
        """The driver has been told to stop."""
        ...

    @property
    def data(self) -> Mapping[str, OwningDevice]:
        """The devices by name."""
        ...

    def __getitem__(self, devicename: str, /) -> OwningDevice: ...

    def __contains__(self, devicename: object, /) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    @property
    def listening_port(self) -> int | None:
        """See `IPyDriver.listening_port`."""
        ...

    def indi_number_to_float(self, value: object, /) -> float:
        """See `IPyDriver.indi_number_to_float`."""
        ...

    def shutdown(self) -> None:
        """See `IPyDriver.shutdown`."""
        ...

    def add_background(self, coro: Coroutine[Any, Any, Any]) -> None:
        """See `IPyDriver.add_background`."""
        ...

    def stats(self) -> dict[str, int]:
        """See `IPyDriver.stats`."""
        ...

    async def send(self, xmldata: TreeElement) -> None:
        """See `IPyDriver.send`."""
        ...

    async def send_message(self, message: str = "", timestamp: datetime | None = None) -> None:
        """See `IPyDriver.send_message`."""
        ...

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """See `IPyDriver.send_getProperties`."""
        ...

    def snoop(self, devicename: str, vectorname: str, timeout: int = 30) -> None:
        """See `IPyDriver.snoop`."""
        ...
