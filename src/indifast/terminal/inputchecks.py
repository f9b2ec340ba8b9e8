"""Checks of what users enter, before it is sent. The text of each ValueError is a sentence for the user."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from indifast.client.commandchecks import limits, number, step_of
from indifast.protocol.rules import broken, one_at_least, one_at_most

__all__ = ["limits", "number", "off_step", "step_of", "stepped", "switches", "toggled"]


def _start(around: tuple[float, float] | None) -> float:
    """Return what increments are counted from: the minimum if there is one, otherwise 0."""
    return around[0] if around is not None and math.isfinite(around[0]) else 0.0


def _whole(count: float) -> bool:
    """Return whether this is a whole number of steps, within rounding errors."""
    return not math.isfinite(count) or abs(count - round(count)) <= 1e-6 * max(1.0, abs(count))


def off_step(member: Any, value: float) -> str:
    """Return why a number does not fit the increment, counted from the minimum or from 0; empty if it does.

    Counting from 0 is allowed because drivers declare 0.01 to 3600 by 1 for an exposure, and accept 10 s.
    """
    step = step_of(member)
    if not step:
        return ""
    start = _start(limits(member))
    count = (value - start) / step
    if _whole(count) or _whole(value / step):
        return ""
    below = start + math.floor(count) * step
    return f"steps of {step:g} from {start:g} give {below:g} or {below + step:g}"


def stepped(member: Any, value: float, by: int) -> float:
    """Return the next value up or down on the grid of increments, within the range.

    Args:
        member: The number.
        value: The value to start from.
        by: The number of increments: 1 for up, -1 for down.
    """
    step = step_of(member)
    around = limits(member)
    if not step:
        step = (around[1] - around[0]) / 100 if around is not None and math.isfinite(around[1] - around[0]) else 1.0
    start = _start(around)
    count = (value - start) / step
    if not math.isfinite(count):  # nan, or so many steps that one more makes no difference
        return value
    near = round(count)
    if not _whole(count):  # between two steps: `by` leads to the adjacent one
        near = math.floor(count) if by > 0 else math.ceil(count)
    value = start + (near + by) * step
    if around is None or around[0] <= value <= around[1]:
        return value
    most = (around[1] - start) / step  # infinite only if the other end was passed
    return start + math.floor(most + 1e-6) * step if value > around[1] else start


def switches(vector: Any, edits: Mapping[str, str]) -> dict[str, str]:
    """Return the switches to send, so that the edits take effect and the rule holds for the whole vector.

    Raises:
        ValueError: The edits break the rule.
    """
    now = {name: member.membervalue for name, member in vector.members().items()}
    then = now | {name: value for name, value in edits.items() if name in now}
    on = [name for name, value in then.items() if value == "On"]
    if why := broken(vector.rule, len(on)):
        raise ValueError(f"the rule {why}")
    members = {name: value for name, value in then.items() if name in edits or value != now[name]}
    if one_at_least(vector.rule):
        members[on[0]] = "On"
    return members


def toggled(vector: Any, edits: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the edits after a switch is toggled; where at most one may be On, the others go Off."""
    now = {each: edits.get(each, member.membervalue) for each, member in vector.members().items()}
    value = "Off" if now[name] == "On" else "On"
    entered = {**edits, name: value}
    if value == "On" and one_at_most(vector.rule):
        entered |= {each: "Off" for each, at in now.items() if at == "On" and each != name}
    return {each: value for each, value in entered.items() if each == name or value != vector.member(each).membervalue}
