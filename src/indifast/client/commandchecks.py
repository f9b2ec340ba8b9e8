"""What a vector, as it is defined, can take: the only place where a command is checked before it is sent.

The sentences are for people: tools and the terminal show them as they stand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from indifast.client import commands
from indifast.client.propertymembers import Member, ParentNumberMember
from indifast.client.snapvectors import Vector
from indifast.protocol.numbers import commanded_number, getfloat
from indifast.protocol.rules import broken, increment, range_of
from indifast.protocol.vocabulary import SWITCH_STATES


class INDICheckError(ValueError):
    """A command that the vector, as it is defined, cannot take."""


def limits(member: ParentNumberMember) -> tuple[float, float] | None:
    """The range of a number; None where it has none."""
    return range_of(member.min, member.max)


def step_of(member: ParentNumberMember) -> float:
    """The increment of a number; 0 for none."""
    return increment(member.step)


def number(member: ParentNumberMember, value: str | float) -> float:
    """What a member of a number vector is to become: a finite number, decimal or sexagesimal, within its range.

    ValueError, with a sentence, for anything else.
    """
    text = value.strip() if isinstance(value, str) else value
    if text == "":
        raise ValueError("a number is needed")
    try:
        wanted = getfloat(text)
    except TypeError:
        raise ValueError(f"{text!r} is no number: write 12.5, 1e-3 or 12:30:00") from None
    if not math.isfinite(wanted):
        raise ValueError(f"a finite number is needed, not {text}")
    if isinstance(text, str):
        try:
            wanted = commanded_number(text)  # as drivers read it: they refuse `--1`, which others take for a number
        except ValueError:
            raise ValueError(f"{text!r} is no number: write 12.5, 1e-3 or 12:30:00") from None
    around = limits(member)
    if around is not None and not around[0] <= wanted <= around[1]:
        # All digits: of 24.0000000001, six of them would be within 0 to 24.
        raise ValueError(f"{text} is outside {_digits(around[0])} to {_digits(around[1])}")
    return wanted


def _digits(value: float) -> str:
    return repr(value).removesuffix(".0")


def check_command(
    devicename: str, vectorname: str, vector: Vector | None, members: Mapping[str, Any], complete: bool = True
) -> None:
    """Raise INDICheckError for a command that the vector, as it is defined, cannot take.

    Looked at is what will really be sent, see `commands.sent`.
    """
    name = f"{devicename} {vectorname}"
    if vector is None or not vector.enable:
        raise INDICheckError(f"{name} is not defined")
    if vector.perm == "ro":
        raise INDICheckError(f"{name} is read-only")
    for member in members:
        if member not in vector.data:
            raise INDICheckError(f"{name} has no member {member}, only {', '.join(vector.data)}")
    if vector.vectortype == "SwitchVector":
        _check_switches(name, vector, members)
    elif vector.vectortype in commands.COMPLETED:
        check = _check_number if vector.vectortype == "NumberVector" else _check_text
        for key, value in commands.sent(vector, members, complete).items():
            try:
                check(vector.data[key], value)
            except ValueError as error:
                along = "" if key in members else ", and would be sent along as it stands"
                raise INDICheckError(f"{name} {key}: {error}{along}") from None


def _check_number(member: ParentNumberMember, value: Any) -> None:
    number(member, value)


def _check_text(member: Member, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"a text must be a str, not {type(value).__name__}")


def _check_switches(name: str, vector: Vector, members: Mapping[str, Any]) -> None:
    for key, value in members.items():
        if value not in SWITCH_STATES:
            raise INDICheckError(f"{name}: {value!r} for {key} is neither On nor Off")
    on = sum(value == "On" for value in members.values())
    if why := broken(vector.rule, on):
        raise INDICheckError(f"{name}: {why}")
