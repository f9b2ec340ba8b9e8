"""What programs may set and override on a client, as the parts of the client see it."""

from __future__ import annotations

import inspect
import ssl as ssl_module
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from indifast.protocol.compress import AUTO
from indifast.protocol.limits import DEFAULT_LIMITS, Limits
from indifast.protocol.message import Routable
from indifast.transport.stream import Stream


class Settings:
    """Attributes of a client. They may be set at any time, on the object or on a subclass."""

    indihost: str
    indiport: int | str
    ssl: ssl_module.SSLContext | bool | None = None

    limits: Limits = DEFAULT_LIMITS
    """Bounds on what is received."""
    device_limit: int = 10_000
    """Number of devices of a server, and of vectors of a device, beyond which definitions are refused."""
    inflate_blobs: bool = False
    """Whether to inflate BLOBs whose format ends with `.z`, and remove that suffix from the format."""
    give_back_memory: bool = True
    """Whether the process returns large freed blocks to the system from the first large BLOB on (glibc only).

    A program that works with large arrays itself may be faster without.
    """
    raw_frames: bool = True
    """Whether BLOBs come and go as raw bytes instead of base64, if the server is one of indifast that allows it."""
    compress: str = AUTO
    """How raw frames are compressed, if the server allows that.

    "auto": where that makes a link faster, if `indifast[compression]` is installed; "off"; always: "lz4" or "zstd".
    """
    connect_timeout: float = 10.0
    """Seconds within which the server must accept the connection."""
    retry_min: float = 1.0
    """Approximate delay in seconds before the first attempt to connect again."""
    retry_max: float = 5.0
    """Approximate maximum of that delay, which doubles with each attempt and varies at random by a quarter."""
    grace: float = 2.0
    """Seconds that `hardware` and a running `rxevent` have after `shutdown` before they are cancelled."""
    reconnect: bool = True
    """Whether to connect again after a failure.

    If False, `asyncrun` raises the OSError that ended the attempt or the connection.
    """
    check_before_send: bool = False
    """Whether `send_newVector` checks permission, range and rule first, as with its keyword `check=True`."""
    enable_reports: bool = True
    """Whether reports also reach the program as messages, and not only the log."""
    resend_enableBLOB_on_def: bool = True
    """Whether to send the BLOB policy of a BLOB vector again after each of its definitions."""
    vector_timeout_min: float = 2
    """Shortest timeout of a command to a vector, in seconds."""
    vector_timeout_max: float = 10
    """Longest timeout of a command to a vector, in seconds, whatever the driver announced."""
    on_raw_message: Callable[[Routable], None] | None = None
    """Function called with every message as received, before it is handled."""
    on_problem: Callable[[str, str, str], None] | None = None
    """Function called with device, property and a sentence, once for each property with a problem.

    A problem is that a message about the property can't be accepted, in part or as a whole.
    """

    timeout_enable: bool = True
    """Whether vectors time out, a silent connection is probed, and a dead one is given up."""
    idle_timeout: float = 20
    """Seconds without traffic after which the server is asked for its definitions again."""
    respond_timeout: float = 40
    """Seconds without an answer to a sent message after which the connection is given up."""
    enableBLOBdefault: str = "Never"
    """The BLOB policy for devices that are new to the client: Never, Also or Only."""

    @property
    def BLOBfolder(self) -> Path | str | None:
        """The folder in which received BLOBs are saved, or None."""
        return None


def is_ssl(value: object) -> TypeGuard[ssl_module.SSLContext | bool | None]:
    """Return whether a value says how to connect with TLS, or that it is not to be used."""
    return value is None or isinstance(value, bool | ssl_module.SSLContext)


def hook(value: object) -> bool:
    """Return whether a value can be called as a hook: it is a function, but no coroutine function."""
    return callable(value) and not inspect.iscoroutinefunction(value)


def _number(value: Any, default: float) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


class Given:
    """The settings of a client, as its parts read them.

    The names of `Settings` that the original packages do not have may be those of a program's own methods and
    attributes. A value of another type than ours is taken for one of these, and the default holds.

    Args:
        settings: The client.
        ssl: What the client was made with, which holds instead of the default.
    """

    def __init__(self, settings: Settings, ssl: ssl_module.SSLContext | bool | None = None) -> None:
        self.settings = settings
        self._ssl = ssl

    @property
    def limits(self) -> Limits:
        """Bounds on what is received."""
        value: object = self.settings.limits
        return value if isinstance(value, Limits) else DEFAULT_LIMITS

    @property
    def device_limit(self) -> int:
        """Number of devices, and of vectors of a device, that are accepted."""
        value: object = self.settings.device_limit
        return value if type(value) is int else Settings.device_limit

    @property
    def inflate_blobs(self) -> bool:
        """Whether to inflate BLOBs."""
        return self.settings.inflate_blobs is True

    @property
    def give_back_memory(self) -> bool:
        """Whether the process returns large freed blocks to the system."""
        return self.settings.give_back_memory is not False

    @property
    def raw_frames(self) -> bool:
        """Whether BLOBs may come and go as raw bytes."""
        return self.settings.raw_frames is not False

    @property
    def compress(self) -> str:
        """How raw frames are compressed."""
        value: object = self.settings.compress
        return value if isinstance(value, str) else Settings.compress

    @property
    def connect_timeout(self) -> float:
        """Seconds within which the server must accept the connection."""
        return _number(self.settings.connect_timeout, Settings.connect_timeout)

    @property
    def retry_min(self) -> float:
        """Shortest delay in seconds before connecting again."""
        return _number(self.settings.retry_min, Settings.retry_min)

    @property
    def retry_max(self) -> float:
        """Longest delay in seconds before connecting again."""
        return _number(self.settings.retry_max, Settings.retry_max)

    @property
    def grace(self) -> float:
        """Seconds that the program has to end after `shutdown`."""
        return _number(self.settings.grace, Settings.grace)

    @property
    def reconnect(self) -> bool:
        """Whether to connect again after a failure."""
        return self.settings.reconnect is not False

    @property
    def check_before_send(self) -> bool:
        """Whether to check commands before sending them."""
        return self.settings.check_before_send is True

    @property
    def ssl(self) -> ssl_module.SSLContext | bool | None:
        """How to connect with TLS."""
        value: object = self.settings.ssl
        return value if is_ssl(value) else self._ssl

    @property
    def on_raw_message(self) -> Callable[[Routable], None] | None:
        """Function called with every message."""
        value = self.settings.on_raw_message
        return value if hook(value) else None

    @property
    def on_problem(self) -> Callable[[str, str, str], None] | None:
        """Function called with problems."""
        value = self.settings.on_problem
        return value if hook(value) else None

    # Names of the original packages, which mean there what they mean here

    @property
    def indihost(self) -> str:
        """The host of the server."""
        return self.settings.indihost

    @property
    def indiport(self) -> int | str:
        """The port of the server."""
        return self.settings.indiport

    @property
    def BLOBfolder(self) -> Path | str | None:
        """The folder in which received BLOBs are saved, or None."""
        return self.settings.BLOBfolder

    @property
    def enableBLOBdefault(self) -> str:
        """The BLOB policy for devices that are new to the client."""
        return self.settings.enableBLOBdefault


class Program(Protocol):
    """The methods of a client that programs may override and that the client's parts call."""

    on_raw_message: Callable[[Routable], None] | None

    async def _indifast_open_stream(self) -> Stream:
        """Return a new connection to the server."""

    async def rxevent(self, event: Any) -> None:
        """Handle an event."""

    async def report(self, message: str) -> None:
        """Log a text at INFO and perhaps pass it to the program as a message."""

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and pass it to the program as a message."""

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **kwargs: Any) -> Any:
        """Return an identifier for a device, vector or member that is new to the client."""
