"""Queue for updates from other threads, such as camera callbacks and loops that read instruments."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from indifast.driver.propertymembers import buffer_of

if TYPE_CHECKING:
    from indifast.driver.port import ThreadPort

_Update = tuple[dict[str, Any], Mapping[str, Any]]

Send = Callable[[Mapping[str, Any], Mapping[str, Any]], Coroutine[Any, Any, None]]
"""Sends values with the options of `send_threadsafe`."""


class FrameQueue:
    """Updates waiting for the event loop to send them, oldest first.

    `put` may be called from any thread; everything else happens on the event loop.
    """

    def __init__(self, send: Send, where: Callable[[], str]) -> None:
        """Use `send` to send an update, and `where` to name the vector in messages."""
        self._send = send
        self._where = where
        self._clear()

    def _clear(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Update] = deque()
        self._draining = False
        self._run: object = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the vector needs; updates that wait are not part of it."""
        return {"_send": self._send, "_where": self._where}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()

    def put(
        self,
        port: ThreadPort,
        devicename: str,
        values: dict[str, Any],
        options: Mapping[str, Any],
        *,
        block: bool,
        limit: int,
        blobs_of: str | None,
    ) -> bool:
        """Queue an update or, with `block`, send it and wait; see `PropertyVector.send_threadsafe`.

        If the values are BLOBs, `blobs_of` is the name of the property; BLOBs are copied unless nobody wants them.
        """
        run = port.run
        if run is None:
            return False
        if block:
            return port.wait_for(lambda: self._send(values, options))
        if blobs_of is not None and values:
            if not port.wanted(devicename, blobs_of):
                port.count("blobs_not_wanted")
                return True
            values = {name: _own(value) for name, value in values.items()}
        with self._lock:
            if self._run is not run:  # this is a new run of the driver: updates from the last one are out of date
                self._waiting.clear()
                self._run, self._draining = run, False
            replaced = len(self._waiting) >= max(limit, 1)
            if replaced:
                self._waiting.popleft()
            self._waiting.append((values, options))
            start = not self._draining
            self._draining = True
        if replaced:
            port.count("frames_replaced")
        if start and not port.call(partial(self._start_drain, port, devicename)):
            return False
        return not replaced

    def _start_drain(self, port: ThreadPort, devicename: str) -> None:
        port.start(self._drain(port, devicename), self._what())

    def _what(self) -> str:
        return f"sending from a thread for {self._where()}"

    async def _drain(self, port: ThreadPort, devicename: str) -> None:
        try:
            while (update := self._next()) is not None:
                values, options = update
                try:
                    await self._send(values, options)
                except Exception as error:
                    port.user_fault(error, self._what(), devicename)
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
    """Return the value in memory that nobody else writes to."""
    if isinstance(value, bytes):
        return value
    view = buffer_of(value)
    return value if view is None else view.tobytes()
