"""Which waiting frames a newer one of the same property may replace."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain, count
from operator import attrgetter

from indifast.protocol.message import Routable
from indifast.routing.frames import Frame, Order

_MAX_SETS = 64  # combinations of members with content, per property, that newer frames are compared with
_MIN_KEPT = 64  # properties per peer that stay known although no frame of theirs waits

EPOCH_ENDS = frozenset({"setBLOBVector", "defBLOBVector", "delProperty"})
"""Messages that waiting BLOBs must not be moved behind, if they have no content."""


class Replaceable:
    """The waiting frames of one property that a newer one may replace."""

    __slots__ = ("count", "epoch", "kept_in_place", "sets")

    def __init__(self) -> None:
        self.sets: dict[frozenset[str], Order] = {}
        """Frames by the members that they have content for, oldest first."""
        self.kept_in_place: Frame | None = None
        """A frame that stays: it was put off before, and what waits behind it must stay behind it."""
        self.epoch = 0
        """Grows whenever something else about the property is queued, behind all frames of earlier epochs."""
        self.count = 0

    def add(self, frame: Frame, members: frozenset[str], age: int) -> None:
        """Add a frame. If there are too many combinations of members, it is left out and never replaced."""
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
        """Remove a frame that no longer waits."""
        frame.alike.pop(frame, None)  # not there if it was kept in place or set aside
        if self.kept_in_place is frame:
            self.kept_in_place = None
        frame.replaceable = None
        self.count -= 1

    def follow(self) -> None:
        """Note that something else about the property is queued behind the waiting frames."""
        if self.count:
            self.epoch += 1

    def followed(self, frame: Frame) -> bool:
        """Return whether something else about the property waits behind this frame."""
        return frame.epoch != self.epoch

    def keep_in_place(self, frame: Frame) -> None:
        """Let newer frames no longer replace this one."""
        self.kept_in_place = frame
        del frame.alike[frame]

    def covered(self, members: frozenset[str]) -> list[Frame]:
        """Return the frames that have content for no members other than these, oldest first."""
        sets = [frames for key, frames in self.sets.items() if frames and key <= members]
        if len(sets) == 1:
            return list(sets[0])
        return sorted(chain.from_iterable(sets), key=attrgetter("age"))


class Replacements:
    """The waiting frames of one queue that newer ones may replace, by property."""

    def __init__(self) -> None:
        self.known: dict[str | None, dict[str | None, Replaceable]] = {}
        """By device and name."""
        self._ages = count()
        self._new = 0  # properties added since those that are no longer needed were last removed
        self._kept = _MIN_KEPT  # how many may be added before that is done again

    def of(self, message: Routable) -> Replaceable | None:
        """Return what is known of the property of a message; None if nothing is."""
        names = self.known.get(message.device)
        return None if names is None else names.get(message.name)

    def add(self, frame: Frame, message: Routable) -> None:
        """Let newer frames replace this one, which carries the message."""
        replaceable = self.of(message) or self._begin(message.device, message.name)
        replaceable.add(frame, message.carried, next(self._ages))

    def end_epoch(self, message: Routable) -> None:
        """Note that something about a property waits behind its frames, so newer frames must not take their places.

        A definition or deletion ends replacement altogether: what follows it is another property.
        """
        names = self.known.get(message.device)
        if names is None:
            return
        if message.tag == "setBLOBVector":
            current = names.get(message.name)
            if current is not None:
                current.follow()
        elif message.name is None:
            del self.known[message.device]
        else:
            names.pop(message.name, None)

    def _begin(self, device: str | None, name: str | None) -> Replaceable:
        """Start to keep track of a property.

        Some properties stay known although none of their frames wait, because a frame mostly comes after the one before
        it has left.
        """
        if self._new >= self._kept:
            self.known = {
                key: waiting
                for key, names in self.known.items()
                if (waiting := {name: current for name, current in names.items() if current.count})
            }
            self._new, self._kept = 0, _MIN_KEPT + sum(map(len, self.known.values()))
        self._new += 1
        current = self.known.setdefault(device, {})[name] = Replaceable()
        return current

    def clear(self) -> None:
        """Forget all frames."""
        self.known.clear()
