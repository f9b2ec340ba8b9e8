"""INDI client that keeps a model of the server's devices and passes events to its program."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections import UserDict, deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, overload
from xml.etree import ElementTree

from indifast.client.commandchecks import INDIUnknown, check_command, why_unknown
from indifast.client.commands import send_command
from indifast.client.connection import open_stream, unix_path
from indifast.client.device import Device
from indifast.client.frames import Frame, FrameStream
from indifast.client.model import DEFTAGS
from indifast.client.parts import Parts
from indifast.client.propertymembers import ParseException
from indifast.client.settings import Settings, is_ssl
from indifast.client.snapshot import Snap, SnapDevice, _ParentDevice, described, vector_state
from indifast.client.streams import EventStream
from indifast.client.waiting import Until
from indifast.handover import at_home
from indifast.protocol import wire
from indifast.protocol.drivernames import PORT, peer_port
from indifast.protocol.message import Wire
from indifast.protocol.vocabulary import BLOB_POLICIES
from indifast.transport.stream import Stream

__all__ = ["DEFTAGS", "Device", "IPyClient", "ParseException", "Snap", "SnapDevice", "_ParentDevice"]

COUNTS = (
    "connections", "received", "received_bytes", "sent", "refused", "left_out", "skipped", "skipped_bytes", "unknown",
    "failed", "faults", "frames_replaced", "not_sent", "timeouts", "warnings_left_out", "agreed",
)  # fmt: skip


class IPyClient(Settings, UserDict[str, Device]):
    """A client of an INDI server: a mapping of device names to devices.

    Subclass it, override `rxevent` (and `hardware` for a task of your own), and run `asyncrun()`; or use it as an
    asynchronous context manager.

    The attributes of `Settings` may be changed at any time; those about connecting take effect at the next attempt.

    Args:
        indihost: A host name or address, or a Unix socket: a path, or `unix:PATH`.
        indiport: The TCP port.
        ssl: True or an `ssl.SSLContext` for TLS.
        **clientdata: Kept in the attribute `clientdata`.

    Raises:
        TypeError: The host is not a str, the port neither an int nor a str, or `ssl` something else.
        ValueError: The port is not in the range from 1 to 65535.
    """

    def __init__(
        self,
        indihost: str = "localhost",
        indiport: int | str = PORT,
        *,
        ssl: ssl_module.SSLContext | bool | None = None,
        **clientdata: Any,
    ) -> None:
        if not isinstance(indihost, str):
            raise TypeError(f"the host must be a str, not {indihost!r}")
        if unix_path(indihost) is None:
            peer_port(indiport)
        self.indihost = indihost
        self.indiport = indiport
        if ssl is not None:  # otherwise, `ssl` may be a method of the program
            if not is_ssl(ssl):
                raise TypeError(f"ssl must be True or an SSLContext, not {ssl!r}")
            self.ssl = ssl
        self.on_raw_message = self.on_raw_message  # looked up for every message, which is fastest on the instance
        self.clientdata = clientdata
        self.user_string = ""
        self._indifast = parts = Parts(self, self, self._indifast_command, ssl)
        self.data = parts.model.devices

    # -- Methods to override

    async def rxevent(self, event: Any) -> None:
        """Handle an event; override this method. Nothing more is read while it runs."""

    async def hardware(self) -> None:
        """Run a task of your own, started by `asyncrun`; override this method."""

    async def _indifast_open_stream(self) -> Stream:
        given = self._indifast.given
        return await open_stream(self.indihost, self.indiport, given.connect_timeout, given.ssl)

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **kwargs: Any) -> Any:
        """Return an identifier for a new device, vector or member; by default, 1, 2, 3 and so on."""
        return next(self._indifast.itemids)

    # -- Running

    async def asyncrun(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `shutdown` is called.

        Return at once if `shutdown` was called before the first run.

        Raises:
            Exception: `hardware` raised it, which stops the client.
            OSError: Connecting failed or the connection was lost, and `reconnect` is False.
            RuntimeError: The client is already running.
        """
        parts = self._indifast
        await parts.lifecycle.run(parts.session.run, self.hardware, self.shutdown, lambda: parts.given.grace)

    def __repr__(self) -> str:
        return described(self, self)

    def shutdown(self) -> None:
        """Stop the client: `asyncrun` closes the connection and returns. May be called from any thread.

        It is also called when `asyncrun` ends for another reason.
        """
        self._stop = True

    async def __aenter__(self) -> IPyClient:
        """Start the client in the background, until the block ends. Wait for `ready()` before using devices."""
        self._indifast.lifecycle.prepare()
        self._indifast.run = asyncio.get_running_loop().create_task(self.asyncrun(), name="indifast client run")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        parts = self._indifast
        run, parts.run = parts.run, None
        assert run is not None
        self.shutdown()
        await run

    @cached_property
    def stopped(self) -> asyncio.Event:
        """An event that is set when `asyncrun` has ended."""
        return self._indifast.lifecycle.stopped

    @property
    def stop(self) -> bool:
        """True after `shutdown`, and after `asyncrun` has ended."""
        return self._indifast.lifecycle.stopping

    @property
    def _stop(self) -> bool:
        """The same as `stop`, for programs that write `while not self._stop`."""
        return self._indifast.lifecycle.stopping

    @_stop.setter
    def _stop(self, value: bool) -> None:
        if value:
            self._indifast.lifecycle.stop()
        else:
            self._indifast.lifecycle.stopping = False

    @property
    def connected(self) -> bool:
        """True from when the server accepts the connection until it is closed and the devices are gone."""
        return self._indifast.link.connected

    @property
    def unsent(self) -> int:
        """Bytes that were sent but have not reached the server's machine yet, as far as the kernel says; 0 if none.

        A message that is partly written counts as a whole.
        """
        count: int = vars(self).get("unsent", self._indifast.link.unsent)
        return count

    @unsent.setter
    def unsent(self, value: int) -> None:
        vars(self)["unsent"] = value  # an attribute of the program's own

    # -- Model

    def __setitem__(self, devicename: str, device: Any) -> None:
        raise KeyError("the devices of a client come from the server")

    @property
    def messages(self) -> deque[tuple[datetime, str]]:
        """The newest messages from the server as a whole and from the client itself, newest first."""
        return self._indifast.model.messages

    @messages.setter
    def messages(self, value: deque[tuple[datetime, str]]) -> None:
        self._indifast.model.messages = value

    @cached_property
    def problems(self) -> dict[tuple[str, str], str]:
        """Problems with the server's messages since the connection was made: a sentence by (device, property)."""
        return self._indifast.problems.known

    def enabledlen(self) -> int:
        """Return the number of devices that have an enabled vector."""
        return sum(device.enable for device in self.data.values())

    def get_vector_state(self, devicename: str, vectorname: str) -> str | None:
        """Return the state of a vector, even of a deleted one, or None if there is no such vector."""
        return vector_state(self.data, devicename, vectorname)

    @property
    def user_string_dict(self) -> dict[tuple[str, str | None, str | None], str]:
        """The free texts of devices, vectors and members, whether or not the client knows these yet."""
        return self._indifast.model.user_strings

    @user_string_dict.setter
    def user_string_dict(self, value: dict[tuple[str, str | None, str | None], str]) -> None:
        self._indifast.model.user_strings = value

    def set_user_string(
        self, devicename: str, vectorname: str | None, membername: str | None, user_string: str = ""
    ) -> None:
        """Set the free text of a device, vector or member, whether or not the client knows it yet."""
        self._indifast.model.set_user_string(devicename, vectorname, membername, user_string)

    def get_user_string(self, devicename: str, vectorname: str | None, membername: str | None) -> str | None:
        """Return the free text of a device, vector or member, or None if there is none."""
        return self._indifast.model.user_string(devicename, vectorname, membername)

    def snapshot(self) -> Snap:
        """Return everything as it is now, safe to pass to another thread.

        The cost depends only on what has changed since the last snapshot.
        """
        records = self._indifast.model.records()
        connected = self._indifast.link.connected
        return Snap._of(self.indihost, self.indiport, connected, list(self.messages), self.user_string, records)

    # -- Notices, counts and the log

    async def report(self, message: str) -> None:
        """Log a text at INFO and, unless `enable_reports` is off, pass it to the program as a message."""
        await self._indifast.notifier.report(message)

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and pass it to the program as a message."""
        await self._indifast.notifier.warning(message)

    def debug_verbosity(self, verbose: int) -> None:
        """Set what the DEBUG log shows of the traffic: 0 nothing, 1 start tags, 2 all but BLOB content, 3 all."""
        if verbose not in (0, 1, 2, 3):
            raise ValueError("the verbosity must be 0, 1, 2 or 3")
        self._indifast.trace.verbosity = verbose

    def stats(self) -> dict[str, int]:
        """Return counts since the client was created.

        The keys are: `connections`; `received`, `received_bytes` and `sent` messages; `refused` messages, invalid or
        too large; `left_out` members of others (without a name, or with a value that can't be read and, in a
        definition, has a default); `skipped` pieces and `skipped_bytes` that are not messages; `unknown` messages,
        about devices that were never defined; `failed` messages, which could not be handled; `faults` in saving and
        inflating BLOBs; `frames_replaced` by newer ones; `not_sent` messages, dropped for lack of a connection, and
        answers to pings, dropped because the server read nothing; `timeouts` of vectors; `warnings_left_out`, the
        warnings about all this that exceeded the rate limit; `agreed`, the connections over which BLOBs are sent raw.
        """
        parts = self._indifast
        connection = parts.link.connection
        counts = dict.fromkeys(COUNTS, 0) | dict(parts.counts)
        counts["warnings_left_out"] = parts.notifier.left_out
        if connection is not None:
            counts["received"] += connection.received
            counts["received_bytes"] += connection.received_bytes
        return counts

    # -- Timeouts

    @property
    def idle_timer(self) -> float:
        """When something was last sent or received, in seconds of `time.monotonic()`."""
        return self._indifast.link.last_traffic

    @idle_timer.setter
    def idle_timer(self, value: float) -> None:
        self._indifast.link.last_traffic = value

    @property
    def tx_timer(self) -> float | None:
        """When the first message was sent since the server was last heard; None if none was sent since."""
        return self._indifast.link.unanswered_since

    @tx_timer.setter
    def tx_timer(self, value: float | None) -> None:
        self._indifast.link.unanswered_since = value

    @property
    def timeout_enable(self) -> bool:
        """Whether vectors time out, a silent connection is probed, and a dead one is given up."""
        return self._indifast.timeout_enable

    @timeout_enable.setter
    def timeout_enable(self, value: bool) -> None:
        self._indifast.timeout_enable = value
        self._indifast.arm_soon()

    @property
    def idle_timeout(self) -> float:
        """Seconds without traffic after which the server is asked for its definitions again."""
        return self._indifast.idle_timeout

    @idle_timeout.setter
    def idle_timeout(self, value: float) -> None:
        self._indifast.idle_timeout = value
        self._indifast.arm_soon()

    @property
    def respond_timeout(self) -> float:
        """Seconds without an answer to a sent message after which the connection is given up."""
        return self._indifast.respond_timeout

    @respond_timeout.setter
    def respond_timeout(self, value: float) -> None:
        self._indifast.respond_timeout = value
        self._indifast.arm_soon()

    def set_vector_timeouts(
        self,
        timeout_enable: bool | None = None,
        timeout_min: float | None = None,
        timeout_max: float | None = None,
    ) -> None:
        """Change the timeouts; arguments that are None leave theirs unchanged.

        Args:
            timeout_enable: Sets `timeout_enable`.
            timeout_min: Sets `vector_timeout_min`, in seconds.
            timeout_max: Sets `vector_timeout_max`, in seconds, `idle_timeout` to twice and `respond_timeout` to four
                times as much.
        """
        if timeout_min is not None:
            self.vector_timeout_min = timeout_min
        if timeout_max is not None:
            self.vector_timeout_max = timeout_max
            self.idle_timeout = 2 * timeout_max
            self.respond_timeout = 4 * timeout_max
        if timeout_enable is not None:
            self.timeout_enable = timeout_enable

    # -- BLOBs

    @property
    def enableBLOBdefault(self) -> str:
        """The BLOB policy for devices that are new to the client: Never, Also or Only. Other values are ignored."""
        return self._indifast.enableBLOBdefault

    @enableBLOBdefault.setter
    def enableBLOBdefault(self, value: str) -> None:
        if value in BLOB_POLICIES:
            self._indifast.enableBLOBdefault = value

    @property
    def BLOBfolder(self) -> Path | None:
        """The folder in which received BLOBs are saved, or None.

        Setting a folder asks for the BLOBs of all devices; setting None goes back to `enableBLOBdefault`.

        Raises:
            KeyError: The value is not an existing folder.
        """
        return self._indifast.BLOBfolder

    @BLOBfolder.setter
    def BLOBfolder(self, value: str | Path | None) -> None:
        parts = self._indifast
        if not value:
            if parts.BLOBfolder is None:
                return
            parts.BLOBfolder = None
            parts.blob_requests.want_all(self.enableBLOBdefault)
            return
        folder = Path(value).expanduser().resolve() if isinstance(value, str) else value
        if not folder.is_dir():
            raise KeyError(f"the BLOB folder {str(folder)!r} is not an existing folder")
        parts.BLOBfolder = folder
        parts.blob_requests.want_all("Also")

    @at_home("_indifast.lifecycle.home")
    async def send_enableBLOB(self, value: str, devicename: str, vectorname: str | None = None) -> None:
        """Tell the server whether BLOBs of a device, or of one BLOB vector, are wanted.

        The choice is kept, even across reconnections. Nothing happens if the device or vector is unknown or disabled.

        Args:
            value: Never, Also or Only.
            devicename: Name of the device.
            vectorname: Name of the vector; None for the device and all its vectors.
        """
        await self._indifast.blob_requests.send(value, devicename, vectorname)

    @at_home("_indifast.lifecycle.home")
    async def resend_enableBLOB(self, devicename: str, vectorname: str | None = None) -> None:
        """Tell the server again the current BLOB policy of a device or of one vector."""
        await self._indifast.blob_requests.resend(devicename, vectorname)

    # -- Sending

    @at_home("_indifast.lifecycle.home")
    async def send(self, xmldata: ElementTree.Element) -> None:
        """Send an element, or drop it if the client is not connected or is stopping.

        Raises:
            TypeError: The element cannot be written as XML.
        """
        if self._indifast.link.can_send:
            data = wire.tree(xmldata).encode()
            await self._indifast.link.transmit(Wire(xmldata.tag, xmldata.get("device"), xmldata.get("name"), data))

    @at_home("_indifast.lifecycle.home")
    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask for the definitions of everything, of one device, or of one of its vectors."""
        await self._indifast.hooks.transmit(wire.get_properties(devicename, vectorname if devicename else None))

    @at_home("_indifast.lifecycle.home")
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
        until: Until = None,
        check: bool | None = None,
        complete: bool = True,
    ) -> Any:
        """Send a command. Without `wait` and `check`, nothing happens if the vector is unknown or a light vector.

        With `wait`, the command has taken effect at the first message received after sending, an update with a state
        or a new definition, that leaves the vector in a state in `accept` and fulfills `until`. Busy, and any other
        state that is not accepted, keeps the wait going. INDI cannot tell which command an update answers: use `until`
        to make sure if other clients command the same vector, or if a driver repeats itself.

        Args:
            devicename: Name of the device.
            vectorname: Name of the vector.
            timestamp: Time of the command, by default now.
            members: Values by member name.
            wait: Wait for the effect of the command.
            timeout: Seconds to wait for the effect, or None for no limit.
            accept: States that end the wait.
            until: A further condition: values of members (numbers to within half a step, or pairs of value and
                tolerance), or a function of the vector.
            check: Check the command before sending it; by default as `check_before_send` says.
            complete: Send the other texts or numbers of the vector along, with their current values. Some drivers need
                them, such as both coordinates of a mount; others refuse values that were never set. For a write-only
                vector, only the members given are sent.

        Returns:
            The vector with `wait`, otherwise None.

        Raises:
            INDICheckError: With `check`, the vector cannot accept the command. With `wait`, there was nothing to send;
                lights, for instance, take no commands.
            INDIAlert: With `wait`, an update had the state Alert, which is not in `accept`. The error has the vector's
                last message, as has the TimeoutError.
            INDIDeleted: With `wait`, the vector or its device was deleted.
            TimeoutError: With `wait`, there was no effect in time.
            ConnectionError: With `wait`, the client is not connected, or the connection was lost.
            KeyError: With `wait`, the vector is not defined.
        """
        vector = self._indifast.model.find(devicename, vectorname or "")
        if check if check is not None else self._indifast.given.check_before_send:
            if vector is None or not vector.enable:
                raise INDIUnknown(why_unknown(self, devicename, vectorname))
            check_command(devicename, vectorname, vector, members, complete)
        if wait:
            return await self._indifast.waits.command(
                devicename, vectorname, timestamp, members, timeout, accept, until, complete=complete
            )
        await send_command(vector, timestamp, members, complete)
        return None

    async def _indifast_command(self, devicename: str, vectorname: str, members: Mapping[str, Any]) -> None:
        await self.send_newVector(devicename, vectorname, members=members)

    # -- Waiting and streams

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the server has accepted the connection; return at once if it already has.

        Raises:
            TimeoutError: There was no connection after `timeout` seconds.
            ConnectionError: The client has stopped. It does so after a failure if `reconnect` is False; `asyncrun`
                then raises the reason.
        """
        await self._indifast.waits.connected(timeout)

    async def ready(self, timeout: float | None = 30.0, *names: str | tuple[str, str], quiet: float = 0.5) -> None:
        """Wait until the server's devices are known.

        Args:
            timeout: Seconds to wait, or None for no limit.
            *names: The devices and vectors that must be defined: names of devices, or pairs of device and vector name.
                Without any, wait until there is a device and no definition has come for `quiet` seconds.
            quiet: Seconds without definitions.

        Raises:
            TimeoutError: The devices were not known in time. The error says what is missing.
        """
        await self._indifast.waits.ready(timeout, names, quiet)

    @overload
    async def wait_for(
        self,
        devicename: str,
        vectorname: None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = None,
        there: bool = False,
    ) -> Device: ...

    @overload
    async def wait_for(
        self,
        devicename: str,
        vectorname: str | None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = None,
        there: bool = False,
    ) -> Any: ...

    async def wait_for(
        self,
        devicename: str,
        vectorname: str | None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = None,
        there: bool = False,
    ) -> Any:
        """Wait until a device or vector is defined and, if asked for, has a state.

        Args:
            devicename: Name of the device.
            vectorname: Name of the vector, or None to wait for the device.
            state: The state that the vector must have, or several states of which it must have one.
            timeout: Seconds to wait, or None for no limit.
            there: Whether the device or vector must be there already, and stay. If False, one that is deleted is
                waited for until it comes back.

        Returns:
            The device or vector.

        Raises:
            TimeoutError: The wait was not over in time.
            INDIDeleted: With `there`, the device or vector is not defined or was deleted.
            ConnectionError: The client has stopped or, with `there`, is not connected.
        """
        return await self._indifast.waits.wait_for(devicename, vectorname, state, timeout, there)

    async def ping(self, timeout: float | None = 10.0) -> float:
        """Send a pingRequest and return the seconds until the server answers.

        Raises:
            TimeoutError: There was no answer after `timeout` seconds.
            ConnectionError: The client is not connected, or the connection was lost.
        """
        return await self._indifast.waits.ping(timeout)

    def events(
        self,
        device: str | None = None,
        vector: str | None = None,
        types: type | tuple[type, ...] | None = None,
        queue: int = 10_000,
    ) -> EventStream:
        """Return an iterator over events from now on, filtered. See `streams.EventStream`."""
        parts = self._indifast
        return EventStream(parts.watchers, parts.lifecycle, device, vector, types, queue)

    def frames(
        self,
        device: str,
        vector: str | None = None,
        *,
        keep: bool = True,
        newest: bool = False,
        queue: int = 2,
    ) -> FrameStream:
        """Return an iterator over the BLOBs of a device from now on. See `frames.FrameStream`."""
        return self._indifast.frames(device, vector, keep, newest, queue)

    async def expose(
        self,
        device: str,
        seconds: float,
        *,
        vector: str = "CCD1",
        exposure: str = "CCD_EXPOSURE",
        timeout: float = 60.0,
    ) -> Frame:
        """Take one exposure and return its frame. The camera must be connected.

        Args:
            device: Name of the camera.
            seconds: The exposure time.
            vector: Name of the BLOB vector that brings the frame.
            exposure: Name of the number vector whose first member takes the exposure time.
            timeout: Seconds to wait for each vector to be defined, and for the frame after the exposure should have
                ended.

        Raises:
            INDIAlert: The exposure failed.
            INDIDeleted: The camera was deleted.
            ConnectionError: The connection was lost.
            TimeoutError: The frame did not come in time.
        """
        return await self._indifast.exposing.expose(device, seconds, vector, exposure, timeout)
