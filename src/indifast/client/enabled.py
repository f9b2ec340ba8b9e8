"""Whether anything is enabled, without a look at all there is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


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
