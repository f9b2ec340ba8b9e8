"""The client: connects, keeps a model of the server's devices, and tells its program what happens."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections import Counter, UserDict, deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, overload
from xml.etree import ElementTree

from indifast.client.blobchoices import BlobChoices
from indifast.client.blobrequests import BlobRequests
from indifast.client.commandchecks import check_command
from indifast.client.commands import send_command
from indifast.client.commandsender import CommandSender
from indifast.client.device import Device
from indifast.client.exposing import Exposing
from indifast.client.frames import Frame, FrameStream
from indifast.client.keepalive import KeepAlive
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import DEFTAGS, Model
from indifast.client.notifier import Notifier
from indifast.client.problems import Problems
from indifast.client.receiver import Receiver
from indifast.client.session import Session
from indifast.client.settings import Settings
from indifast.client.snapshot import Snap, SnapDevice, _ParentDevice, vector_state
from indifast.client.streams import EventStream
from indifast.client.timeouts import Timeouts
from indifast.client.trace import Trace
from indifast.client.waiting import Until, Waits
from indifast.client.watchers import Watchers
from indifast.protocol import wire
from indifast.protocol.message import Wire
from indifast.protocol.vocabulary import BLOB_POLICIES

__all__ = ["DEFTAGS", "Device", "IPyClient", "Snap", "SnapDevice", "_ParentDevice"]

logger = logging.getLogger(__name__)

COUNTS = (
    "connections", "received", "received_bytes", "sent", "refused", "left_out", "skipped", "skipped_bytes", "unknown",
    "failed", "faults", "frames_replaced", "not_sent", "timeouts", "warnings_left_out",
)  # fmt: skip


class IPyClient(Settings, UserDict[str, Device]):
    """A client of an INDI server: a mapping of device names to devices.

    Subclass it, override `rxevent` (and `hardware` for a task of your own), and run `asyncrun()`; or use it as an
    asynchronous context manager. `indihost` is a host name or address, or a Unix socket: a path, or `unix:PATH`. `ssl`
    is True or an `ssl.SSLContext` for TLS. All other keywords are kept in `clientdata`.

    The attributes of `Settings` may be changed at any time; those about connecting count from the next attempt.
    """

    def __init__(
        self,
        indihost: str = "localhost",
        indiport: int | str = 7624,
        *,
        ssl: ssl_module.SSLContext | bool | None = None,
        **clientdata: Any,
    ) -> None:
        self.indihost = indihost
        self.indiport = indiport
        self.ssl = ssl
        self.on_message = self.on_message  # looked up for every message: so it costs least
        self.clientdata = clientdata
        self.user_string = ""
        self._itemid = 0
        self._run: asyncio.Task[None] | None = None

        # The parts, each of which knows some of those above it. `self` is the settings, and the program.
        self._counts: Counter[str] = Counter()
        self._trace = Trace(logger)
        self._lifecycle = lifecycle = Lifecycle()
        self._link = link = Link(lifecycle, self._counts, self._trace)
        self._watchers = watchers = Watchers(link.wake)
        lifecycle.on_end.append(lambda: watchers.notify(None))
        self._notifier = notifier = Notifier(self, self, watchers, self._note, link.wake)
        self._problems = Problems(self, self._counts, notifier.complain_soon)
        self._timeouts = Timeouts(self, lifecycle, notifier, self._counts)
        self._choices = BlobChoices(self)
        sender = CommandSender(link, self._timeouts, notifier)
        self._model = model = Model(self, self, sender, self._choices, self._problems, self._counts)
        self._keepalive = KeepAlive(self, self, lifecycle, link, model)
        self._blob_requests = BlobRequests(self, lifecycle, link, model, self._choices)
        self._receiver = Receiver(
            self, self, lifecycle, link, model, notifier, watchers, self._problems, self._keepalive,
            self._blob_requests, self._counts, self._trace,
        )  # fmt: skip
        self._session = Session(
            self, self, lifecycle, link, model, notifier, watchers, self._receiver, self._keepalive, self._timeouts,
            self._blob_requests, self._counts,
        )  # fmt: skip
        self._waits = Waits(self, lifecycle, link, model, watchers)
        self._exposing = Exposing(model, watchers, self._waits, self._frames, self._command)
        self.data = model.devices

    # -- what programs override

    async def rxevent(self, event: Any) -> None:
        """Called with every event; override it. While it runs, nothing more is read."""

    async def hardware(self) -> None:
        """A task of the program's own, started with `asyncrun`; override it."""

    def create_itemid(self, devicename: str = "", vectorname: str = "", membername: str = "", **kwargs: Any) -> Any:
        """An identification for a device, vector or member that is new to the client; by default 1, 2, 3 …"""
        self._itemid += 1
        return self._itemid

    # -- running

    async def asyncrun(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `shutdown` is called.

        Returns at once if that was called before the first run. An exception in `hardware` ends the client and is
        raised here; without `reconnect` so does, and is, an OSError. RuntimeError if the client is running already.
        """
        await self._lifecycle.run(self._session.run, self.hardware, lambda: self.grace)

    def shutdown(self) -> None:
        """Stop: `asyncrun` will close the connection and return. May be called from any thread."""
        self._stop = True

    async def __aenter__(self) -> IPyClient:
        """Run in the background while the block runs. Wait for `ready()` before using devices."""
        self._lifecycle.prepare()
        self._run = asyncio.get_running_loop().create_task(self.asyncrun(), name="indifast client run")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        run, self._run = self._run, None
        assert run is not None
        self.shutdown()
        await run

    @property
    def stopped(self) -> asyncio.Event:
        """Set when `asyncrun` has ended."""
        return self._lifecycle.stopped

    @property
    def stop(self) -> bool:
        """True after `shutdown`, and when `asyncrun` has ended."""
        return self._lifecycle.stopping

    @property
    def _stop(self) -> bool:
        """The same, for programs that write `while not self._stop`."""
        return self._lifecycle.stopping

    @_stop.setter
    def _stop(self, value: bool) -> None:
        if value:
            self._lifecycle.stop()
        else:
            self._lifecycle.stopping = False

    @property
    def connected(self) -> bool:
        """True from the moment the server took the connection until it is closed and the devices are gone."""
        return self._link.connected

    # -- what is known

    def __setitem__(self, devicename: str, device: Any) -> None:
        raise KeyError("the devices of a client come from the server")

    @property
    def messages(self) -> deque[tuple[datetime, str]]:
        """The newest messages of the server as a whole, and of the client itself, newest first."""
        return self._model.messages

    @messages.setter
    def messages(self, value: deque[tuple[datetime, str]]) -> None:
        self._model.messages = value

    def _note(self, timestamp: datetime, text: str) -> None:
        self._model.note(timestamp, text)

    @property
    def problems(self) -> dict[tuple[str, str], str]:
        """What is wrong with what the server says, since the connection was made: a sentence by device and property."""
        return self._problems.known

    def enabledlen(self) -> int:
        """Number of devices that have an enabled vector."""
        return sum(device.enable for device in self.data.values())

    def get_vector_state(self, devicename: str, vectorname: str) -> str | None:
        """The state of a vector, also of one that was deleted; None if there is none of these names."""
        return vector_state(self.data, devicename, vectorname)

    @property
    def user_string_dict(self) -> dict[tuple[str, str | None, str | None], str]:
        """The free texts of devices, vectors and members, known already or not."""
        return self._model.user_strings

    @user_string_dict.setter
    def user_string_dict(self, value: dict[tuple[str, str | None, str | None], str]) -> None:
        self._model.user_strings = value

    def set_user_string(
        self, devicename: str, vectorname: str | None, membername: str | None, user_string: str = ""
    ) -> None:
        """Set the free text of a device, vector or member, known already or not."""
        self._model.set_user_string(devicename, vectorname, membername, user_string)

    def get_user_string(self, devicename: str, vectorname: str | None, membername: str | None) -> str | None:
        """The free text of a device, vector or member; None if there is none."""
        return self._model.user_string(devicename, vectorname, membername)

    def snapshot(self) -> Snap:
        """Everything as it stands now, safe to hand to another thread. Costs what changed since the last snapshot."""
        records = self._model.records()
        return Snap._of(self.indihost, self.indiport, self.connected, list(self.messages), self.user_string, records)

    # -- notices, counts, the log

    async def report(self, message: str) -> None:
        """Log a text at INFO and, unless `enable_reports` is off, hand it to the program as a message."""
        await self._notifier.report(message)

    async def warning(self, message: str) -> None:
        """Log a text at WARNING and hand it to the program as a message."""
        await self._notifier.warning(message)

    def debug_verbosity(self, verbose: int) -> None:
        """What the DEBUG log says of the traffic: 0 nothing, 1 start tags, 2 all but BLOB content, 3 all."""
        if verbose not in (0, 1, 2, 3):
            raise ValueError("the verbosity is 0, 1, 2 or 3")
        self._trace.verbosity = verbose

    def stats(self) -> dict[str, int]:
        """Counts since the client was made: what came and went, and whatever was refused, skipped or dropped.

        `connections`; `received`, `received_bytes`, `sent` messages; `refused` messages that say what they may not,
        `left_out` members of others (without a name, or with a value that can't be read and has a default then),
        `skipped` pieces and `skipped_bytes` that are no messages, `unknown` messages about devices that were never
        defined, `failed` messages that could not be handled, `faults` of BLOBs that were not saved or inflated,
        `frames_replaced` by newer ones, `not_sent` messages while there was no connection and answers to pings while
        the server read nothing, `timeouts` of vectors, and `warnings_left_out` of those that told of all this.
        """
        connection = self._link.connection
        counts = dict.fromkeys(COUNTS, 0) | dict(self._counts)
        counts["warnings_left_out"] = self._notifier.left_out
        if connection is not None:
            counts["received"] += connection.received
            counts["received_bytes"] += connection.received_bytes
        return counts

    # -- time-outs

    @property
    def idle_timer(self) -> float:
        """When something was last sent or received, in the seconds of `time.monotonic()`."""
        return self._link.last_traffic

    @idle_timer.setter
    def idle_timer(self, value: float) -> None:
        self._link.last_traffic = value

    @property
    def tx_timer(self) -> float | None:
        """When the first of what the server has not answered was sent; None: it has said something since."""
        return self._link.unanswered_since

    @tx_timer.setter
    def tx_timer(self, value: float | None) -> None:
        self._link.unanswered_since = value

    @property
    def timeout_enable(self) -> bool:
        """Whether vectors time out, a silent connection is probed, and a dead one is given up."""
        return self._timeout_enable

    @timeout_enable.setter
    def timeout_enable(self, value: bool) -> None:
        self._timeout_enable = value
        self._lifecycle.call_soon(self._arm)

    @property
    def idle_timeout(self) -> float:
        """Seconds without traffic after which the server is asked for its definitions again."""
        return self._idle_timeout

    @idle_timeout.setter
    def idle_timeout(self, value: float) -> None:
        self._idle_timeout = value
        self._lifecycle.call_soon(self._arm)

    @property
    def respond_timeout(self) -> float:
        """Seconds without any answer to what was sent after which the connection is given up."""
        return self._respond_timeout

    @respond_timeout.setter
    def respond_timeout(self, value: float) -> None:
        self._respond_timeout = value
        self._lifecycle.call_soon(self._arm)

    _timeout_enable = Settings.timeout_enable
    _idle_timeout = Settings.idle_timeout
    _respond_timeout = Settings.respond_timeout

    def set_vector_timeouts(
        self,
        timeout_enable: bool | None = None,
        timeout_min: float | None = None,
        timeout_max: float | None = None,
    ) -> None:
        """Change the bounds of the vectors' time-outs, in seconds; the others follow the largest."""
        if timeout_min is not None:
            self.vector_timeout_min = timeout_min
        if timeout_max is not None:
            self.vector_timeout_max = timeout_max
            self.idle_timeout = 2 * timeout_max
            self.respond_timeout = 4 * timeout_max
        if timeout_enable is not None:
            self.timeout_enable = timeout_enable

    def _arm(self) -> None:
        self._keepalive.arm()
        self._timeouts.arm()

    # -- BLOBs

    @property
    def enableBLOBdefault(self) -> str:
        """Never, Also or Only: what devices that are new to the client are told. Other values are ignored."""
        return self._enableBLOBdefault

    @enableBLOBdefault.setter
    def enableBLOBdefault(self, value: str) -> None:
        if value in BLOB_POLICIES:
            self._enableBLOBdefault = value

    _enableBLOBdefault = Settings.enableBLOBdefault

    @property
    def BLOBfolder(self) -> Path | None:
        """The folder that received BLOBs are saved to, or None.

        Setting a folder asks for the BLOBs of all devices, setting None goes back to `enableBLOBdefault`. KeyError for
        what is not an existing folder.
        """
        return self._BLOBfolder

    @BLOBfolder.setter
    def BLOBfolder(self, value: str | Path | None) -> None:
        if not value:
            if self._BLOBfolder is None:
                return
            self._BLOBfolder = None
            self._blob_requests.want_all(self.enableBLOBdefault)
            return
        folder = Path(value).expanduser().resolve() if isinstance(value, str) else value
        if not folder.is_dir():
            raise KeyError(f"the BLOB folder {str(folder)!r} is not an existing folder")
        self._BLOBfolder = folder
        self._blob_requests.want_all("Also")

    _BLOBfolder: Path | None = None

    async def send_enableBLOB(self, value: str, devicename: str, vectorname: str | None = None) -> None:
        """Say whether BLOBs of a device, or of one vector, are wanted: Never, Also or Only.

        The choice is kept, also over a reconnection. Nothing happens for what is unknown, disabled or has no BLOBs.
        """
        await self._blob_requests.send(value, devicename, vectorname)

    async def resend_enableBLOB(self, devicename: str, vectorname: str | None = None) -> None:
        """Say again what was last said of a device's BLOBs, or of one vector's."""
        await self._blob_requests.resend(devicename, vectorname)

    # -- what goes to the server

    async def send(self, xmldata: ElementTree.Element) -> None:
        """Send an element; dropped while not connected or stopping. TypeError if it cannot be written as XML."""
        if self._link.can_send:
            data = wire.tree(xmldata).encode()
            await self._link.transmit(Wire(xmldata.tag, xmldata.get("device"), xmldata.get("name"), data))

    async def send_getProperties(self, devicename: str | None = None, vectorname: str | None = None) -> None:
        """Ask for the definitions of everything, of a device, or of one vector of it."""
        await self._link.transmit(wire.get_properties(devicename, vectorname if devicename else None))

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
        """Send a command; for what is unknown, and for lights, nothing happens.

        Of texts and numbers those not given are sent as they stand, unless `complete` is False: some drivers need all,
        such as mounts both coordinates, and others refuse what they have not set yet. Of a write-only vector never more
        is sent than was given.

        With `wait`, return the vector at the first update received after sending that has a state of `accept` and
        fulfils `until`; see `Waits.command`. INDIAlert at an update with Alert, TimeoutError after `timeout`
        seconds, both with the vector's last message; INDIDeleted when the vector or its device goes. With `check`,
        raise INDICheckError before sending what the vector cannot take.
        """
        vector = self._model.find(devicename, vectorname or "")
        if check if check is not None else self.check_before_send:
            check_command(devicename, vectorname, vector, members, complete)
        if wait:
            return await self._waits.command(
                devicename, vectorname, timestamp, members, timeout, accept, until, complete=complete
            )
        await send_command(vector, timestamp, members, complete)
        return None

    async def _command(self, devicename: str, vectorname: str, members: Mapping[str, Any]) -> None:
        await self.send_newVector(devicename, vectorname, members=members)

    # -- beyond events

    async def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until the server has taken the connection; see `Waits.connected`."""
        await self._waits.connected(timeout)

    async def ready(self, timeout: float | None = 30.0, *names: str | tuple[str, str], quiet: float = 0.5) -> None:
        """Wait until the server's devices are known; see `Waits.ready`."""
        await self._waits.ready(timeout, names, quiet)

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
        """Wait until a device or vector is defined and, if asked for, has a state; see `Waits.wait_for`."""
        return await self._waits.wait_for(devicename, vectorname, state, timeout, there)

    async def ping(self, timeout: float | None = 10.0) -> float:
        """Seconds until the server answers a pingRequest; TimeoutError, or ConnectionError if not connected."""
        return await self._waits.ping(timeout)

    def events(
        self,
        device: str | None = None,
        vector: str | None = None,
        types: type | tuple[type, ...] | None = None,
        queue: int = 10_000,
    ) -> EventStream:
        """Events from now on, filtered; see `streams.EventStream`."""
        return EventStream(self._watchers, self._lifecycle, device, vector, types, queue)

    def frames(
        self,
        device: str,
        vector: str | None = None,
        *,
        keep: bool = True,
        newest: bool = False,
        queue: int = 2,
    ) -> FrameStream:
        """BLOBs of a device from now on; see `frames.FrameStream`."""
        return FrameStream(
            self._watchers, self._lifecycle, self._blob_requests, self._counts, device, vector,
            keep=keep, newest=newest, queue=queue,
        )  # fmt: skip

    def _frames(self, device: str, vector: str) -> FrameStream:
        return self.frames(device, vector)

    async def expose(
        self,
        device: str,
        seconds: float,
        *,
        vector: str = "CCD1",
        exposure: str = "CCD_EXPOSURE",
        timeout: float = 60.0,
    ) -> Frame:
        """Take one exposure of `seconds` and return its frame.

        `vector` is the BLOB vector that brings it, `exposure` the number vector whose first member takes the seconds.
        The camera must be connected. Raises INDIAlert if the exposure fails, INDIDeleted if the camera goes,
        ConnectionError if the connection is lost, TimeoutError `timeout` seconds after the exposure should have ended.
        """
        return await self._exposing.expose(device, seconds, vector, exposure, timeout)
