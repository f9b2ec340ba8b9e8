"""DEBUG log of the traffic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from indifast.protocol import wire
from indifast.protocol.etree import to_tree

if TYPE_CHECKING:
    from indifast._parser import Element
    from indifast.protocol.message import Wire


class Trace:
    """Writes `TX:: ` and `RX:: ` lines.

    Verbosity 0 shows nothing, 1 the start tags, 2 all but BLOB content, 3 all.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.verbosity = 1
        self._logger = logger

    @property
    def on(self) -> bool:
        """Whether anything is logged."""
        return bool(self.verbosity) and self._logger.isEnabledFor(logging.DEBUG)

    def received(self, element: Element) -> None:
        """Log an element that was handled."""
        self._logger.debug("RX:: %s", _element_text(element, self.verbosity))

    def sent(self, message: Wire) -> None:
        """Log a message that the client sends."""
        verbose = self.verbosity
        text = bytes(message.data)
        if verbose == 1:
            start, _, _ = text.partition(b">")
            shown = start.removesuffix(b"/").rstrip().decode("utf-8", "replace") + ">"
        elif verbose == 2 and message.tag == "newBLOBVector":
            shown = _hide(ElementTree.fromstring(text))
        else:
            shown = text.decode("utf-8", "replace")
        self._logger.debug("TX:: %s", shown)


def _element_text(element: Element, verbose: int) -> str:
    if verbose == 1:
        return wire.start_tag(element.tag, element.attrs)
    tree = to_tree(element)
    if verbose == 2 and element.tag == "setBLOBVector":
        return _hide(tree)
    return ElementTree.tostring(tree, encoding="unicode")


def _hide(tree: ElementTree.Element) -> str:
    for child in tree:
        child.text = "NOT LOGGED"
    return ElementTree.tostring(tree, encoding="unicode")
