"""What a program sets on its client, and overrides: all that the parts of a client know of either."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable


class Settings:
    """Attributes of a client. They may be set on the object, or on a subclass, at any time."""

    indihost: str
    indiport: int | str
    ssl: ssl_module.SSLContext | bool | None = None

    limits: Limits = DEFAULT_LIMITS
    """Bounds on what is received."""
    device_limit: int = 10_000
    """Devices of a server, and vectors of a device, beyond which definitions are refused."""
    inflate_blobs: bool = False
    """Inflate BLOBs whose format ends with `.z`, and take that suffix off the format."""
    give_back_memory: bool = True
    """Let the process give large freed blocks back to the system from the first large BLOB on (glibc only). A program
    that is busy with large arrays of its own may be faster without."""
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
    enable_reports: bool = True
    """Reports reach the program as messages, and not only the log."""
    resend_enableBLOB_on_def: bool = True
    """With each definition of a BLOB vector, tell the server what is wanted of it."""
    vector_timeout_min: float = 2
    """Seconds that a command may take at least before its vector times out."""
    vector_timeout_max: float = 10
    """Seconds that a command may take at most, whatever the driver announced."""
    on_message: Callable[[Routable], None] | None = None
    """Called with every message as it came, before anything is made of it."""
    on_problem: Callable[[str, str, str], None] | None = None
    """Called with device, property and a sentence when some of what a server says of a property can't be taken,
    or all of it: once for each property."""

    timeout_enable: bool = True
    idle_timeout: float = 20
    respond_timeout: float = 40
    enableBLOBdefault: str = "Never"

    @property
    def BLOBfolder(self) -> Path | str | None:
        """The folder that received BLOBs are saved to, or None."""
        return None


class Program(Protocol):
    """The methods of a client that programs override, and that its parts call."""

    async def rxevent(self, event: Any) -> None:
        """Called with every event."""

    async def report(self, message: str) -> None:
        """Log a text at INFO and perhaps hand it on as a message."""

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and hand it on as a message."""

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **kwargs: Any) -> Any:
        """An identification for a device, vector or member that is new to the client."""
