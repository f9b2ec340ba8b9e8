"""What `indifast set` is told: `device.property.member=value`, in the forms of indi_setprop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from indifast.cli.failures import ToolError, unknown_property, unusable
from indifast.cli.patterns import splits

TYPES = {"x": "Text", "n": "Number", "s": "Switch"}
"""The letters of indi_setprop for types of properties."""

_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One command: members of one property and their values. With a type it is sent without looking at the property."""

    text: str
    names: tuple[tuple[str, str], ...]
    """(device, property) that the name may mean."""
    values: dict[str, str]
    """Of the members, if the last dot is the one before the first member's name; see `given`."""
    kind: str | None = None
    firsts: tuple[str, ...] = ()
    """The first member's name for each of `names`: it may have dots."""

    def target(self, client: Any) -> tuple[str, str] | None:
        """The (device, property) that the client knows, with the first member if there is such a one."""
        known = None
        for (device, name), first in zip(self.names, self.firsts, strict=True):
            if device in client and name in client[device] and client[device][name].enable:
                if first in client[device][name]:
                    return device, name
                known = known or (device, name)
        return known

    def given(self, target: tuple[str, str] | None = None) -> dict[str, str]:
        """Members and their values, where this (device, property) is meant; by default as indi_setprop reads it."""
        first = self.firsts[self.names.index(target or self.names[0])]
        _, *others = self.values
        return {first: next(iter(self.values.values()))} | {name: self.values[name] for name in others}

    def missing(self, client: Any) -> ToolError:
        """Why there is no target."""
        devices = [name for name, device in client.items() if device.enable]
        for device, name in self.names:
            if error := unusable(client, device, name):
                return error
        device, name = next((pair for pair in self.names if pair[0] in devices), self.names[0])
        return unknown_property(client, device, name)


def parse_assignment(text: str, kind: str | None = None) -> Assignment:
    """Read `device.property.e1=v1;e2=v2` or `device.property.e1;e2=v1;v2`; ToolError for what is neither.

    The value of a single member may contain semicolons, unless what follows them looks like further members.
    """
    if _UNSENDABLE.search(text):
        raise ToolError(f"{text!a} cannot be sent: XML has no such characters")
    left, equals, right = text.partition("=")
    if not equals or left.count(".") < 2 or not all(left.split(".")):
        raise ToolError(f"{text!r} is no device.property.member=value")
    head, semicolon, tail = left.partition(";")
    names = splits(head)  # of more than two dots, the server's devices tell which separate
    members = f"{names[-1][2]}{semicolon}{tail}"
    values = _values(text, members, right)
    targets = tuple((device, name) for device, name, _ in names)
    firsts = tuple(member for _, _, member in names)
    return Assignment(text, targets, values, TYPES[kind] if kind else None, firsts)


def _values(text: str, members: str, right: str) -> dict[str, str]:
    elements = members.split(";")
    if not all(elements):
        raise ToolError(f"{text!r} has a member without a name")
    if len(elements) > 1:
        values = right.split(";")
        if len(values) != len(elements):
            raise ToolError(f"{text!r} has {len(elements)} members, but {len(values)} values")
        return dict(zip(elements, values, strict=True))
    first, *others = right.split(";")
    if others and all(re.match(r"[^=]+=", other) for other in others):
        return {members: first} | dict(other.split("=", 1) for other in others)
    return {members: right}
