"""What of a collection is enabled, and what has changed, without a look at all there is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from indifast.client.records import changed

_Record = TypeVar("_Record")


class Names(OrderedDict[str, None]):
    """Names of what was enabled. In an order, as the first one of a set or dict out of which most have gone is far."""

    def add(self, name: str) -> None:
        """One more."""
        self[name] = None

    def discard(self, name: str) -> None:
        """One less, if it is among them."""
        self.pop(name, None)

    def any(self, test: Callable[[str], bool]) -> bool:
        """Whether a test says of any that it is enabled still; those of which it does not are taken out on the way."""
        while self:
            name = next(iter(self))
            if test(name):
                return True
            del self[name]
        return False


class Tracked(Generic[_Record]):
    """The items of a collection by name: the vectors of a device, the devices of a client.

    Programs take items out of the dictionary without a word, so that what is noted here may be of what has gone.
    """

    def __init__(self, freeze: Callable[[Any], _Record]) -> None:
        self.items: dict[str, Any] = {}
        self.enabled = Names()
        """Those enabled; others among them go when somebody looks."""
        self._freeze = freeze
        self._records: Mapping[str, _Record] = {}
        self._stale: dict[str, None] = {}  # in the order of the changes, so that new items keep theirs

    def changed(self, name: str) -> None:
        """An item has changed, or is new."""
        self._stale[name] = None

    def any_enabled(self) -> bool:
        """Whether any item is enabled: a look at one of them instead of at all, as each deletion asks for it."""
        items = self.items
        return self.enabled.any(lambda name: name in items and items[name].enable)

    def clear(self) -> None:
        """Forget all items."""
        self.items.clear()
        self.enabled.clear()
        self.forget_records()
        self._stale.clear()

    def forget_records(self) -> None:
        """Items were taken out, and others of their names may come."""
        self._records = {}

    def frozen(self) -> Mapping[str, _Record]:
        """The records of all items as they stand; only what changed is made anew."""
        items = self.items
        if self._stale or len(self._records) != len(items):
            new = {name: self._freeze(items[name]) for name in self._stale if name in items}
            records = changed(self._records, new)
            if len(records) != len(items):  # some were taken out
                records = {name: self._freeze(item) for name, item in items.items()}
            self._records = records
            self._stale.clear()
        return self._records
