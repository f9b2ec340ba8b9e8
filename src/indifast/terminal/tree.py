"""Tree on the left of the screen: devices, their groups, their properties."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from indifast.terminal.board import Board, Key, Property
from indifast.terminal.celltext import fitted, visible
from indifast.terminal.states import CLASSES, sign, state_style

RANK = {"Idle": 0, "Ok": 1, "Busy": 2, "Alert": 3}


class Place(NamedTuple):
    """What a node stands for: a device, one of its groups, or a property in a group."""

    device: str
    group: str | None = None
    vector: str | None = None


class PropertyTree(Tree[Place]):
    """Follows a board. Labels show what the board says when they are drawn, and are never parsed as markup."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CLASSES
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "inwards", "To the properties", show=False),
        Binding("left", "outwards", "Close", show=False),
    ]
    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "

    def __init__(self, board: Board, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self.board = board
        self.show_root = False
        self.guide_depth = 2
        self.root.expand()
        self._places: dict[Place, TreeNode[Place]] = {}
        self._states: dict[Place, tuple[str, bool]] = {}
        self._words: list[str] = []

    # -- Drawing

    def render_label(self, node: TreeNode[Place], base_style: Style, style: Style) -> Text:
        """Return the label of a node: the sign of its state, and its name, cut to the width of the tree."""
        place = node.data
        if place is None:
            return Text("")
        label = Text()
        if node.allow_expand:
            label.append(self.ICON_NODE_EXPANDED if node.is_expanded else self.ICON_NODE, base_style)
        state, lost = self._states.get(place, ("Idle", False))
        label.append(f"{sign(state)} ", base_style + state_style(self, state, lost))
        indent = self.guide_depth * ((place.group is not None) + (place.vector is not None))
        text = fitted(self._text(place), self.scrollable_content_region.width - indent - label.cell_len)
        label.append(text, style + state_style(self, state, True) if lost else style)
        return label

    def watch_show_vertical_scrollbar(self) -> None:
        """Cut the labels again, as the scroll bar takes a column."""
        self.root.expand()

    def _text(self, place: Place) -> str:
        if place.vector is not None:
            shown = self.board.properties.get((place.device, place.vector))
            return visible(shown.vector.label or place.vector) if shown is not None else visible(place.vector)
        if place.group is not None:
            return visible(place.group) or "(no group)"
        return visible(place.device)

    # -- Following the board

    def search(self, text: str) -> None:
        """Show only what contains all words of a text in its names or label; everything if the text is empty."""
        words = text.casefold().split()
        if words != self._words:
            self._words = words
            self.follow()
            if words:
                for node in self._places.values():
                    node.expand()

    def follow(self) -> None:
        """Show the properties that exist now."""
        wanted: dict[Place, None] = {}
        for shown in self.board.in_order():
            if self._words and not self._matches(shown):
                continue
            device, vector = shown.key
            wanted[Place(device)] = None
            wanted[Place(device, shown.group)] = None
            wanted[Place(device, shown.group, vector)] = None
        smaller: set[Place] = set()
        for place in [place for place in self._places if place not in wanted]:
            node = self._places.pop(place)
            self._states.pop(place, None)
            parent = Place(place.device, place.group) if place.vector is not None else Place(place.device)
            if place == parent or parent in wanted:  # otherwise it is removed with its parent
                node.remove()
                smaller.add(parent)
        devices = 0
        for place in wanted:
            if place not in self._places:
                self._add(place, devices)
            devices += place.group is None
        self.follow_states((shown.key for shown in self.board), smaller)

    def _matches(self, shown: Property) -> bool:
        vector = shown.vector
        text = f"{shown.key[0]} {shown.group} {shown.key[1]} {vector.label}".casefold()
        return all(word in text for word in self._words)

    def _add(self, place: Place, device: int) -> None:
        """Add a node; `device` is where a new device belongs among the others."""
        if place.vector is not None:
            self._places[place] = self._places[Place(place.device, place.group)].add_leaf("", place)
        elif place.group is not None:
            self._places[place] = self._places[Place(place.device)].add("", place, expand=bool(self._words))
        else:
            before = device if device < len(self.root.children) else None
            self._places[place] = self.root.add("", place, before=before, expand=True)

    def follow_states(self, keys: Iterable[Key], smaller: Iterable[Place] = ()) -> None:
        """Update the states of properties; groups and devices show the one that most needs attention.

        Args:
            keys: The properties whose states may have changed.
            smaller: Groups and devices that something was removed from.
        """
        groups: set[Place] = set()
        for key in keys:
            shown = self.board.properties.get(key)
            if shown is None:
                continue
            place = Place(key[0], shown.group, key[1])
            if place in self._places and self._mark(place, shown.state, shown.lost):
                groups.add(Place(key[0], shown.group))
        groups.update(place for place in smaller if place.group is not None)
        devices = {place for place in smaller if place.group is None}
        devices |= {Place(group.device) for group in groups if self._sum_up(group)}
        for device in devices:
            self._sum_up(device)

    def _sum_up(self, place: Place) -> bool:
        node = self._places.get(place)
        if node is None:
            return False
        states = [self._states.get(child.data, ("Idle", False)) for child in node.children if child.data is not None]
        state = max((state for state, _ in states), key=lambda state: RANK.get(state, 0), default="Idle")
        return self._mark(place, state, bool(states) and all(lost for _, lost in states))

    def _mark(self, place: Place, state: str, lost: bool) -> bool:
        if self._states.get(place) == (state, lost):
            return False
        self._states[place] = (state, lost)
        self._places[place].refresh()
        return True

    class Inwards(Message):
        """The focus is to move to the properties of what was chosen."""

    def action_inwards(self) -> None:
        """Open a closed node; otherwise, go to the properties."""
        node = self.cursor_node
        if node is not None and node.allow_expand and not node.is_expanded:
            node.expand()
        else:
            self.post_message(self.Inwards())

    def action_outwards(self) -> None:
        """Close an open node; otherwise, go to its parent."""
        node = self.cursor_node
        if node is None:
            return
        if node.is_expanded and node.children:
            node.collapse()
        elif node.parent is not None and node.parent is not self.root:
            self.move_cursor(node.parent)

    def go_to_first(self) -> None:
        """Put the cursor on the first property shown."""
        for shown in self.board.in_order():
            if self.go_to(Place(shown.key[0], shown.group, shown.key[1])):
                return

    def go_to(self, place: Place) -> bool:
        """Put the cursor on a place and open its parents; return False if it is not in the tree."""
        node = self._places.get(place)
        if node is None:
            return False
        parent = node.parent
        while parent is not None:
            parent.expand()
            parent = parent.parent
        if node.line < 0 and self.last_line < 0:  # asking for the last line lays out what was opened
            return False
        in_its_line = self.cursor_line == node.line
        self.move_cursor(node)
        if in_its_line:  # it replaced the node under the cursor, so the tree sees no move
            self.post_message(self.NodeHighlighted(node))
        return True
