"""Pane for vectors of switches."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from indifast.protocol.rules import one_at_least
from indifast.terminal import inputchecks
from indifast.terminal.pane import Pane, Piece


class SwitchPane(Pane):
    """A vector of switches."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "Switch"),
        Binding("space", "mark", "Mark"),
    ]

    def value(self, member: Any, width: int) -> list[Piece]:
        """Return whether the switch is On, and what was entered."""
        pieces: list[Piece] = []
        if self.shown.vector.perm != "wo":
            on = member.membervalue == "On"
            style = self.value_style(member)
            pieces.append(("◉ On " if on else "○ Off", style if on else style + self.part("dim")))
        return pieces + self.edit_of(member)

    def action_mark(self) -> None:
        """Mark the switch under the cursor, to turn it On or Off when the vector is sent."""
        shown, member = self.shown, self.member_to_edit()
        if member is None:
            return
        shown.problem = ""
        if member.name in shown.edits and shown.edits[member.name] != member.membervalue:
            del shown.edits[member.name]  # toggled back
        else:
            shown.edits = inputchecks.toggled(shown.vector, shown.edits, member.name)
        self.follow()

    def action_edit(self) -> None:
        """Toggle the switch under the cursor, along with all that are marked; for OneOfMany, choose it."""
        shown, member = self.shown, self.member_to_edit()
        if member is None:
            return
        if shown.edits.get(member.name) is None:
            on = member.membervalue == "On" and shown.vector.perm != "wo"
            if one_at_least(shown.vector.rule) and on:
                shown.edits[member.name] = "On"
            else:
                shown.edits = inputchecks.toggled(shown.vector, shown.edits, member.name)
        self.action_send()

    def command(self) -> dict[str, Any]:
        """Return the switches that were marked, if the rule allows them."""
        return inputchecks.switches(self.shown.vector, self.shown.edits)
