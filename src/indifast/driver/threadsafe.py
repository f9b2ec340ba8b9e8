"""Updates that other threads hand to a vector: camera call-backs, reading loops of instruments."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from indifast.driver.propertymembers import buffer_of

if TYPE_CHECKING:
    from indifast.driver.propertyvectors import PropertyVector
    from indifast.driver.runtime import Runtime

_Update = tuple[dict[str, Any], Mapping[str, Any]]


class FrameQueue:
    """The updates that wait for the event loop to send them, oldest first.

    `put` is for any thread; everything else happens on the event loop.
    """

    def __init__(self, vector: PropertyVector) -> None:
        self._vector = vector
        self._lock = threading.Lock()
        self._waiting: deque[_Update] = deque()
        self._draining = False
        self._session: object = None

    def put(self, values: dict[str, Any], options: Mapping[str, Any], block: bool, limit: int) -> bool:
        """Queue an update, or with `block` send it and wait; see `PropertyVector.send_threadsafe`."""
        runtime = self._vector.driver._runtime if self._vector.driver else None
        loop = runtime.loop if runtime else None
        if runtime is None or loop is None:
            return False
        if block:
            if threading.get_ident() == runtime.thread:
                raise RuntimeError("send_threadsafe(block=True) was called in the event loop's own thread")
            return self._send_and_wait(runtime, loop, values, options)
        if self._vector.kind == "BLOB" and values:
            if not runtime.wanted(self._vector):
                runtime.count("blobs_not_wanted")
                return True
            values = {name: _own(value) for name, value in values.items()}
        session = runtime.session
        with self._lock:
            if self._session is not session:  # the driver was stopped meanwhile: what waited then is out of date
                self._waiting.clear()
                self._session, self._draining = session, False
            replaced = len(self._waiting) >= max(limit, 1)
            if replaced:
                self._waiting.popleft()
            self._waiting.append((values, options))
            start = not self._draining
            self._draining = True
        if replaced:
            runtime.count("frames_replaced")
        if start:
            try:
                loop.call_soon_threadsafe(self._start_drain)
            except RuntimeError:  # the loop has been closed meanwhile
                return False
        return not replaced

    def _send_and_wait(
        self, runtime: Runtime, loop: asyncio.AbstractEventLoop, values: dict[str, Any], options: Mapping[str, Any]
    ) -> bool:
        sending = self._vector._send_values(values, options)
        try:
            future = asyncio.run_coroutine_threadsafe(sending, loop)
        except RuntimeError:  # the loop has been closed meanwhile
            sending.close()
            return False
        runtime.waiting_threads.add(future)
        future.add_done_callback(runtime.waiting_threads.discard)
        if runtime.loop is not loop:  # stopped before it could see that this thread waits
            future.cancel()
        try:
            future.result()
        except CancelledError:
            return False
        return True

    def _start_drain(self) -> None:
        assert self._vector.driver is not None
        self._vector.driver._runtime.start(self._drain(), self._what())

    def _what(self) -> str:
        return f"sending from a thread for {self._vector._where()}"

    async def _drain(self) -> None:
        assert self._vector.driver is not None
        try:
            while (update := self._next()) is not None:
                values, options = update
                try:
                    await self._vector._send_values(values, options)
                except Exception as error:
                    self._vector.driver._runtime.user_fault(error, self._what(), self._vector.devicename)
        except BaseException:
            self._draining = False
            raise

    def _next(self) -> _Update | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._draining = False
            return None


def _own(value: Any) -> Any:
    """The value, in memory that nobody else writes to."""
    if isinstance(value, bytes):
        return value
    view = buffer_of(value)
    return value if view is None else view.tobytes()
