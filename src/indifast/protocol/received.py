"""Common bases of driver and client events: the message behind an event, and what a definition says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as TreeElement

    from indifast.protocol.vectors import Definition, Source


class Received:
    """The message behind an event, which programs may read as an element of `xml.etree.ElementTree`."""

    _element: Source | None
    _tree: TreeElement | None = None

    @property
    def root(self) -> TreeElement:
        """The message as an element of `xml.etree.ElementTree`, made on first access."""
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
    """How programs see definitions, where drivers and clients differ."""

    labels_itself: bool
    """Whether the name replaces an empty label."""
    group: str
    """The group if the definition gives none."""
    timeout: Callable[[str | None], Any]
    """Converts the text of the timeout, which is None if there is none."""
    text: Callable[[str], str | None]
    """Converts the text of a text member to its value."""


class Defined:
    """What a definition says, under the names that programs know.

    Attributes:
        label, group, state, message: As sent. The label is the name if there is none.
        memberlabels: Labels by member name; for numbers, tuples (label, format, min, max, step).
        perm, timeout: For all kinds except lights.
        rule: For switches.
    """

    _shape: ClassVar[Shape]
    perm: str
    timeout: Any
    rule: str

    def _define(self, definition: Definition) -> dict[str, Any]:
        """Take over what a definition says, and return the values by member. Those of BLOBs are empty."""
        shape, kind = self._shape, definition.kind
        use_name = shape.labels_itself
        self.label = definition.label or (definition.name if use_name else "")
        self.group = shape.group if definition.group is None else definition.group
        self.state = definition.state
        self.message = definition.message
        labels = {name: member.label or (name if use_name else "") for name, member in definition.members.items()}
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
