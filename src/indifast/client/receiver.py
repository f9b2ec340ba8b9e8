"""Handling of received messages: updates the model, notifies the program, and does whatever else they ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from indifast._parser import Element
from indifast.client import events
from indifast.client.blobprocessing import BlobProcessing
from indifast.client.blobrequests import BlobRequests
from indifast.client.connection import Connection, writable
from indifast.client.keepalive import KeepAlive
from indifast.client.lifecycle import Lifecycle
from indifast.client.link import Link
from indifast.client.malloc import LARGE, give_back_large_blocks
from indifast.client.model import DEFTAGS, Model
from indifast.client.notifier import Notifier
from indifast.client.problems import Problems, described
from indifast.client.propertymembers import ParseException
from indifast.client.settings import Given, Program
from indifast.client.trace import Trace
from indifast.client.watchers import PingReply, Watchers
from indifast.protocol import wire
from indifast.protocol.escape import for_log
from indifast.protocol.message import Routable
from indifast.transport.blobs import BlobMessage

_Handler: TypeAlias = Callable[[Routable, Element], Any]


class Receiver:
    """Handles the messages of a connection in order, until the connection or the client ends."""

    def __init__(
        self,
        settings: Given,
        program: Program,
        lifecycle: Lifecycle,
        link: Link,
        model: Model,
        notifier: Notifier,
        watchers: Watchers,
        problems: Problems,
        keepalive: KeepAlive,
        blob_requests: BlobRequests,
        counts: Counter[str],
        trace: Trace,
    ) -> None:
        self.processing = BlobProcessing(settings, notifier, link.wake)
        self._settings = settings
        self._program = program
        self._lifecycle = lifecycle
        self._link = link
        self._model = model
        self._notifier = notifier
        self._watchers = watchers
        self._problems = problems
        self._keepalive = keepalive
        self._blob_requests = blob_requests
        self._counts = counts
        self._trace = trace
        self._looked_at: object = None  # an `on_raw_message` that was checked; the next is its hook, or None
        self._hook: Callable[[Routable], None] | None = None
        self._special: dict[str, _Handler] = {
            **dict.fromkeys(DEFTAGS, self._define),
            "delProperty": self._delete,
            "setBLOBVector": self._take_blobs,
            "pingRequest": self._answer_ping,
            "pingReply": self._ping_answered,
        }
        """Handlers, by tag, of messages that need more than a change of the model."""

    # -- Skipped and refused input

    def skipped(self, reason: str, nbytes: int, excerpt: bytes) -> None:
        """Count and report bytes that the tokenizer skipped because they are not a message."""
        self._counts["skipped"] += 1
        self._counts["skipped_bytes"] += nbytes
        self._notifier.complain_soon(f"{nbytes} bytes were not understood and skipped: {reason} {excerpt[:80]!r}")

    def refused(self, text: str) -> None:
        """Count and report a message that is not accepted."""
        self._counts["refused"] += 1
        self._notifier.complain_soon(text)

    # -- Main loop

    async def pump(self, connection: Connection) -> None:
        """Handle received messages one by one, until the connection or the client ends."""
        processing, complaints, lifecycle = self.processing, self._notifier.complaints, self._lifecycle
        while not lifecycle.stopping:
            if processing.finished:
                await self._take_processed(connection)
            elif complaints:
                await self._notifier.complain(complaints.popleft())
            elif processing.full():
                await connection.hold()
            elif connection.messages:
                await self._take_waiting(connection)
            elif connection.lost and not processing.running:
                return
            else:
                await connection.wait()

    async def _take_processed(self, connection: Connection) -> None:
        """Apply a BLOB update that was processed in a thread."""
        event, faults = self.processing.take(connection.messages)
        for fault in faults:
            self._counts["faults"] += 1
            await self._notifier.complain(f"{for_log(event.devicename)} {for_log(event.vectorname)}: {fault}")
        if event.data and event.vector.enable:
            self._model.update(event)
            await self._notifier.tell(event)

    async def _take_waiting(self, connection: Connection) -> None:
        """Handle the messages that wait, until something else has to be done before the next one.

        This is the receive path: unless a message needs special treatment, `rxevent` is its only coroutine.
        """
        messages, processing, complaints = connection.messages, self.processing, self._notifier.complaints
        lifecycle, watchers, program = self._lifecycle, self._watchers, self._program
        model, early, special = self._model, self._model.early, self._special
        watching = watchers.references
        tracing = self._trace.on
        while messages and not lifecycle.stopping:
            message = messages.popleft()
            if processing.running and processing.defer(message, messages):
                if processing.full():
                    return
                continue
            if program.on_raw_message is not None:
                self._show(message)
            element = message.element()
            event = None
            handler = special.get(element.tag)
            try:  # the same as `take`, without the call
                event = model.apply(element) if handler is None else handler(message, element)
            except Exception as error:
                await self._refuse(element, error)
            if event is not None:
                if watching:
                    watchers.notify(event)
                try:
                    await program.rxevent(event)
                except Exception as error:
                    self._notifier.log_fault(error, "Error in rxevent, handling %s", event.eventtype)
                event = None  # a BLOB must not outlive its event
                if early and element.tag in DEFTAGS:
                    for early_event in model.apply_early(element.device):
                        await self._notifier.tell(early_event)
                if watching:
                    await self._hold(connection)
            if tracing:
                self._trace.received(element)
            del message, element  # neither must these
            if processing.finished or complaints:
                return

    def take(self, message: Routable, element: Element) -> Any:
        """Handle a message; return its event, or None if the program need not know (yet)."""
        handler = self._special.get(element.tag)
        return self._model.apply(element) if handler is None else handler(message, element)

    async def _refuse(self, element: Element, error: Exception) -> None:
        """Report an element that cannot be applied to the model; no other element is affected."""
        if not isinstance(error, ParseException):
            self._counts["failed"] += 1
            text = "An element could not be handled: %s %s"
            self._notifier.log_fault(error, text, element.tag, for_log(element.name))
            return
        self._counts["refused"] += 1
        if not isinstance(error, events.UndefinedError):
            self._problems.is_new(element, str(error))
        await self._notifier.complain(described(element, str(error)))

    def _show(self, message: Routable) -> None:
        """Pass a message to `on_raw_message` as received, before it is handled; exceptions are logged."""
        if self._program.on_raw_message is not self._looked_at:
            self._looked_at, self._hook = self._program.on_raw_message, self._settings.on_raw_message
        if self._hook is None:  # what the program has under that name is no hook
            return
        try:
            self._hook(writable(message))
        except Exception as error:
            self._notifier.log_fault(error, "Error in on_raw_message, handling %s", message.tag)

    async def _hold(self, connection: Connection) -> None:
        """Wait while a stream is behind, unless another watcher waits for a particular event."""
        while not self._lifecycle.stopping and not connection.lost and self._watchers.holding:
            await connection.hold()

    # -- Messages that need more than a change of the model

    def _define(self, message: Routable, element: Element) -> Any:
        known = self._model.defined(element.device or "") is not None
        event = self._model.apply(element)
        if isinstance(event, events.defBLOBVector):
            self._blob_requests.defined(event)
        self._blob_requests.send_postponed()
        if not known:
            self._keepalive.devices_known()
        return event

    def _delete(self, message: Routable, element: Element) -> Any:
        event = self._model.apply(element)
        if event is not None and not self._model.any_enabled():
            self._keepalive.devices_gone()
        return event

    def _answer_ping(self, message: Routable, element: Element) -> None:
        self._link.reply(wire.ping_reply(element.attrs.get("uid", "")))

    def _ping_answered(self, message: Routable, element: Element) -> None:
        self._watchers.notify(PingReply(element.attrs.get("uid", "")))

    def _take_blobs(self, message: Routable, element: Element) -> Any:
        """Apply a BLOB update: map shared memory, and leave to a thread what takes time."""
        event = self._model.read_blobs(element)
        if event is None:
            return None
        faults = _mapped(message, event) if isinstance(message, BlobMessage) else {}
        self._model.complete(event, element, faults)
        if any(size >= LARGE for size, _ in event.sizeformat.values()) and self._settings.give_back_memory:
            give_back_large_blocks()
        if self.processing.needed(event):
            self.processing.start(event)
            return None
        self._model.update(event)
        return event


def _mapped(message: BlobMessage, event: events.setBLOBVector) -> dict[str, str]:
    """Map the shared memory of a message; return, by member, why some of it can't be read."""
    faults = {}
    for member, view in message.views():
        if not member.name:
            continue
        try:
            event.data[member.name] = view()
        except (OSError, ValueError) as error:
            name = for_log(member.name)
            faults[member.name] = f"the shared memory of the BLOB {name} can't be read: {error}: left out"
    return faults
