"""Texts."""

from __future__ import annotations

from typing import Any

from indifast.terminal.pane import Pane, Piece
from indifast.terminal.plain import plain


class TextPane(Pane):
    """A vector of texts."""

    def value(self, member: Any, width: int) -> list[Piece]:
        """The text."""
        return [(plain(member.membervalue or ""), self.value_style(member))]
