"""What waits to be written to a driver, and what of it is given up when that reads slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from indifast.protocol import wire
from indifast.protocol.message import Routable
from indifast.protocol.vocabulary import DEF_VECTORS, SET_VECTORS
from indifast.routing.frames import Frame, compact
from indifast.routing.losses import LossyQueue
from indifast.routing.queuelistener import NOBODY, QueueListener

_COMPACT = 256 << 10  # bytes that wait from which on further messages without content are kept as they are written
_MAX_URGENT = 1000  # answers to pings that may wait for a driver

_Kinds: TypeAlias = dict[tuple[str, str | None], Frame]
"""Of one device, by tag and name."""


class Newest:
    """The newest message of each kind (tag, device, name) that waits and may be replaced."""

    def __init__(self) -> None:
        self._devices: dict[str | None, _Kinds] = {}

    def get(self, message: Routable) -> Frame | None:
        """The one that waits of the kind of a message."""
        kinds = self._devices.get(message.device)
        return None if kinds is None else kinds.get((message.tag, message.name))

    def put(self, message: Routable, frame: Frame) -> None:
        """This message is the newest of its kind now."""
        self._devices.setdefault(message.device, {})[(message.tag, message.name)] = frame

    def remove(self, message: Routable, frame: Frame) -> None:
        """A message waits no more."""
        kinds = self._devices.get(message.device)
        key = (message.tag, message.name)
        if kinds is not None and kinds.get(key) is frame:
            del kinds[key]
            if not kinds:
                del self._devices[message.device]

    def has_sets(self, message: Routable) -> bool:
        """An update of its property waits: a newer definition may not come to stand before that."""
        kinds = self._devices.get(message.device, {})
        return any((tag, message.name) in kinds for tag in SET_VECTORS)

    def end(self, device: str | None, name: str | None) -> None:
        """What waits about a property, or a device, is not replaced any more."""
        kinds = self._devices.get(device)
        if kinds is None:
            return
        if name is not None:
            for tag in (*DEF_VECTORS, *SET_VECTORS):
                kinds.pop((tag, name), None)
        else:
            kinds.clear()
        if not kinds:
            del self._devices[device]

    def clear(self) -> None:
        """Nothing waits any more."""
        self._devices.clear()


class DriverOutbox(LossyQueue):
    """Messages towards a driver: commands always fit, and whoever sends them is asked to wait while it is `full`.

    What a driver hears of other drivers' devices gives way instead: while the queue is full, a newer update of a
    property replaces an older one that is not begun. The same holds for requests for definitions. Of properties without
    end, of which none is heard of twice, the oldest message is dropped when they alone would fill the queue twice.
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
        """Bytes of what gives way and is not begun, but for requests: of these there are few."""
        self._most_snooped = 2 * full_at
        self._latest = Newest()
        self._requests = Newest()

    def expedite(self, message: Routable, now: float) -> None:
        """Queue the answer to a ping ahead of everything that is not begun; not while a thousand of them wait."""
        if len(self._urgent) >= _MAX_URGENT:
            self._lost(message, "dropped")
            return
        super().expedite(message, now)

    def append_replaceable(self, message: Routable, now: float, begun: Callable[[], None] | None = None) -> None:
        """Queue something about another driver's device, or a request for definitions.

        A request that waits already is as good as a second one; while the queue is full, one for everything is as good
        as one for anything. An update takes the place of the older one: what is replaced leaves nothing behind, however
        long the driver reads nothing.
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
        if defines or message.tag == "delProperty":  # what comes behind it may not take a place before it
            self._latest.end(message.device, message.name)
        frame = self._append_giving_way(message, begun, self._latest)
        self.snooped += frame.size
        while self.snooped > self._most_snooped and self._drop_oldest(spare=frame):
            pass
        self._trim()

    def _append_giving_way(self, message: Routable, begun: Callable[[], None] | None, newest: Newest) -> Frame:
        if not message.blob and self.queued > _COMPACT:
            message = compact(message)
        frame = Frame(message, begun)
        self._items.append(frame)
        self._enlist(frame, self._droppable if newest is self._latest else self._frames)
        newest.put(message, frame)
        self.messages += 1
        return frame

    def _drop_oldest(self, spare: Frame) -> bool:
        """Drop the oldest message that gives way; False when there is none but the newest."""
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
