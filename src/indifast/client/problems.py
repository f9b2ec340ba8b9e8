"""What is wrong with what a server says of its properties."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from indifast._parser import Element
from indifast.client.settings import Settings
from indifast.protocol.escape import for_log

logger = logging.getLogger("indifast.client.ipyclient")

_MOST_PROBLEMS = 1000
"""Properties whose first problem is remembered."""


class Problems:
    """Remembers the first problem of each property, and says it once."""

    def __init__(self, settings: Settings, counts: Counter[str], complain: Callable[[str], None]) -> None:
        self.known: dict[tuple[str, str], str] = {}
        """The sentences since the connection was made, by device and property."""
        self._settings = settings
        self._counts = counts
        self._complain = complain
        self._nameless: set[tuple[str | None, str | None]] = set()
        """Properties of which was said that they have members without a name."""

    def clear(self) -> None:
        """Another connection begins."""
        self.known.clear()
        self._nameless.clear()

    def left_out(self, element: Element, nameless: int, faults: Sequence[str]) -> None:
        """Members of a message were left out, or got a default: count them, and say so once for each property.

        That a name is missing is for the log only: drivers of libindi define such members without meaning anything.
        """
        self._counts["left_out"] += nameless + len(faults)
        if faults:
            text = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
            if self.is_new(element, text):
                self._complain(told_of(element, text))
        elif (element.device, element.name) not in self._nameless and len(self._nameless) < _MOST_PROBLEMS:
            self._nameless.add((element.device, element.name))
            logger.info("%s", told_of(element, f"{nameless} members without a name are left out"))

    def is_new(self, element: Element, text: str) -> bool:
        """Remember what is wrong with a property; False if it is not the first thing that is, or nobody's property."""
        key = (element.device or "", element.name or "")
        if not element.device or key in self.known or len(self.known) >= _MOST_PROBLEMS:
            return False
        self.known[key] = text
        if self._settings.on_problem is not None:
            try:
                self._settings.on_problem(*key, text)
            except Exception:
                logger.exception("Error in on_problem, handling %s", element.tag)
        return True


def told_of(element: Element, text: str) -> str:
    """A sentence about a message, after the device and property it is about."""
    return ": ".join([*(for_log(name) for name in (element.device, element.name) if name), text])
