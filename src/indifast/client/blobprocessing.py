"""BLOBs that are being saved or inflated, and what has to wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

from indifast.client.blobsaver import InflateError, inflate, save
from indifast.client.events import setBLOBVector
from indifast.client.formats import format_of
from indifast.client.notifier import Notifier
from indifast.client.settings import Settings
from indifast.protocol.escape import for_log
from indifast.protocol.message import Routable

MOST_BLOBS = 4
"""BLOB messages being worked on or waiting for another of their vector before no more is taken from the server."""
MOST_MESSAGES = 1000
"""Messages of all kinds that wait for a BLOB of their vector."""

_Key = tuple[str | None, str | None]


class BlobProcessing:
    """At most one job per vector at a time; what comes for the same vector meanwhile waits, all else goes on."""

    def __init__(self, settings: Settings, notifier: Notifier, wake: Callable[[], None]) -> None:
        self._settings = settings
        self._notifier = notifier
        self._wake = wake
        self.running: dict[_Key, deque[Routable]] = {}
        """The vectors with a job, and the messages that wait for it."""
        self.finished: deque[tuple[setBLOBVector, list[str]]] = deque()
        """What is done and not yet taken: the event, and what went wrong."""
        self._waiting = 0
        self._blobs = 0
        self._barrier = False
        self._epoch = 0

    def full(self) -> bool:
        """No more messages should be taken before a job is done."""
        return self._barrier or self._blobs >= MOST_BLOBS or self._waiting >= MOST_MESSAGES

    def needed(self, event: setBLOBVector) -> bool:
        """Whether there is anything to save or to inflate."""
        forms = event.sizeformat.values()
        return bool(event.data) and (
            self._settings.BLOBfolder is not None
            or (self._settings.inflate_blobs and any(format_of(form).packing == ".z" for _, form in forms))
        )

    def start(self, event: setBLOBVector) -> None:
        """Save and inflate, in a thread."""
        self.running[event.devicename, event.vectorname] = deque()
        self._blobs += 1
        settings, loop = self._settings, asyncio.get_running_loop()
        folder = None if settings.BLOBfolder is None else Path(settings.BLOBfolder)
        future = loop.run_in_executor(None, _work, event, folder, settings.inflate_blobs, settings.limits.blob)
        epoch = self._epoch
        future.add_done_callback(lambda done: self._done(event, done, epoch))

    def _done(self, event: setBLOBVector, future: asyncio.Future[list[str]], epoch: int) -> None:
        if epoch != self._epoch or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._notifier.log_fault(error, "a BLOB of %s could not be handled", for_log(event.vectorname))
        self.finished.append((event, [str(error)] if error else future.result()))
        self._wake()

    def defer(self, message: Routable, messages: deque[Routable]) -> bool:
        """True if a message must wait for a job; it has been put aside."""
        waiting = self.running.get((message.device, message.name))
        if waiting is not None:
            waiting.append(message)
            self._waiting += 1
            self._blobs += message.tag == "setBLOBVector"
            return True
        whole_device = message.tag == "delProperty" and message.name is None
        if whole_device and any(key[0] == message.device for key in self.running):
            self._barrier = True
            messages.appendleft(message)
            return True
        return False

    def take(self, messages: deque[Routable]) -> tuple[setBLOBVector, list[str]]:
        """The event of a finished job, and what went wrong; what waited for it comes next."""
        event, faults = self.finished.popleft()
        waiting = self.running.pop((event.devicename, event.vectorname))
        messages.extendleft(reversed(waiting))
        self._waiting -= len(waiting)
        self._blobs -= 1 + sum(message.tag == "setBLOBVector" for message in waiting)
        self._barrier = False
        return event, faults

    def clear(self) -> None:
        """Forget everything: the connection is gone. Files being written are still finished."""
        self._epoch += 1
        self.running.clear()
        self.finished.clear()
        self._waiting = self._blobs = 0
        self._barrier = False


def _work(event: setBLOBVector, folder: Path | None, inflating: bool, limit: int) -> list[str]:
    """Inflate and save the BLOBs of an event, which nobody else sees yet; returns what went wrong."""
    faults = []
    for name, (size, form) in list(event.sizeformat.items()):
        if inflating and format_of(form).packing == ".z":
            try:
                event.data[name] = inflate(event.data[name], size, limit)
                form = form.strip()[: -len(".z")]
                event.sizeformat[name] = (size, form)
            except InflateError as error:
                faults.append(f"the BLOB {for_log(name)} cannot be inflated: {error}")
        if folder is not None:
            try:
                event._filenames[name] = save(folder, name, event.timestamp, form, event.data[name])
            except OSError as error:
                faults.append(f"the BLOB {for_log(name)} cannot be saved: {error}")
    return faults
