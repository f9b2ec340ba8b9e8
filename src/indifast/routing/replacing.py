"""Which waiting frames a newer one of the same property may take the place of."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain, count
from operator import attrgetter

from indifast.protocol.message import Routable
from indifast.routing.frames import Frame, Order

_MAX_SETS = 64  # combinations of members with content, per property, that newer frames are compared with
_MIN_BOOKS = 64  # properties per peer about which books are kept although nothing of them waits

EPOCH_ENDS = frozenset({"setBLOBVector", "defBLOBVector", "delProperty"})
"""What waiting BLOBs may not be moved behind, when it comes without content."""


class Replaceable:
    """The waiting frames of one property that a newer one may replace."""

    __slots__ = ("count", "epoch", "kept_in_place", "sets")

    def __init__(self) -> None:
        self.sets: dict[frozenset[str], Order] = {}
        """By the members that they have content for, oldest first."""
        self.kept_in_place: Frame | None = None
        """It stays: it was put off before, and what waits behind it must stay behind it."""
        self.epoch = 0
        """Grows whenever something else about the property comes. A frame of an earlier epoch has that behind it."""
        self.count = 0

    def add(self, frame: Frame, members: frozenset[str], age: int) -> None:
        """One more. Of members in ever new combinations a few are kept apart; frames of others are not replaced."""
        alike = self.sets.get(members)
        if alike is None:
            if len(self.sets) >= _MAX_SETS:
                self.sets = {key: frames for key, frames in self.sets.items() if frames}
                if len(self.sets) >= _MAX_SETS:
                    return
            alike = self.sets[members] = OrderedDict()
        alike[frame] = None
        frame.replaceable, frame.alike, frame.epoch, frame.age = self, alike, self.epoch, age
        self.count += 1

    def remove(self, frame: Frame) -> None:
        """It waits no more."""
        frame.alike.pop(frame, None)  # it may be kept in place, or stand aside
        if self.kept_in_place is frame:
            self.kept_in_place = None
        frame.replaceable = None
        self.count -= 1

    def followed(self, frame: Frame) -> bool:
        """Something else about the property waits behind this frame."""
        return frame.epoch != self.epoch

    def keep_in_place(self, frame: Frame) -> None:
        """Newer frames replace this one no more."""
        self.kept_in_place = frame
        del frame.alike[frame]

    def covered(self, members: frozenset[str]) -> list[Frame]:
        """Those that have content for no other members than these, oldest first."""
        sets = [frames for key, frames in self.sets.items() if frames and key <= members]
        if len(sets) == 1:
            return list(sets[0])
        return sorted(chain.from_iterable(sets), key=attrgetter("age"))


class Replacements:
    """The books about all properties of which frames wait in one queue."""

    def __init__(self) -> None:
        self.known: dict[str | None, dict[str | None, Replaceable]] = {}
        """By device and name."""
        self._ages = count()
        self._new = 0  # since those that are needed no more were last sorted out
        self._kept = _MIN_BOOKS  # so many come before that is done again

    def of(self, message: Routable) -> Replaceable | None:
        """What is known of the property of a message."""
        names = self.known.get(message.device)
        return None if names is None else names.get(message.name)

    def add(self, frame: Frame, message: Routable) -> None:
        """Newer frames may replace this one, which carries that message."""
        replaceable = self.of(message) or self._begin(message.device, message.name)
        replaceable.add(frame, message.carried, next(self._ages))

    def end_epoch(self, message: Routable) -> None:
        """Something about a property follows its waiting frames, so none may come to stand in their place later.

        A definition or deletion ends replacement altogether: what comes after it is another property.
        """
        names = self.known.get(message.device)
        if names is None:
            return
        if message.tag == "setBLOBVector":
            current = names.get(message.name)
            if current is not None:
                current.epoch += 1
        elif message.name is None:
            del self.known[message.device]
        else:
            names.pop(message.name, None)

    def _begin(self, device: str | None, name: str | None) -> Replaceable:
        """The books about a property of which none are kept. Of those of which nothing waits some are kept as well, as
        mostly one frame comes after the other has gone."""
        if self._new >= self._kept:
            self.known = {
                key: waiting
                for key, names in self.known.items()
                if (waiting := {name: current for name, current in names.items() if current.count})
            }
            self._new, self._kept = 0, _MIN_BOOKS + sum(map(len, self.known.values()))
        self._new += 1
        current = self.known.setdefault(device, {})[name] = Replaceable()
        return current

    def clear(self) -> None:
        """Nothing waits any more."""
        self.known.clear()
