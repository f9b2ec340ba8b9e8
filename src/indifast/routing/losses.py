"""How a queue gives up what waits in it, whatever the rules by which it chooses."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

from indifast.protocol.message import Routable
from indifast.routing.bytequeue import ByteQueue
from indifast.routing.frames import Frame, Order, Property
from indifast.routing.queuelistener import NOBODY, Loss, QueueListener

_MAX_COUNTED = 5000  # properties per peer for which losses are counted one by one
_MAX_GAPS = 32  # empty slots that may stay however little waits


def count(counter: Counter[Property], key: Property) -> None:
    """One more; those of properties beyond the first thousands together, as a peer may invent names without end."""
    counter[key if key in counter or len(counter) < _MAX_COUNTED else (None, None)] += 1


class LossyQueue(ByteQueue):
    """A queue some of whose messages may be given up; each is counted and the listener told.

    What is given up leaves an empty slot in the order of messages: nothing has to be searched or moved for it.
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
        """Messages that were dropped because too much waited, by property."""
        self.replaced: Counter[Property] = Counter()
        """Messages that a newer one took the place of, by property."""
        self._droppable: Order = OrderedDict()  # the unstarted frames that may be given up

    def _oldest(self) -> Frame | None:
        """The oldest frame that may be given up now."""
        while self._droppable:
            frame = next(iter(self._droppable))
            if not frame.offered:
                return frame
            self._offer.set_aside(self._droppable, frame)
        return None

    def _give_up(self, frame: Frame, how: Loss) -> Routable:
        """The message of a waiting frame, which goes; its slot stays, empty."""
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
        """Count a message that is given up, and tell."""
        count(self.dropped if how == "dropped" else self.replaced, (message.device, message.name))
        self.listener.on_lost(message, how)

    def _trim(self) -> None:
        """Remove the empty slots before they become many: who reads nothing would keep them."""
        if self._gaps > _MAX_GAPS and 3 * self._gaps > len(self._items):
            self._items = deque(
                [item for item in self._items if not (isinstance(item, Frame) and item.message is None)]
            )
            self._gaps = 0

    def _forget_all(self) -> None:
        self._droppable.clear()
        super()._forget_all()
