"""Lights."""

from __future__ import annotations

from typing import Any

from indifast.terminal.pane import Pane, Piece
from indifast.terminal.states import sign, state_style


class LightPane(Pane):
    """A vector of lights."""

    def value(self, member: Any, width: int) -> list[Piece]:
        """The state, in its colour."""
        state = member.membervalue
        style = state_style(self, state, self.shown.lost)
        return [(f"{sign(state)} {state}", style + self.value_style(member))]
