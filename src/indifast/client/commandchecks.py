"""Checks of commands against the definition of their vector; nothing else checks a command before it is sent.

The error messages are written for people: tools and the terminal show them unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from indifast.client import commands
from indifast.client.propertymembers import Member, ParentNumberMember
from indifast.client.snapvectors import Vector
from indifast.protocol import similar
from indifast.protocol.kinds import CAMERA, kinds_of
from indifast.protocol.numbers import commanded_number, getfloat
from indifast.protocol.rules import broken, increment, range_of
from indifast.protocol.vocabulary import BLOB_POLICIES, STATES, SWITCH_STATES

if TYPE_CHECKING:
    from indifast.client.snapshot import _ParentDevice


class INDICheckError(ValueError):
    """A command that the vector, as it is defined, cannot accept."""


class INDIUnknown(INDICheckError, KeyError):
    """A name or a word that does not exist: a device, a vector, a member, a state. The message has similar ones."""

    def __str__(self) -> str:
        return str(self.args[0])


def why_unusable(client: Any, devicename: str, vectorname: str) -> str:
    """Return why a vector cannot be used although the server has defined it; empty if that is not the case."""
    problem = client.problems.get((devicename, vectorname))
    if problem is None or (devicename in client and vectorname in client[devicename]):
        return ""
    return f"{devicename}.{vectorname} can't be used: {problem}"


def why_unknown(client: Any, devicename: str, vectorname: str | None = None) -> str:
    """Return a sentence that says that a client knows no such device or vector, with similar names.

    Args:
        client: A client, or a snapshot of one.
        devicename: Name of the device.
        vectorname: Name of the vector; None if the device itself is unknown.
    """
    if vectorname is not None and hasattr(client, "problems") and (why := why_unusable(client, devicename, vectorname)):
        return why
    devices = sorted((name for name, device in client.items() if device.enable), key=str.casefold)
    if devicename not in devices or vectorname is None:
        return similar.unknown("device", devicename, devices, "on this server")
    device = client[devicename]
    sentence = similar.unknown("property", vectorname, [each.name for each in device.values() if each.enable],
                               f"of {devicename}")  # fmt: skip
    return sentence + may_have_more([device])


def may_have_more(devices: Iterable[_ParentDevice]) -> str:
    """Return which of these devices may have more properties once they are connected, as the end of a sentence."""
    names = [device.devicename for device in devices if not_connected(device)]
    if not names:
        return ""
    are = "are" if names[1:] else "is"
    return f"; {' and '.join(names)} {are} not connected, and may have more properties once CONNECTION.CONNECT is On"


def not_connected(device: Mapping[str, Vector]) -> bool:
    """Return whether a device says that it is not connected to its hardware."""
    if "CONNECTION" not in device:  # `get` asks some devices for the error, which asks whether they are connected
        return False
    connection = device["CONNECTION"]
    return connection.enable and connection.get("CONNECT") == "Off"


def why_no_camera(device: _ParentDevice) -> str:
    """Return a sentence that says what kind of device it is instead of a camera; empty if it is one, or doesn't say."""
    kinds = kinds_of(device)
    return f"{device.devicename} is not a camera but a {' and '.join(kinds)}" if kinds and CAMERA not in kinds else ""


def unknown_member(vector: Vector, name: str) -> INDIUnknown:
    """Return the error for a member that a vector does not have, with similar names."""
    return INDIUnknown(similar.unknown("member", name, vector.data, f"of {vector.devicename}.{vector.name}"))


def check_members(vector: Vector, members: Iterable[str]) -> None:
    """Check that a vector has these members, and that vectors of its type take commands.

    Raises:
        INDICheckError: It does not, or is a vector of lights.
    """
    if vector.vectortype == "LightVector":
        raise INDICheckError(f"{vector.devicename}.{vector.name} is read-only: lights take no commands")
    for name in members:
        if name not in vector.data:
            raise unknown_member(vector, name)


def check_states(words: Iterable[object]) -> None:
    """Check that words are states of vectors.

    Raises:
        INDIUnknown: One is not.
    """
    for word in words:
        if word not in STATES:
            raise INDIUnknown(similar.not_a("state", word, STATES))


def check_policy(word: object) -> None:
    """Check that a word says whether BLOBs are wanted.

    Raises:
        INDIUnknown: It does not.
    """
    if word not in BLOB_POLICIES:
        raise INDIUnknown(similar.not_a("BLOB policy", word, BLOB_POLICIES))


def check_until(vector: Vector, until: object) -> None:
    """Check that a condition names members that a vector has, and numbers for numbers.

    Raises:
        INDICheckError: It does not.
    """
    if not isinstance(until, Mapping):
        return
    check_members(vector, until)
    if vector.vectortype != "NumberVector":
        return
    for name, target in until.items():
        try:
            for part in target if isinstance(target, tuple) else (target,):
                getfloat(part)
        except TypeError as error:
            raise INDICheckError(f"until {vector.devicename}.{vector.name}.{name}: {error}") from None


def switch_state(value: object) -> object:
    """Return On or Off for what people write for it: `on`, True. Anything else is returned as it is."""
    if isinstance(value, bool):
        return "On" if value else "Off"
    if not isinstance(value, str):
        return value
    return {state.casefold(): state for state in SWITCH_STATES}.get(value.strip().casefold(), value)


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
    try:
        # Text is sent. Drivers refuse `--1` and `True`, which `getfloat` accepts.
        wanted = commanded_number(str(text))
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
    check_members(vector, members)
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
