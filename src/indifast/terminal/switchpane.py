"""Switches."""

from __future__ import annotations

from typing import Any

from indifast.terminal.pane import Pane, Piece


class SwitchPane(Pane):
    """A vector of switches."""

    def value(self, member: Any, width: int) -> list[Piece]:
        """Whether it is on."""
        on = member.membervalue == "On"
        style = self.value_style(member)
        return [("◉ On" if on else "○ Off", style if on else style + self.part("dim"))]
