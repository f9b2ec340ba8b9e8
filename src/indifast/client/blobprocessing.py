"""Background jobs that save and inflate BLOBs, and the messages that wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

from indifast.client.blobsaver import InflateError, inflate, save
from indifast.client.events import setBLOBVector
from indifast.client.formats import format_of
from indifast.client.notifier import Notifier
from indifast.client.settings import Given
from indifast.protocol.escape import for_log
from indifast.protocol.message import Routable

MOST_BLOBS = 4
"""BLOB messages that may be processed, or wait for another one of the same vector, before receiving pauses."""
MOST_MESSAGES = 1000
"""Messages of all kinds that may wait for a BLOB of their vector before receiving pauses."""

_Key = tuple[str | None, str | None]


class BlobProcessing:
    """Runs at most one job per vector at a time.

    Messages about a vector with a job wait for the job; all other messages are handled in the meantime.
    """

    def __init__(self, settings: Given, notifier: Notifier, wake: Callable[[], None]) -> None:
        self._settings = settings
        self._notifier = notifier
        self._wake = wake
        self.running: dict[_Key, deque[Routable]] = {}
        """Vectors that have a job, with the messages waiting for it."""
        self.finished: deque[tuple[setBLOBVector, list[str]]] = deque()
        """Jobs that are done but not yet taken: the event, and a description of each fault."""
        self._waiting = 0
        self._blobs = 0
        self._barrier = False
        self._epoch = 0

    def full(self) -> bool:
        """Return whether no more messages should be taken until a job is done."""
        return self._barrier or self._blobs >= MOST_BLOBS or self._waiting >= MOST_MESSAGES

    def needed(self, event: setBLOBVector) -> bool:
        """Return whether there is anything to save or inflate."""
        forms = event.sizeformat.values()
        return bool(event.data) and (
            self._settings.BLOBfolder is not None
            or (self._settings.inflate_blobs and any(format_of(form).packing == ".z" for _, form in forms))
        )

    def start(self, event: setBLOBVector) -> None:
        """Save and inflate the BLOBs of an event in a thread."""
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
        """Put a message aside if it must wait for a job.

        Returns:
            True if the message was put aside. The deletion of a whole device goes back to the head of `messages`.
        """
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
        """Take a finished job; the messages that waited for it move to the head of `messages`.

        Returns:
            The event, and a description of each fault.
        """
        event, faults = self.finished.popleft()
        waiting = self.running.pop((event.devicename, event.vectorname))
        messages.extendleft(reversed(waiting))
        self._waiting -= len(waiting)
        self._blobs -= 1 + sum(message.tag == "setBLOBVector" for message in waiting)
        self._barrier = False
        return event, faults

    def clear(self) -> None:
        """Forget all jobs, because the connection is gone. Files being written are still completed."""
        self._epoch += 1
        self.running.clear()
        self.finished.clear()
        self._waiting = self._blobs = 0
        self._barrier = False


def _work(event: setBLOBVector, folder: Path | None, inflating: bool, limit: int) -> list[str]:
    """Inflate and save the BLOBs of an event that nothing else uses yet; return a description of each fault."""
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
