"""Signs and styles of the four states. Each has its own sign, so that color is not the only cue."""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget

SIGNS = {"Idle": "○", "Ok": "●", "Busy": "◐", "Alert": "▲"}

CLASSES = {"state--idle", "state--ok", "state--busy", "state--alert", "state--lost"}
"""The component classes that a widget needs to show states."""


def sign(state: str) -> str:
    """Return the sign of a state."""
    return SIGNS.get(state, "?")


def state_style(widget: Widget, state: str, lost: bool = False) -> Style:
    """Return the style of a state in a widget that has `CLASSES` among its component classes."""
    return widget.get_component_rich_style("state--lost" if lost else f"state--{state.lower()}", partial=True)
