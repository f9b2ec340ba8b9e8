"""Pane for vectors of texts."""

from __future__ import annotations

from typing import Any

from indifast.terminal.celltext import visible
from indifast.terminal.entrypane import EntryPane
from indifast.terminal.pane import Piece


class TextPane(EntryPane):
    """A vector of texts."""

    def shown_value(self, member: Any) -> Piece:
        """Return the text on one line."""
        return visible(member.membervalue or ""), self.value_style(member)

    def editor_width(self) -> int:
        """Return the whole width beside the label."""
        return max(8, self.size.width - self.label_width() - 3)

    def entry(self, member: Any) -> str:
        """Return the text as it is."""
        return "" if self.shown.vector.perm == "wo" else member.membervalue or ""

    def command(self) -> dict[str, Any]:
        """Return the texts that were entered."""
        members = self.shown.vector.members()
        return {name: text for name, text in self.shown.edits.items() if name in members}
