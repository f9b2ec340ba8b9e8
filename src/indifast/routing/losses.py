"""Queues that give up some of what waits in them, whatever the rules by which they choose."""

from __future__ import annotations

from collections import Counter, OrderedDict

from indifast.protocol.message import Routable
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.frames import Frame, Order, Property
from indifast.routing.queuelistener import NOBODY, Loss, QueueListener

_MAX_COUNTED = 5000  # properties per peer whose losses are counted separately
_MAX_GAPS = 32  # empty slots that may stay however short the queue is


def count(counter: Counter[Property], key: Property) -> None:
    """Count one message of a property.

    Properties beyond the first few thousand share one count, because a peer may invent any number of names.
    """
    counter[key if key in counter or len(counter) < _MAX_COUNTED else (None, None)] += 1


class LossyQueue(ByteQueue):
    """A queue that may give up some of its messages. Each loss is counted and reported to the listener.

    A message that is given up leaves an empty slot in the order of messages, so nothing has to be searched or moved.
    """

    def __init__(
        self,
        *,
        attached: bool = False,
        terminator: bytes = b"",
        full_at: int | None = None,
        listener: QueueListener = NOBODY,
    ) -> None:
        super().__init__(attached=attached, terminator=terminator, full_at=full_at, listener=listener)
        self.dropped: Counter[Property] = Counter()
        """Messages dropped because too much waited, by property."""
        self.replaced: Counter[Property] = Counter()
        """Messages replaced by newer ones, by property."""
        self._droppable: Order = OrderedDict()  # the unstarted frames that may be given up

    def _oldest(self) -> Frame | None:
        """Return the oldest frame that may be given up now; None if there is none."""
        while self._droppable:
            frame = next(iter(self._droppable))
            if not frame.offered:
                return frame
            self._offer.set_aside(self._droppable, frame)
        return None

    def _give_up(self, frame: Frame, how: Loss) -> Routable:
        """Give up the message of a waiting frame, and return that message. The slot stays, empty."""
        message = frame.message
        assert message is not None
        del self._droppable[frame]
        self._leave(frame)
        self.queued -= frame.size
        self.messages -= 1
        frame.empty()
        self._gaps += 1
        self._lost(message, how)
        return message

    def _lost(self, message: Routable, how: Loss) -> None:
        """Count a message that is given up, and report it to the listener."""
        count(self.dropped if how == "dropped" else self.replaced, (message.device, message.name))
        self.listener.on_lost(message, how)

    def _trim(self) -> None:
        """Remove the empty slots before they become many: while a peer reads nothing, nothing else removes them."""
        if self._gaps > _MAX_GAPS and 3 * self._gaps > len(self._items):
            self._close_up()

    def _forget_all(self) -> None:
        self._droppable.clear()
        super()._forget_all()
