"""What a client receives, as asynchronous iterators."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from indifast.client.lifecycle import Lifecycle
from indifast.client.watchers import PingReply, Watcher, Watchers

_Item = TypeVar("_Item")


class Queue(Protocol[_Item]):
    """As much of a deque as a stream needs."""

    def append(self, item: _Item, /) -> None: ...

    def popleft(self) -> _Item: ...

    def clear(self) -> None: ...

    def __len__(self) -> int: ...


class Stream(Watcher, AsyncIterator[_Item]):
    """What waits to be taken, one thing after the other; it ends when the client stops."""

    def __init__(self, watchers: Watchers, lifecycle: Lifecycle) -> None:
        self._watchers = watchers
        self._lifecycle = lifecycle
        self._waiting: Queue[_Item] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._open = True

    def _wake(self) -> None:
        """Look again at what waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_with_client(self) -> None:
        """The connection has ended."""
        if self._lifecycle.stopping:
            self._open = False
            self._wake()

    async def _arrival(self) -> None:
        """Return when something waits; StopAsyncIteration when nothing will any more.

        RuntimeError while another task waits here, as with asynchronous generators: of two that take turns nobody could
        say who gets what, and one that was forgotten would take something away.
        """
        if self._waiter is not None:
            raise RuntimeError("another task waits for what comes next in this stream: only one can")
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
        """Take no more."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """The same as `close`, for `contextlib.aclosing`."""
        self.close()


class EventStream(Stream[Any]):
    """Events as an asynchronous iterator, from the moment it was made.

    Filtered by device name, vector name and event class (one, or a tuple of them). It ends when the client stops. When
    `queue` events wait, no more is received until some were taken, except while somebody waits for an answer.
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
        """So many events wait that no more should be received."""
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
        """Take no more events."""
        self._open = False
        self._waiting.clear()
        self._watchers.detach(self)
        self._watchers.wake()
        self._wake()
