"""Asynchronous iterators over what a client receives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from indifast.client.lifecycle import Lifecycle
from indifast.client.watchers import PingReply, Watcher, Watchers

_Item = TypeVar("_Item")


class Queue(Protocol[_Item]):
    """The part of a deque that a stream needs."""

    def append(self, item: _Item, /) -> None: ...

    def popleft(self) -> _Item: ...

    def clear(self) -> None: ...

    def __len__(self) -> int: ...


class Stream(Watcher, AsyncIterator[_Item]):
    """Base class of streams: items wait in order to be taken. A stream ends when the client stops."""

    def __init__(self, watchers: Watchers, lifecycle: Lifecycle) -> None:
        self._watchers = watchers
        self._lifecycle = lifecycle
        self._waiting: Queue[_Item] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._open = True

    def _wake(self) -> None:
        """Let the task in `_arrival` check again what there is to take."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_with_client(self) -> None:
        """End the stream if the client is stopping; called when the connection has ended."""
        if self._lifecycle.stopping:
            self._open = False
            self._wake()

    async def _arrival(self) -> None:
        """Wait until there is an item to take.

        Only one task may wait, as with asynchronous generators: it would be unclear which of two tasks gets an item,
        and a forgotten one would take an item away.

        Raises:
            StopAsyncIteration: No more items will come.
            RuntimeError: Another task is already waiting.
        """
        if self._waiter is not None:
            raise RuntimeError("another task is already waiting for the next item of this stream: only one may")
        while not self._waiting:
            if not self._open or self._lifecycle.stopped.is_set():
                self.close()
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Stop taking items."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Stop taking items, as `close` does; for `contextlib.aclosing`."""
        self.close()


class EventStream(Stream[Any]):
    """Events as an asynchronous iterator that starts when it is created.

    Events are filtered by device name, vector name and event class (one, or a tuple of them). The iterator ends when
    the client stops. While `queue` events wait to be taken, receiving pauses, unless a task waits for an answer.
    """

    def __init__(
        self,
        watchers: Watchers,
        lifecycle: Lifecycle,
        device: str | None,
        vector: str | None,
        types: type | tuple[type, ...] | None,
        queue: int,
    ) -> None:
        super().__init__(watchers, lifecycle)
        self._device = device
        self._vector = vector
        self._types = types
        self._most = queue
        watchers.attach(self)

    @property
    def holding(self) -> bool:  # type: ignore[override]
        """Whether so many events wait that receiving should pause."""
        return len(self._waiting) >= self._most

    def notify(self, event: Any) -> None:
        if event is None:
            self._end_with_client()
            return
        if isinstance(event, PingReply) or (self._types is not None and not isinstance(event, self._types)):
            return
        if (self._device is None or event.devicename == self._device) and (
            self._vector is None or event.vectorname == self._vector
        ):
            self._waiting.append(event)
            self._wake()

    async def __anext__(self) -> Any:
        await self._arrival()
        held = self.holding
        event = self._waiting.popleft()
        if held:
            self._watchers.wake()
        return event

    def close(self) -> None:
        """Stop taking events."""
        self._open = False
        self._waiting.clear()
        self._watchers.detach(self)
        self._watchers.wake()
        self._wake()
