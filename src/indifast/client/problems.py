"""Problems with a server's messages about its properties."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from indifast._parser import Element
from indifast.client.settings import Given
from indifast.protocol.escape import for_log

logger = logging.getLogger("indifast.client.ipyclient")

_MOST_PROBLEMS = 1000
"""Number of properties whose first problem is remembered."""


class Problems:
    """Remembers the first problem of each property, and reports it once."""

    def __init__(self, settings: Given, counts: Counter[str], complain: Callable[[str], None]) -> None:
        self.known: dict[tuple[str, str], str] = {}
        """A sentence for each problem since the connection was made, by device and property."""
        self._settings = settings
        self._counts = counts
        self._complain = complain
        self._nameless: set[tuple[str | None, str | None]] = set()
        """Properties that were already reported to have members without a name."""

    def clear(self) -> None:
        """Forget all problems, as a new connection begins."""
        self.known.clear()
        self._nameless.clear()

    def left_out(self, element: Element, nameless: int, faults: Sequence[str]) -> None:
        """Count members of a message that were left out or got a default, and report them once for each property.

        A missing name is only logged: some libindi drivers define such members without any purpose.
        """
        self._counts["left_out"] += nameless + len(faults)
        if faults:
            text = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
            if self.is_new(element, text):
                self._complain(described(element, text))
        elif (element.device, element.name) not in self._nameless and len(self._nameless) < _MOST_PROBLEMS:
            self._nameless.add((element.device, element.name))
            logger.info("%s", described(element, f"{nameless} members without a name are left out"))

    def is_new(self, element: Element, text: str) -> bool:
        """Remember the problem of a property, and pass it to `on_problem`.

        Returns:
            False if this is not the first problem of the property, there is no device, or too many have problems.
        """
        key = (element.device or "", element.name or "")
        if not element.device or key in self.known or len(self.known) >= _MOST_PROBLEMS:
            return False
        self.known[key] = text
        on_problem = self._settings.on_problem
        if on_problem is not None:
            try:
                on_problem(*key, text)
            except Exception:
                logger.exception("Error in on_problem, handling %s", element.tag)
        return True


def described(element: Element, text: str) -> str:
    """Return a sentence about a message, preceded by the device and property that the message is about."""
    return ": ".join([*(for_log(name) for name in (element.device, element.name) if name), text])
