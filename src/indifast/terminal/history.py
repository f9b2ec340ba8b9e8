"""Recent values of the number under the cursor, as a sparkline."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Sparkline, Static

from indifast.terminal.board import Board
from indifast.terminal.celltext import visible
from indifast.terminal.numberpane import formatted


class History(Vertical):
    """Hidden while no number is under the cursor, or fewer than two of its values are known."""

    def __init__(self, board: Board, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.board = board
        self.where: tuple[str, str, str] | None = None
        self.caption = Static("", markup=False)
        self.spark = Sparkline([], summary_function=_mean)
        self.display = False

    def compose(self) -> ComposeResult:
        """Yield a line of text and the sparkline."""
        yield self.caption
        yield self.spark

    def follow(self, where: tuple[str, str, str] | None) -> None:
        """Show the values of a number, given as the names of device, vector and member."""
        self.where = where
        values = list(self.board.history.get(where, ())) if where is not None else []
        shown = self.board.properties.get(where[:2]) if where is not None else None
        member = shown.vector.members().get(where[2]) if shown is not None and where is not None else None
        if len(values) < 2 or member is None:
            self.display = False
            return
        self.display = True
        self.caption.update(
            f"{visible(member.label or member.name)}: {len(values)} values, "
            f"{formatted(member, min(values))} to {formatted(member, max(values))}"
        )
        low = min(values)
        self.spark.data = [value - low for value in values]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
