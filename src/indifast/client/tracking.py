"""Collections that track which items are enabled and which have changed, so that not all need be checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from indifast.client.records import changed

_Record = TypeVar("_Record")


class Names(OrderedDict[str, None]):
    """Names of items that were enabled.

    This is an OrderedDict because in a set or dict from which most items were removed, the first one is slow to find.
    """

    def add(self, name: str) -> None:
        """Add a name."""
        self[name] = None

    def discard(self, name: str) -> None:
        """Remove a name if it is present."""
        self.pop(name, None)

    def any(self, test: Callable[[str], bool]) -> bool:
        """Return whether any name passes `test`; those found to fail it are removed."""
        while self:
            name = next(iter(self))
            if test(name):
                return True
            del self[name]
        return False


class Tracked(Generic[_Record]):
    """The items of a collection by name: the vectors of a device, or the devices of a client.

    Programs may remove items from the dictionary without notice, so the names noted here may be of removed items.
    """

    def __init__(self, freeze: Callable[[Any], _Record]) -> None:
        self.items: dict[str, Any] = {}
        self.enabled = Names()
        """Names of the enabled items; other names among them are removed when they are checked."""
        self._freeze = freeze
        self._records: Mapping[str, _Record] = {}
        self._stale: dict[str, None] = {}  # in the order of the changes, so that new items stay in order

    def changed(self, name: str) -> None:
        """Note that an item has changed or is new."""
        self._stale[name] = None

    def any_enabled(self) -> bool:
        """Return whether any item is enabled. Each deletion asks this, so one item is checked instead of all."""
        items = self.items
        return self.enabled.any(lambda name: name in items and items[name].enable)

    def clear(self) -> None:
        """Forget all items."""
        self.items.clear()
        self.enabled.clear()
        self.forget_records()
        self._stale.clear()

    def forget_records(self) -> None:
        """Drop the records: items were removed, and others may be added under their names."""
        self._records = {}

    def frozen(self) -> Mapping[str, _Record]:
        """Return the records of all items as they are now; only those of changed items are rebuilt."""
        items = self.items
        if self._stale or len(self._records) != len(items):
            new = {name: self._freeze(items[name]) for name in self._stale if name in items}
            records = changed(self._records, new)
            if len(records) != len(items):  # some were removed
                records = {name: self._freeze(item) for name, item in items.items()}
            self._records = records
            self._stale.clear()
        return self._records
