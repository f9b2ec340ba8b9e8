"""Pane for vectors of numbers."""

from __future__ import annotations

import math
from typing import Any

from textual import events

from indifast.client import getfloat
from indifast.terminal import inputchecks
from indifast.terminal.celltext import visible
from indifast.terminal.editor import Editor
from indifast.terminal.entrypane import EntryPane
from indifast.terminal.pane import Piece


def formatted(member: Any, value: float | None = None) -> str:
    """Return a number as its format shows it, or as it was received if the format cannot show it.

    Args:
        member: The number.
        value: A value to show instead of the current one.
    """
    if value is None:
        return visible(member.getshownvalue()).strip()
    try:
        text: str = member.getformattedstring(value)
    except TypeError:
        text = f"{value:.10g}"
    return visible(text).strip()


class NumberPane(EntryPane):
    """A vector of numbers."""

    def shown_value(self, member: Any) -> Piece:
        """Return the number in its format."""
        return formatted(member), self.value_style(member)

    def hint(self, member: Any) -> str:
        """Return range and step."""
        around, step = inputchecks.limits(member), inputchecks.step_of(member)
        if around is None:
            return ""
        return f"{around[0]:g} … {around[1]:g}" + (f" by {step:g}" if step else "")

    def entry(self, member: Any) -> str:
        """Return the number as it is shown."""
        return "" if self.shown.vector.perm == "wo" else formatted(member)

    def check(self, editor: Editor, text: str) -> str:
        """Check that the number is within its range, and doubt one that is not on a step."""
        if text == editor.first_text and text:
            return ""
        return inputchecks.off_step(editor.member, inputchecks.number(editor.member, text))

    def step(self, text: str, by: int) -> str | None:
        """Return the number one step up or down."""
        editor = self.editor
        if editor is None:
            return None
        member = editor.member
        try:
            value = getfloat(text)
        except TypeError:
            value = member.getfloatvalue()
        if text == editor.first_text:
            value = member.getfloatvalue()
        value = inputchecks.stepped(member, value, by)
        text = formatted(member, value)
        try:
            shown = getfloat(text)
        except TypeError:  # the format adds words
            shown = math.nan
        if not abs(shown - value) <= 1e-9 * max(1.0, abs(value)):  # or shows less than the step
            text = f"{value:.12g}"
        return text

    def command(self) -> dict[str, Any]:
        """Return the numbers that were entered; one that was not changed is sent as it was received."""
        members = self.shown.vector.members()
        command: dict[str, Any] = {}
        for name, text in self.shown.edits.items():
            if name not in members:
                continue
            member = members[name]
            if text == self.entry(member) and text:
                command[name] = member.membervalue
                continue
            try:
                command[name] = repr(inputchecks.number(member, text))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return command

    def on_key(self, event: events.Key) -> None:
        """Start an entry at a digit or a sign."""
        if self.editor is None and self.has_focus and event.character and event.character in "0123456789+-.":
            event.stop()
            event.prevent_default()
            self.action_edit(event.character)
