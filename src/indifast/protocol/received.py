"""What the events of drivers and of clients have in common: the message behind them, and what a definition says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.protocol.vectors import Definition, Source


class Received:
    """The message behind an event, as an element of `xml.etree.ElementTree` when somebody looks at it."""

    _element: Source | None
    _tree: TreeElement | None = None

    @property
    def root(self) -> TreeElement:
        """The message as an element of `xml.etree.ElementTree`, made when first asked for."""
        if self._tree is None:
            self._tree = self._make_tree()
        return self._tree

    def _make_tree(self) -> TreeElement:
        source = self._element
        assert source is not None
        from xml.etree.ElementTree import Element as TreeElement

        from indifast.protocol.etree import to_tree

        return source if isinstance(source, TreeElement) else to_tree(source)


class Shape(NamedTuple):
    """How definitions are shown to programs, as far as the packages for drivers and for clients differ in it."""

    labels_itself: bool
    """What has an empty label is labelled with its name."""
    group: str
    """When none is given."""
    timeout: Callable[[str | None], Any]
    """Of its text, None when there is none."""
    text: Callable[[str], str | None]
    """The value of a text member, of its text."""


class Defined:
    """What a definition says, under the names that programs know.

    Attributes:
        label, group, state, message: as sent; the name is the label when there is none.
        memberlabels: member name to label; of numbers to (label, format, min, max, step).
        perm, timeout: of all but lights.
        rule: of switches.
    """

    _shape: ClassVar[Shape]
    perm: str
    timeout: Any
    rule: str

    def _define(self, definition: Definition) -> dict[str, Any]:
        """Take over what it says; returns the values by member, those of BLOBs empty."""
        shape, kind = self._shape, definition.kind
        own = shape.labels_itself
        self.label = definition.label or (definition.name if own else "")
        self.group = shape.group if definition.group is None else definition.group
        self.state = definition.state
        self.message = definition.message
        labels = {name: member.label or (name if own else "") for name, member in definition.members.items()}
        self.memberlabels: dict[str, Any] = labels
        if kind == "Number":
            self.memberlabels = {name: (labels[name], *member.details) for name, member in definition.members.items()}
        elif kind == "Switch":
            self.rule = definition.rule
        if kind != "Light":
            self.perm = definition.perm
            self.timeout = shape.timeout(definition.timeout)
        if kind == "Text":
            return {name: shape.text(member.value) for name, member in definition.members.items()}
        return {name: member.value for name, member in definition.members.items()}
