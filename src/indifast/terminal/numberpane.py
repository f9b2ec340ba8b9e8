"""Numbers."""

from __future__ import annotations

from typing import Any

from indifast.terminal.pane import Pane, Piece
from indifast.terminal.plain import plain


def formatted(member: Any) -> str:
    """A number as its format shows it; as it was received, where the format cannot show it."""
    try:
        text: str = member.getformattedvalue()
    except TypeError:
        text = member.membervalue
    return plain(text).strip()


class NumberPane(Pane):
    """A vector of numbers."""

    def value(self, member: Any, width: int) -> list[Piece]:
        """The number in its format."""
        return [(formatted(member), self.value_style(member))]
