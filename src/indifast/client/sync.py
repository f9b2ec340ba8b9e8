"""Client without `await`, for notebooks, scripts and multithreaded programs."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from indifast.client.commandchecks import (
    INDICheckError,
    INDIUnknown,
    check_policy,
    check_until,
    not_connected,
    switch_state,
    unknown_member,
    why_no_camera,
    why_unknown,
)
from indifast.client.frames import Frame
from indifast.client.ipyclient import IPyClient
from indifast.client.propertyvectors import SnapNumberVector, SnapVector
from indifast.client.snapshot import DeviceRecord, Snap, SnapDevice, described, described_device
from indifast.client.snapvectors import VectorRecord
from indifast.client.waiting import Until, fulfilled
from indifast.protocol.drivernames import PORT

T = TypeVar("T")

COMMAND_TIMEOUT = 60.0
"""Default limit on the seconds that a command may take."""

DEFINITION_TIMEOUT = 5.0
"""Limit on the seconds that a camera which is connected may take to define what it exposes with."""


def connect(
    host: str = "localhost",
    port: int | str = PORT,
    *,
    timeout: float = 10.0,
    ssl: ssl_module.SSLContext | bool | None = None,
) -> SyncClient:
    """Connect to a server, learn its devices, and return a client that any thread may use.

    Commands are checked before they are sent: what the property, as it is defined, cannot accept raises INDICheckError.

    Args:
        host: A host name or address, or a Unix socket, as for `IPyClient`.
        port: The TCP port.
        timeout: Seconds to wait for the server and its devices.
        ssl: True or an `ssl.SSLContext` for TLS.

    Raises:
        TimeoutError: The server or its devices were not there in time. The error says what was missing.
        TypeError: The host is not a str, or the port neither an int nor a str.
        ValueError: The port is not in the range from 1 to 65535.
    """
    client = SyncClient(IPyClient(host, port, ssl=ssl))
    client.client.check_before_send = True
    try:
        client.ready(timeout)
    except BaseException:
        client.close()
        raise
    return client


class SyncClient:
    """An `IPyClient` that runs in its own thread; every method may be called from any other thread.

    `client[device]` is a `SyncDevice`, and `client[device][vector][member]` a value: a float for a number, On or Off
    for a switch. A name that does not exist raises INDIUnknown, a KeyError whose message has similar names.

    Use the client as a context manager, or `close` it; it does not keep a program
    from ending.
    """

    def __init__(self, client: IPyClient) -> None:
        self.client = client
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._over = False
        """True once the client has stopped: nothing more runs in its thread."""
        self._asking = threading.Lock()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="indifast client", daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        try:
            async with self.client:  # the client runs from here on, so that `close` can end it
                self._started.set()
                assert self.client._indifast.run is not None
                await asyncio.wait((self.client._indifast.run,))
        finally:
            with self._asking:
                self._over = True
            self._started.set()
            await asyncio.sleep(0)  # calls made before are tasks now, and end with this one

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the client's thread, and wait for its result."""
        own = threading.current_thread() is self._thread
        with self._asking:
            future = None if own or self._closed or self._over else asyncio.run_coroutine_threadsafe(work, self._loop)
        if future is None:
            work.close()
            raise RuntimeError("must not be called from the client's own thread" if own else "the client is closed")
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the client was closed before the call was done") from None
        except BaseException:
            future.cancel()
            raise

    def ready(self, timeout: float | None = 30.0, *names: str | tuple[str, str], quiet: float = 0.5) -> None:
        """Wait until the server's devices are known. See `IPyClient.ready`."""
        self._call(self.client.ready(timeout, *names, quiet=quiet))

    def wait_for(
        self,
        device: str,
        vector: str | None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = COMMAND_TIMEOUT,
        there: bool = False,
    ) -> SnapDevice | SnapVector:
        """Wait for a device or vector and its state, and return a snapshot of it. See `IPyClient.wait_for`."""

        async def wait() -> Any:
            return (await self.client.wait_for(device, vector, state, timeout, there)).snapshot()

        snapshot: SnapDevice | SnapVector = _faced(self._call(wait()))
        return snapshot

    def set(
        self,
        device: str,
        vector: str,
        members: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
        timeout: float | None = COMMAND_TIMEOUT,
        accept: Iterable[str] = ("Ok", "Idle"),
        until: Until = None,
        check: bool | None = None,
        complete: bool = True,
        **values: Any,
    ) -> SnapVector | None:
        """Send a command and wait for its effect.

        The values are given by member name, in `members` or as keywords. True and False stand for On and Off, and a
        BLOB is bytes or a path. The other arguments, and the errors raised, are those of `IPyClient.send_newVector`.
        With `check`, which is the default after `connect`, nothing is sent that the vector cannot accept.

        Returns:
            A snapshot of the vector, or None with `wait=False`.
        """
        if not isinstance(members, Mapping | None):
            raise INDICheckError(f"{device}.{vector}: values go with the names of members, not {members!r} alone")
        if not members and not values:
            raise INDICheckError(f"{device}.{vector}: no member is named, so there is nothing to set")

        async def send() -> SnapVector | None:
            live = self.client[device].get(vector) if device in self.client else None
            sent = _given(live, {**(members or {}), **values})
            taken: list[SnapVector] = []

            def effective(live: Any) -> bool:
                """Take the snapshot at once if `until` is fulfilled: more may arrive before the caller runs."""
                snapshot = _faced(live.snapshot())
                if until(snapshot) if callable(until) else fulfilled(live, until):
                    taken.append(snapshot)
                return bool(taken)

            if live is not None:
                check_until(live, until)

            await self.client.send_newVector(
                device, vector, None, sent,
                wait=wait, timeout=timeout, accept=accept, until=effective, check=check, complete=complete,
            )  # fmt: skip
            return taken[0] if wait else None

        return self._call(send())

    def expose(
        self,
        device: str,
        seconds: float,
        *,
        vector: str = "CCD1",
        exposure: str = "CCD_EXPOSURE",
        timeout: float = COMMAND_TIMEOUT,
    ) -> Frame:
        """Take one exposure and return its frame. See `IPyClient.expose`.

        Raises:
            INDICheckError: The device is no camera, is not connected, or does not take so many seconds.
            INDIUnknown: The camera has no such vector, and has not defined it within `DEFINITION_TIMEOUT` either.
        """
        state = self.snapshot()
        if device not in state or state[device].enable is False:
            raise INDIUnknown(why_unknown(state, device))
        camera = state[device]
        if exposure not in camera and (why := why_no_camera(camera)):
            raise INDICheckError(why)
        if exposure not in camera and not_connected(camera):
            raise INDICheckError(f"{device} is not connected: set its CONNECTION to CONNECT=True first")
        for name in (exposure, vector):
            if name not in camera:  # a camera that has just been connected may still be defining them
                try:
                    self.wait_for(device, name, timeout=min(timeout, DEFINITION_TIMEOUT))
                except TimeoutError:
                    raise INDIUnknown(why_unknown(self.snapshot(), device, name)) from None
        return self._call(self.client.expose(device, seconds, vector=vector, exposure=exposure, timeout=timeout))

    def ping(self, timeout: float | None = 10.0) -> float:
        """Ping the server and return the seconds until it answers. See `IPyClient.ping`."""
        return self._call(self.client.ping(timeout))

    def enable_blobs(self, device: str, vector: str | None = None, value: str = "Also") -> None:
        """Tell the server whether BLOBs are wanted: Never, Also or Only. See `IPyClient.send_enableBLOB`.

        Raises:
            INDIUnknown: There is no such device or vector, or `value` is none of these words.
        """
        check_policy(value)
        known = self[device]
        if vector is not None:
            known[vector]
        self._call(self.client.send_enableBLOB(value, device, vector))

    def snapshot(self) -> Snap:
        """Return a snapshot of everything."""

        async def take() -> Snap:
            return self.client.snapshot()

        snapshot: Snap = _faced(self._call(take()))
        return snapshot

    def __repr__(self) -> str:
        if self._closed or self._over:
            return f"<SyncClient {self.client.indihost}:{self.client.indiport}, closed>"
        return described(self, self.snapshot())

    def __getitem__(self, device: str) -> SyncDevice:
        self.snapshot()[device]
        return SyncDevice(self, device)

    def __contains__(self, device: object) -> bool:
        return device in self.snapshot()

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())

    def close(self) -> None:
        """Close the connection and end the thread."""
        if not self._closed:
            self._closed = True
            self.client.shutdown()
            self._thread.join()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Vector(SnapVector):
    """A vector as it was at one moment, for people who look at it: an unknown member has a readable error."""

    def __getitem__(self, membername: str) -> Any:
        self.member(membername)
        return super().__getitem__(membername)

    def member(self, membername: str) -> Any:
        if membername not in self.data:
            raise unknown_member(self, membername)
        return super().member(membername)


class _NumberVector(_Vector, SnapNumberVector):
    """A vector of numbers as it was at one moment: a mapping of member names to floats."""

    def __getitem__(self, membername: str) -> float:
        value: float = self.member(membername).getfloatvalue()
        return value


class _Device(SnapDevice):
    """A device as it was at one moment."""

    def _build(self, record: VectorRecord) -> SnapVector:
        vector: SnapVector = _faced(super()._build(record))
        return vector

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise INDIUnknown(why_unknown({self.devicename: self}, self.devicename, str(key)))
        return super().__getitem__(key)


class _Snap(Snap):
    """A client and all it knew at one moment."""

    def _build(self, record: DeviceRecord) -> SnapDevice:
        device: SnapDevice = _faced(super()._build(record))
        return device

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise INDIUnknown(why_unknown(self, key))
        return super().__getitem__(key)


_FACES: dict[type, type] = {SnapVector: _Vector, SnapNumberVector: _NumberVector, SnapDevice: _Device, Snap: _Snap}


def _faced(snapshot: Any) -> Any:
    """Return a new snapshot as what `SyncClient` shows: numbers are floats, and errors have similar names."""
    snapshot.__class__ = _FACES.get(type(snapshot), type(snapshot))
    return snapshot


def _given(vector: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a command as `IPyClient` takes them."""
    kind = None if vector is None else vector.vectortype
    if kind == "SwitchVector":
        return {name: switch_state(value) for name, value in values.items()}
    if kind == "BLOBVector":
        return {name: value if isinstance(value, tuple) else (value, 0, "") for name, value in values.items()}
    return values


class SyncDevice:
    """One device of a `SyncClient`; `device[vector]` is a new snapshot of a vector."""

    def __init__(self, client: SyncClient, name: str) -> None:
        self.name = name
        self._client = client

    def snapshot(self) -> SnapDevice:
        """Return a snapshot of the device."""
        device: SnapDevice = self._client.snapshot()[self.name]
        return device

    def __repr__(self) -> str:
        if self._client._closed or self._client._over:
            return f"<SyncDevice {self.name}, closed>"
        return described_device(self, self.snapshot())

    def __getitem__(self, vector: str) -> SnapVector:
        snapshot: SnapVector = self.snapshot()[vector]
        return snapshot

    def __contains__(self, vector: object) -> bool:
        return vector in self.snapshot()

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())

    def set(self, vector: str, members: Mapping[str, Any] | None = None, **keywords: Any) -> SnapVector | None:
        """Send a command and wait for its effect. See `SyncClient.set`."""
        return self._client.set(self.name, vector, members, **keywords)

    def expose(
        self,
        seconds: float,
        *,
        vector: str = "CCD1",
        exposure: str = "CCD_EXPOSURE",
        timeout: float = COMMAND_TIMEOUT,
    ) -> Frame:
        """Take one exposure and return its frame. See `IPyClient.expose`."""
        return self._client.expose(self.name, seconds, vector=vector, exposure=exposure, timeout=timeout)
