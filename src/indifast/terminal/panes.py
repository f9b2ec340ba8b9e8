"""Right side of the screen: a pane for each property of the place chosen in the tree."""

from __future__ import annotations

from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from indifast.terminal.blobbox import BlobBox
from indifast.terminal.board import Board, Changes, Key, Property
from indifast.terminal.celltext import visible
from indifast.terminal.lightpane import LightPane
from indifast.terminal.numberpane import NumberPane
from indifast.terminal.pane import Pane
from indifast.terminal.switchpane import SwitchPane
from indifast.terminal.textpane import TextPane
from indifast.terminal.tree import Place

MOST = 80
"""Maximum number of panes at a time; the rest of a larger group is reached through the tree."""

KINDS: dict[str, type[Pane | BlobBox]] = {
    "NumberVector": NumberPane,
    "TextVector": TextPane,
    "SwitchVector": SwitchPane,
    "LightVector": LightPane,
    "BLOBVector": BlobBox,
}


class PaneList(VerticalScroll, can_focus=False):
    """Shows a place of the tree, and follows the board."""

    def __init__(self, board: Board, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.board = board
        self.place: Place | None = None
        self._panes: dict[Property, Pane | BlobBox] = {}
        self._offer = ""
        self._hint = Static("", id="hint", markup=False)

    def compose(self) -> list[Widget]:
        """Return a hint; panes are added as they are needed."""
        return [self._hint]

    def show(self, place: Place | None) -> None:
        """Show the properties of a place: those of a device, those of a group, or one."""
        if place != self.place:
            self.place = place
            self.scroll_home(animate=False)
            self.follow_structure()

    def offer(self, text: str) -> None:
        """Show what to do, while there is nothing to choose."""
        if text != self._offer:
            self._offer = text
            if self.place is None and self.is_mounted:
                self._hint.update(text)

    def _wanted(self) -> list[Property]:
        place = self.place
        if place is None:
            return []
        if place.vector is not None:
            shown = self.board.properties.get((place.device, place.vector))
            return [] if shown is None else [shown]
        return self.board.of(place.device, place.group)

    def follow_structure(self) -> None:
        """Add and remove panes so that there is one for each property of the place."""
        wanted = self._wanted()
        seen = dict.fromkeys(wanted[:MOST])
        self._remove([self._panes.pop(shown) for shown in list(self._panes) if shown not in seen])
        fresh = []
        for shown in seen:
            if shown not in self._panes:
                self._panes[shown] = pane = KINDS[shown.vector.vectortype](shown, self.board)
                fresh.append(pane)
        if fresh:
            self.mount_all(fresh, before=self._hint)
        self._hint.update(self._hint_text(len(wanted)))

    def _remove(self, panes: list[Pane | BlobBox]) -> None:
        """Remove panes, all at once; if the focus is in one of them, it goes back to the tree.

        Textual would give the focus to a neighbor, which may be about to be removed, too, or would take the next key
        for another property.
        """
        focused = self.screen.focused if panes else None
        if focused is not None and not set(panes).isdisjoint(focused.ancestors_with_self):
            self.screen.set_focus(None)
            self.post_message(Pane.Leave())
        self.remove_children(panes)

    def _hint_text(self, count: int) -> str:
        if count > MOST:
            return f"{count - MOST} more properties: choose them in the tree, or search with /"
        if count:
            return ""
        if self.place is None:
            return self._offer
        return f"{visible(self.place.device)} has no properties here now."

    def follow(self, changes: Changes) -> None:
        """Show what changed."""
        for key in changes.keys:
            pane = self.pane_of(*key)
            if pane is not None:
                pane.follow()
        for where, (nbytes, count) in changes.arrived.items():
            pane = self.pane_of(*where[:2])
            if isinstance(pane, BlobBox):
                pane.received(where[2], changes.frames[where], nbytes, count)

    def focus_first(self) -> bool:
        """Give the focus to the first pane; return False if there is none."""
        for pane in self._panes.values():
            for target in pane.walk_children(Widget, with_self=True):
                if target.focusable:
                    target.focus()
                    return True
        return False

    def pane_of(self, device: str, vector: str) -> Pane | BlobBox | None:
        """Return the pane of a property; None if it has none now."""
        shown = self.board.properties.get((device, vector))
        return self._panes.get(shown) if shown is not None else None

    def number_at_cursor(self) -> tuple[str, str, str] | None:
        """Return the names of device, vector and member of the number under the cursor; None if there is none."""
        for shown, pane in self._panes.items():
            if isinstance(pane, NumberPane) and pane.has_focus_within:
                member = pane.member_at_cursor()
                return (*shown.key, member.name) if member is not None else None
        return None

    def blob_place(self) -> Place | None:
        """Return the BLOB vector with the focus, or otherwise the place chosen in the tree."""
        for shown, pane in self._panes.items():
            if isinstance(pane, BlobBox) and pane.has_focus_within:
                return Place(shown.key[0], shown.group, shown.key[1])
        return self.place

    def animate_panes(self, now: float, followed: set[Key]) -> bool:
        """Update fading highlights and running clocks, and return whether there are any.

        Panes whose keys are in `followed` are up to date already.
        """
        moving = False
        top = self.scroll_offset.y
        bottom = top + self.size.height
        for shown, pane in self._panes.items():
            if shown.moving():
                moving = True
                shown.fade(now)
                region = pane.virtual_region
                if shown.key not in followed and region.y < bottom and region.bottom > top:
                    pane.follow()
        return moving
