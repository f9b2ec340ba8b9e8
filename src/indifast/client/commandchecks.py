"""Checks of commands against the definition of their vector; nothing else checks a command before it is sent.

The error messages are written for people: tools and the terminal show them unchanged.
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
    """A command that the vector, as it is defined, cannot accept."""


def limits(member: ParentNumberMember) -> tuple[float, float] | None:
    """Return the range of a number, or None if it has none."""
    return range_of(member.min, member.max)


def step_of(member: ParentNumberMember) -> float:
    """Return the increment of a number, or 0 if it has none."""
    return increment(member.step)


def number(member: ParentNumberMember, value: str | float) -> float:
    """Return the number that `value` asks a member to become.

    Raises:
        ValueError: `value` is not a finite number, decimal or sexagesimal, within the member's range. The message
            is meant for people.
    """
    text = value.strip() if isinstance(value, str) else value
    if text == "":
        raise ValueError("a number is needed")
    try:
        wanted = getfloat(text)
    except TypeError:
        raise ValueError(f"{text!r} is not a number: write 12.5, 1e-3 or 12:30:00") from None
    if not math.isfinite(wanted):
        raise ValueError(f"a finite number is needed, not {text}")
    if isinstance(text, str):
        try:
            wanted = commanded_number(text)  # drivers refuse `--1`, which `getfloat` accepts
        except ValueError:
            raise ValueError(f"{text!r} is not a number: write 12.5, 1e-3 or 12:30:00") from None
    bounds = limits(member)
    if bounds is not None and not bounds[0] <= wanted <= bounds[1]:
        # Show all digits: cut to six of them, 24.0000000001 would seem to be within 0 to 24.
        raise ValueError(f"{text} is outside {_digits(bounds[0])} to {_digits(bounds[1])}")
    return wanted


def _digits(value: float) -> str:
    return repr(value).removesuffix(".0")


def check_command(
    devicename: str, vectorname: str, vector: Vector | None, members: Mapping[str, Any], complete: bool = True
) -> None:
    """Check a command before it is sent.

    The check covers everything that would really be sent: see `commands.sent`.

    Args:
        devicename: Name of the device, for the error message.
        vectorname: Name of the vector, for the error message.
        vector: The vector, or None if there is no such vector.
        members: Values by member name.
        complete: Whether texts and numbers that were not given are sent along.

    Raises:
        INDICheckError: The vector, as it is defined, cannot accept the command.
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
                note = "" if key in members else ", and it would be sent along unchanged"
                raise INDICheckError(f"{name} {key}: {error}{note}") from None


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
        raise INDICheckError(f"{name}: {why}{_instead(vector, members) if not on else ''}")


def _instead(vector: Vector, members: Mapping[str, Any]) -> str:
    """Return what to set instead of turning switches Off, if there are few other switches."""
    others = [f"{each}=On" for each in vector.data if each not in members]
    given = " and ".join(f"{each}=Off" for each in members)
    return f": instead of {given}, set {' or '.join(others)}" if given and 0 < len(others) < 6 else ""
