"""The client without `await`: for notebooks, scripts and programs of threads."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from indifast.client.frames import Frame
from indifast.client.ipyclient import IPyClient
from indifast.client.propertyvectors import SnapVector
from indifast.client.snapshot import Snap, SnapDevice
from indifast.client.waiting import Until, fulfilled

T = TypeVar("T")

COMMAND_TIMEOUT = 60.0
"""Seconds that a command may take unless told otherwise."""


def connect(
    host: str = "localhost",
    port: int | str = 7624,
    *,
    timeout: float = 10.0,
    ssl: ssl_module.SSLContext | bool | None = None,
) -> SyncClient:
    """Connect to a server, learn its devices, and return an object that any thread may use.

    `host` may be a Unix socket, see `IPyClient`. Raises TimeoutError, saying what was missing, after `timeout` seconds.
    """
    client = SyncClient(IPyClient(host, port, ssl=ssl))
    try:
        client.ready(timeout)
    except BaseException:
        client.close()
        raise
    return client


class SyncClient:
    """An `IPyClient` that runs in a thread of its own; every method may be called from any other thread.

    `client[device]` is a `SyncDevice`. Use it as a context manager, or `close` it; a program that ends closes it too.
    """

    def __init__(self, client: IPyClient) -> None:
        self.client = client
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._over = False
        """The client has stopped: nothing more is run in its thread."""
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
            async with self.client:  # it runs from here on, so that `close` ends it
                self._started.set()
                assert self.client._run is not None
                await asyncio.wait((self.client._run,))
        finally:
            with self._asking:
                self._over = True
            self._started.set()
            await asyncio.sleep(0)  # what was asked before is a task now, and ends with this one

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the client's thread and wait for the result."""
        own = threading.current_thread() is self._thread
        with self._asking:
            future = None if own or self._closed or self._over else asyncio.run_coroutine_threadsafe(work, self._loop)
        if future is None:
            work.close()
            raise RuntimeError("not from the client's own thread" if own else "the client is closed")
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the client was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def ready(self, timeout: float | None = 30.0, *names: str | tuple[str, str], quiet: float = 0.5) -> None:
        """Wait until devices are known, see `Waits.ready`."""
        self._call(self.client.ready(timeout, *names, quiet=quiet))

    def wait_for(
        self,
        device: str,
        vector: str | None = None,
        state: str | Iterable[str] | None = None,
        timeout: float | None = COMMAND_TIMEOUT,
        there: bool = False,
    ) -> SnapDevice | SnapVector:
        """Wait for a device or vector, and its state, see `Waits.wait_for`; returns a snapshot of it."""

        async def wait() -> Any:
            return (await self.client.wait_for(device, vector, state, timeout, there)).snapshot()

        snapshot: SnapDevice | SnapVector = self._call(wait())
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
        """Send a command, `members` or keywords naming the values, and wait for its effect, see `Waits.command`.

        `check` and `complete` as for `IPyClient.send_newVector`. Returns a snapshot of the vector, or None with
        `wait=False`.
        """

        async def send() -> SnapVector | None:
            sent = {**(members or {}), **values}
            taken: list[SnapVector] = []

            def effective(live: Any) -> bool:
                """What is returned is how things stand now: by the time that the caller runs, more may have come."""
                if fulfilled(live, until):
                    taken.append(live.snapshot())
                return bool(taken)

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
        """Take one exposure, see `IPyClient.expose`."""
        return self._call(self.client.expose(device, seconds, vector=vector, exposure=exposure, timeout=timeout))

    def ping(self, timeout: float | None = 10.0) -> float:
        """Seconds until the server answers."""
        return self._call(self.client.ping(timeout))

    def enable_blobs(self, device: str, vector: str | None = None, value: str = "Also") -> None:
        """Say whether BLOBs are wanted: Never, Also or Only."""
        self._call(self.client.send_enableBLOB(value, device, vector))

    def snapshot(self) -> Snap:
        """Everything as it stands now."""

        async def take() -> Snap:
            return self.client.snapshot()

        return self._call(take())

    def __getitem__(self, device: str) -> SyncDevice:
        if device not in self.snapshot():
            raise KeyError(device)
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


class SyncDevice:
    """One device of a `SyncClient`; `device[vector]` is a snapshot of a vector as it stands now."""

    def __init__(self, client: SyncClient, name: str) -> None:
        self.name = name
        self._client = client

    def snapshot(self) -> SnapDevice:
        """The device as it stands now."""
        device: SnapDevice = self._client.snapshot()[self.name]
        return device

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
        """Send a command, see `SyncClient.set`."""
        return self._client.set(self.name, vector, members, **keywords)

    def expose(
        self,
        seconds: float,
        *,
        vector: str = "CCD1",
        exposure: str = "CCD_EXPOSURE",
        timeout: float = COMMAND_TIMEOUT,
    ) -> Frame:
        """Take one exposure, see `IPyClient.expose`."""
        return self._client.expose(self.name, seconds, vector=vector, exposure=exposure, timeout=timeout)
