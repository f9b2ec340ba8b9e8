"""Pane for vectors of lights."""

from __future__ import annotations

from typing import Any

from indifast.terminal.pane import Pane, Piece
from indifast.terminal.states import sign


class LightPane(Pane):
    """A vector of lights."""

    def value(self, member: Any, width: int) -> list[Piece]:
        """Return the state in its color."""
        state = member.membervalue
        style = self.state_style(state)
        return [(f"{sign(state)} {state}", style + self.value_style(member))]
