"""Outgoing queue for drivers, and what it gives up when they read slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from indifast.protocol import wire
from indifast.protocol.message import Routable
from indifast.protocol.vocabulary import DEF_VECTORS, SET_VECTORS
from indifast.routing.frames import Frame, compact
from indifast.routing.losses import LossyQueue
from indifast.routing.queuelistener import NOBODY, QueueListener

_COMPACT = 256 << 10  # waiting bytes beyond which further messages without content are kept as serialized bytes
_MAX_URGENT = 1000  # answers to pings that may wait for a driver

_DELETION = "delProperty"

_Kinds: TypeAlias = dict[tuple[str, str | None], Frame]
"""Frames of one device, by tag and name."""


class Newest:
    """The newest waiting message of each kind (tag, device, name), which may be replaced."""

    def __init__(self) -> None:
        self._devices: dict[str | None, _Kinds] = {}

    def get(self, message: Routable) -> Frame | None:
        """Return the waiting frame of the same kind as a message; None if there is none."""
        kinds = self._devices.get(message.device)
        return None if kinds is None else kinds.get((message.tag, message.name))

    def put(self, message: Routable, frame: Frame) -> None:
        """Make this message the newest of its kind."""
        self._devices.setdefault(message.device, {})[(message.tag, message.name)] = frame

    def remove(self, message: Routable, frame: Frame) -> None:
        """Remove a message that no longer waits."""
        kinds = self._devices.get(message.device)
        key = (message.tag, message.name)
        if kinds is not None and kinds.get(key) is frame:
            del kinds[key]
            if not kinds:
                del self._devices[message.device]

    def has_sets(self, message: Routable) -> bool:
        """Return whether an update of the property waits: a newer definition must not move ahead of it."""
        kinds = self._devices.get(message.device, {})
        return any((tag, message.name) in kinds for tag in SET_VECTORS)

    def end(self, device: str | None, name: str | None) -> None:
        """Stop replacing what waits about a property, or about a whole device if `name` is None."""
        kinds = self._devices.get(device)
        if kinds is None:
            return
        if name is not None:
            for tag in (*DEF_VECTORS, *SET_VECTORS, _DELETION):
                kinds.pop((tag, name), None)
            kinds.pop((_DELETION, None), None)
        else:
            kinds.clear()
        if not kinds:
            del self._devices[device]

    def end_deletions(self, device: str | None, name: str | None) -> None:
        """Stop replacing waiting deletions, because something about the property follows them."""
        kinds = self._devices.get(device)
        if kinds is not None:
            kinds.pop((_DELETION, name), None)
            kinds.pop((_DELETION, None), None)
            if not kinds:
                del self._devices[device]

    def clear(self) -> None:
        """Forget all messages."""
        self._devices.clear()


class DriverOutbox(LossyQueue):
    """Messages to a driver. Commands always fit; their senders are asked to wait while the queue is `full`.

    Messages about other drivers' devices give way instead: while the queue is full, a newer update of a property
    replaces an older one that has not been started. Requests for definitions give way, too. If messages about
    properties that are each mentioned only once would fill the queue twice by themselves, the oldest are dropped.
    """

    def __init__(
        self,
        full_at: int = 16 << 20,
        *,
        attached: bool = False,
        terminator: bytes = b"\n",
        listener: QueueListener = NOBODY,
    ) -> None:
        super().__init__(attached=attached, terminator=terminator, full_at=full_at, listener=listener)
        self.snooped = 0
        """Bytes of messages that give way and have not been started, except requests, of which there are few."""
        self._max_snooped = 2 * full_at
        self._latest = Newest()
        self._requests = Newest()

    def expedite(self, message: Routable, now: float) -> None:
        """Queue the answer to a ping ahead of all that has not been started, or drop it if a thousand of them wait."""
        if len(self._urgent) >= _MAX_URGENT:
            self._lost(message, "dropped")
            return
        super().expedite(message, now)

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue a message about another driver's device, or a request for definitions.

        A request is not queued again while an equal one waits; while the queue is full, one for everything stands for
        any request. An update that replaces an older one takes its slot, so the queue does not grow, however long the
        driver reads nothing.
        """
        full = self._full_at is not None and self.queued + message.size > self._full_at
        if message.tag == "getProperties":
            self._append_request(wire.get_properties() if full and message.device is not None else message, begun)
        else:
            self._append_snooped(message, begun, full)
        if not self._notified:
            self._notify(now)

    def _append_request(self, message: Routable, begun: Callable[[], None] | None) -> None:
        older = self._requests.get(message)
        if older is None or older.offered:
            self._append_giving_way(message, begun, self._requests)

    def _append_snooped(self, message: Routable, begun: Callable[[], None] | None, full: bool) -> None:
        older = self._latest.get(message)
        defines = message.tag in DEF_VECTORS
        if older is not None and full and not older.offered and not (defines and self._latest.has_sets(message)):
            self._replace(older, message, begun)
            return
        if defines or message.tag == _DELETION:  # later messages must not move ahead of it
            self._latest.end(message.device, message.name)
        else:
            self._latest.end_deletions(message.device, message.name)
        frame = self._append_giving_way(message, begun, self._latest)
        self.snooped += frame.size
        while self.snooped > self._max_snooped and self._drop_oldest(spare=frame):
            pass
        self._trim()

    def _append_giving_way(self, message: Routable, begun: Callable[[], None] | None, newest: Newest) -> Frame:
        if not message.blob and self.queued > _COMPACT:
            message = compact(message)
        frame = Frame(message, self._form_of(message), begun)
        self._items.append(frame)
        self._enlist(frame, self._droppable if newest is self._latest else self._frames)
        newest.put(message, frame)
        self.messages += 1
        return frame

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest message that gives way; return False if there is none besides `spare`."""
        frame = self._oldest()
        if frame is None or frame is spare:
            return False
        self._give_up(frame, "dropped")
        return True

    def _replace(self, frame: Frame, message: Routable, begun: Callable[[], None] | None) -> None:
        older = frame.message
        assert older is not None
        if not message.blob:
            message = compact(message)
        more = message.size - frame.size
        self.queued += more
        self.snooped += more
        frame.fill(message, begun)
        self._lost(older, "replaced")

    def _leave(self, frame: Frame) -> None:
        message = frame.message
        assert message is not None
        if frame.order is self._droppable:
            self.snooped -= frame.size
            self._latest.remove(message, frame)
        else:
            self._requests.remove(message, frame)

    def _forget_all(self) -> None:
        self._latest.clear()
        self._requests.clear()
        self.snooped = 0
        super()._forget_all()
