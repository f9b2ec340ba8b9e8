"""Client that is used through two queues, from another thread or another part of the program."""

from __future__ import annotations

import asyncio
import collections
import logging
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from indifast.client.ipyclient import IPyClient
from indifast.protocol.drivernames import PORT
from indifast.protocol.vocabulary import BLOB_POLICIES

__all__ = ["EventItem", "QueClient", "WakingDeque", "runqueclient"]

logger = logging.getLogger("indifast.client.ipyclient")

WAITING_ITEMS = 10_000
"""Items that may wait for room in the program's queue before receiving pauses."""

DEQUE_POLL = 0.02
"""Seconds between checks of a plain deque, which cannot signal that an item was added."""


Queue: TypeAlias = "queue.Queue[Any] | asyncio.Queue[Any] | collections.deque[Any]"
"""A queue from which requests are taken, or into which events are put."""


class EventItem(NamedTuple):
    """An item in the program's queue: what happened, and a snapshot of everything at that moment."""

    eventtype: str
    devicename: str | None
    vectorname: str | None
    timestamp: datetime | None
    snapshot: Any


class WakingDeque(collections.deque[Any]):
    """A deque that notifies its reader when items are added: as `txque`, it spares the client polling."""

    on_put: Callable[[], Any] | None = None

    def append(self, item: Any) -> None:
        """Add an item on the right."""
        super().append(item)
        self._put()

    def appendleft(self, item: Any) -> None:
        """Add an item on the left."""
        super().appendleft(item)
        self._put()

    def extend(self, items: Any) -> None:
        """Add items on the right."""
        super().extend(items)
        self._put()

    def _put(self) -> None:
        if self.on_put is not None:
            self.on_put()


class QueClient(IPyClient):
    """Takes requests from `txque` and puts an `EventItem` into `rxque` for every event.

    A request is None to stop, or (devicename, vectorname, value), where value is "snapshot", "Get", "Never", "Also",
    "Only", or a dictionary of member names and values to send. Each queue is a `queue.Queue`, an `asyncio.Queue` of
    the client's event loop, or a `collections.deque`. Only a plain deque of requests is polled; see `WakingDeque`.
    """

    def __init__(
        self,
        txque: Queue,
        rxque: Queue,
        indihost: str = "localhost",
        indiport: int | str = PORT,
        blobfolder: str | Path | None = None,
    ) -> None:
        super().__init__(indihost, indiport, txque=txque, rxque=rxque)
        self.BLOBfolder = blobfolder
        self._indifast_overflow: collections.deque[EventItem] = collections.deque()
        self._indifast_room: asyncio.Event | None = None
        self._indifast_drainer: asyncio.Task[None] | None = None
        self._indifast.lifecycle.on_stop.append(self._indifast_let_go)

    async def rxevent(self, event: Any) -> None:
        """Put the event into `rxque`, with a snapshot."""
        await self._indifast_put(
            EventItem(event.eventtype, event.devicename, event.vectorname, event.timestamp, self.snapshot())
        )

    async def hardware(self) -> None:
        """Serve the requests until the client stops."""
        try:
            await self._indifast_serve()
        finally:
            if self._indifast_drainer is not None:
                self._indifast_drainer.cancel()

    # -- Requests

    async def _indifast_serve(self) -> None:
        take = self._indifast_taker(self.clientdata["txque"])
        stop = asyncio.ensure_future(self._indifast.lifecycle.stop_asked())
        try:
            while not self._stop:
                request = asyncio.ensure_future(take())
                await asyncio.wait((request, stop), return_when=asyncio.FIRST_COMPLETED)
                if not request.done():
                    request.cancel()
                    await asyncio.wait((request,))
                    return
                item = request.result()
                if item is None:
                    self._indifast_note_done()
                    self.shutdown()
                    return
                try:
                    await self._indifast_handle(item)
                except Exception as error:
                    logger.error("the request %.200r failed: %s", item, error)
                finally:
                    self._indifast_note_done()
        finally:
            stop.cancel()

    async def _indifast_handle(self, item: Any) -> None:
        devicename, vectorname, value = item
        if isinstance(value, dict):
            timestamp = datetime.now(UTC)
            await self.send_newVector(devicename, vectorname, timestamp, value)
            await self._indifast_put(EventItem("State", devicename, vectorname, timestamp, self.snapshot()))
        elif value == "snapshot":
            snapshot = self._indifast_part(devicename, vectorname)
            await self._indifast_put(EventItem("snapshot", devicename, vectorname, None, snapshot))
        elif value == "Get":
            await self.send_getProperties(devicename, vectorname)
        elif value in BLOB_POLICIES:
            await self.send_enableBLOB(value, devicename, vectorname)

    def _indifast_note_done(self) -> None:
        """Let the `join` of the program's queue know that a request is done with."""
        txque = self.clientdata["txque"]
        if isinstance(txque, queue.Queue | asyncio.Queue):
            txque.task_done()

    def _indifast_part(self, devicename: str | None, vectorname: str | None) -> Any:
        if not devicename:
            return self.snapshot()
        device = self[devicename]
        return device.data[vectorname].snapshot() if vectorname else device.snapshot()

    def _indifast_taker(self, txque: Queue) -> Callable[[], Any]:
        if isinstance(txque, asyncio.Queue):
            return txque.get
        if isinstance(txque, queue.Queue):
            return _QueueReader(txque).get
        if isinstance(txque, WakingDeque):
            return _WakingReader(txque).get
        if isinstance(txque, collections.deque):
            return _PollingReader(txque).get
        raise TypeError(f"requests cannot be taken from a {type(txque).__name__}")

    # -- Events

    async def _indifast_put(self, item: EventItem) -> None:
        """Put an item into `rxque`. Items that find no room wait in order; only a long line of them stops receiving."""
        if self._indifast_overflow or not self._indifast_try_put(item):
            self._indifast_overflow.append(item)
            if self._indifast_room is None:
                self._indifast_room = asyncio.Event()
            if self._indifast_drainer is None or self._indifast_drainer.done():
                self._indifast_drainer = asyncio.get_running_loop().create_task(self._indifast_drain())
            while len(self._indifast_overflow) > WAITING_ITEMS and not self._stop:
                self._indifast_room.clear()
                await self._indifast_room.wait()

    def _indifast_try_put(self, item: EventItem) -> bool:
        rxque = self.clientdata["rxque"]
        try:
            if isinstance(rxque, (queue.Queue, asyncio.Queue)):
                rxque.put_nowait(item)
            elif isinstance(rxque, collections.deque):
                rxque.append(item)
            else:
                raise TypeError(f"events cannot be put into a {type(rxque).__name__}")
        except (queue.Full, asyncio.QueueFull):
            return False
        return True

    async def _indifast_drain(self) -> None:
        """Put the waiting items into `rxque` as room becomes available."""
        rxque = self.clientdata["rxque"]
        room = _QueueRoom(rxque).wait if isinstance(rxque, queue.Queue) else None
        while self._indifast_overflow:
            if room is not None:
                if not self._indifast_try_put(self._indifast_overflow[0]):
                    await room()
                    continue
            else:
                await rxque.put(self._indifast_overflow[0])
            self._indifast_overflow.popleft()
            if self._indifast_room is not None:
                self._indifast_room.set()

    def _indifast_let_go(self) -> None:
        """Let `_put` stop waiting for room, because the client is stopping."""
        if self._indifast_room is not None:
            self._indifast_room.set()


class _Blocking:
    """Waits for a condition in a thread that ends when the waiting task is cancelled."""

    def __init__(self, condition: threading.Condition, ready: Callable[[], bool]) -> None:
        self._condition = condition
        self._ready = ready
        self._over = False

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._over = False

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def block() -> None:
            with self._condition:
                while not self._ready() and not self._over:
                    self._condition.wait()
            if not self._over:
                loop.call_soon_threadsafe(resolve)

        threading.Thread(target=block, name="indifast queue", daemon=True).start()
        try:
            await future
        finally:
            with self._condition:
                self._over = True
                self._condition.notify_all()


class _QueueReader:
    """Takes items from a `queue.Queue`; a thread sleeps on the queue's own condition while it is empty."""

    def __init__(self, txque: queue.Queue[Any]) -> None:
        self._queue = txque
        self._blocking = _Blocking(txque.not_empty, lambda: bool(txque._qsize()))

    async def get(self) -> Any:
        while True:
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                await self._blocking.wait()


class _QueueRoom:
    """Waits for room in a `queue.Queue`."""

    def __init__(self, rxque: queue.Queue[Any]) -> None:
        self.wait = _Blocking(rxque.not_full, lambda: rxque._qsize() < rxque.maxsize).wait


class _WakingReader:
    """Takes items from a deque that signals when an item is added."""

    def __init__(self, txque: WakingDeque) -> None:
        self._queue = txque
        self._event = asyncio.Event()
        loop = asyncio.get_running_loop()
        txque.on_put = lambda: None if loop.is_closed() else loop.call_soon_threadsafe(self._event.set)

    async def get(self) -> Any:
        while not self._queue:
            self._event.clear()
            if not self._queue:
                await self._event.wait()
        return self._queue.popleft()


class _PollingReader:
    """Takes items from a plain deque by polling it."""

    def __init__(self, txque: collections.deque[Any]) -> None:
        self._queue = txque

    async def get(self) -> Any:
        while not self._queue:  # noqa: ASYNC110 - a plain deque has no signal to wait for
            await asyncio.sleep(DEQUE_POLL)
        return self._queue.popleft()


def runqueclient(
    txque: Queue,
    rxque: Queue,
    indihost: str = "localhost",
    indiport: int | str = PORT,
    blobfolder: str | Path | None = None,
) -> None:
    """Run a QueClient until it takes None from `txque`. This is meant as the target of a thread."""
    asyncio.run(QueClient(txque, rxque, indihost, indiport, blobfolder).asyncrun())
