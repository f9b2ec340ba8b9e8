"""A client's connections, one after the other: connecting, serving, and connecting again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from indifast.client import events
from indifast.client.blobrequests import BlobRequests
from indifast.client.connection import Connection
from indifast.client.keepalive import KeepAlive
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.model import Model
from indifast.client.notifier import Notifier
from indifast.client.receiver import Receiver
from indifast.client.settings import Given, Program
from indifast.client.timeouts import Timeouts
from indifast.client.watchers import Watchers
from indifast.compression import check_choice
from indifast.protocol.backoff import pause_after, varied
from indifast.transport.stream import Stream

logger = logging.getLogger("indifast.client.ipyclient")


class Session:
    """Connects to the server, again and again until the client is told to stop."""

    def __init__(
        self,
        settings: Given,
        program: Program,
        lifecycle: Lifecycle,
        link: Link,
        model: Model,
        notifier: Notifier,
        watchers: Watchers,
        receiver: Receiver,
        keepalive: KeepAlive,
        timeouts: Timeouts,
        blob_requests: BlobRequests,
        counts: Counter[str],
    ) -> None:
        self._settings = settings
        self._program = program
        self._lifecycle = lifecycle
        self._link = link
        self._model = model
        self._notifier = notifier
        self._watchers = watchers
        self._receiver = receiver
        self._keepalive = keepalive
        self._timeouts = timeouts
        self._blob_requests = blob_requests
        self._counts = counts
        self._had_contents = False  # BLOBs with content were among the devices of the last connection

    async def run(self) -> None:
        """Connect, serve the connection, and connect again.

        Raises:
            OSError: An attempt failed or a connection ended, and the client is not to reconnect.
            ValueError: `compress` is no word that it may be.
            ImportError: `compress` is a method that is not installed.
        """
        settings, lifecycle = self._settings, self._lifecycle
        check_choice(settings.compress)
        failures = 0
        while not lifecycle.stopping:
            where = f"{settings.indihost}:{settings.indiport}"
            self._link.reset()
            await self._program.warning(f"Attempting to connect to {where}")
            try:
                stream = await self._unless_stopped(self._program._indifast_open_stream())
            except OSError as error:
                failure, reason = error, str(error)
            except Exception as error:
                logger.exception("%s: the attempt to connect failed", where)
                reason = f"{type(error).__name__}: {error}"
                failure = ConnectionError(reason)
            else:
                if stream is None:
                    return
                began = time.monotonic()
                reason, cause = await self._serve(stream, where)
                failure = ConnectionError(f"the connection to {where} has ended: {reason}")
                failure.__cause__ = cause
                if time.monotonic() - began > settings.retry_max:
                    failures = 0
            if self._stopping:
                return
            if not settings.reconnect:
                raise failure
            self._link.failure = reason
            self._free_contents()
            failures += 1
            delay = retry_delay(settings, failures)
            await self._program.warning(f"Connection to {where} failed ({reason}), trying again in {delay:.1f} s")
            await lifecycle.pause(delay)

    @property
    def _stopping(self) -> bool:
        return self._lifecycle.stopping

    async def _unless_stopped(self, work: Coroutine[Any, Any, Stream]) -> Stream | None:
        """Return the result of `work`, or None if the client is told to stop first."""
        task = asyncio.get_running_loop().create_task(work)
        stop = asyncio.get_running_loop().create_task(self._lifecycle.stop_asked())
        taken = False
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            taken = task.done()
            return task.result() if taken else None
        finally:
            stop.cancel()
            if not taken:
                task.cancel()
                task.add_done_callback(_discard)  # the stream may have been opened just before the cancellation

    async def _serve(self, stream: Stream, where: str) -> tuple[str, Exception | None]:
        """Serve one connection from its beginning to its end. Return why it ended, and the error if there was one."""
        link, receiver, counts = self._link, self._receiver, self._counts
        settings = self._settings
        connection = Connection(
            stream,
            settings.limits,
            link.heard,
            receiver.skipped,
            receiver.refused,
            raw_frames=settings.raw_frames,
            compress=settings.compress,
            on_agreed=lambda: counts.update(agreed=1),
        )
        self._model.clear()
        link.connection = connection
        link.connected = True
        counts["connections"] += 1
        try:
            await self._program.warning(f"Connected to {where}")
            await self._notifier.tell(events.ConnectionMade())
            connection.start()
            await self._keepalive.ask_definitions()
            await receiver.pump(connection)
            self._clear_parts()
            await self._program.warning(f"Connection to {where} closed")
            await self._notifier.tell(events.ConnectionLost())
        except asyncio.CancelledError:
            if not self._stopping:  # the program has cancelled `asyncrun`
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(settings.grace):
                        await self._notifier.tell(events.ConnectionLost())
            raise
        finally:
            self._clear_parts()
            connection.close(settings.grace)
            link.connection = None
            counts["received"] += connection.received
            counts["received_bytes"] += connection.received_bytes
            link.connected = False
            self._had_contents = self._model.has_contents()
            self._model.clear()
            self._watchers.notify(None)
            try:
                await connection.ended()
            finally:
                if unsent := connection.queue.messages:
                    counts["not_sent"] += unsent
                    why = connection.error or "the client was to end"
                    logger.warning("%s: %d messages were queued but not sent: %s", where, unsent, why)
        return connection.reason, connection.error

    def _free_contents(self) -> None:
        """Free the BLOBs of the connection that has ended, unless the program still holds their vectors.

        A device and its vectors refer to each other. Without this, they would stay until the collector next looks at
        its oldest generation, which may take minutes, with the memory and the descriptors of the last frames.
        """
        if self._had_contents:
            self._had_contents = False
            gc.collect()

    def _clear_parts(self) -> None:
        """Stop everything that belongs to the connection."""
        self._keepalive.clear()
        self._timeouts.clear()
        self._blob_requests.clear()
        self._receiver.processing.clear()
        self._lifecycle.cancel_tasks()


def retry_delay(settings: Given, failures: int) -> float:
    """Return the seconds until the next attempt, after `failures` consecutive failed ones."""
    return varied(pause_after(failures, settings.retry_min, settings.retry_max))


def _discard(task: asyncio.Task[Stream]) -> None:
    """Close a stream that is not needed any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()
