"""Settings as `indifast set` takes them: `device.property.member=value`, in the forms of indi_setprop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from indifast.cli.toolkit.failures import ToolError, unknown_property, unusable
from indifast.cli.toolkit.patterns import splits
from indifast.client.commandchecks import switch_state

TYPES = {"x": "Text", "n": "Number", "s": "Switch"}
"""Types of properties, by the letters that indi_setprop uses for them."""

_PROTECTED = "\0"
"""Stands for a semicolon that does not separate while a setting is parsed; no setting contains this character."""

_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A command: members of one property and their values.

    If it has a `kind`, it is sent without looking at the property. Any name may contain the separators `.`, `;` and
    `=`; the server's definitions decide which of them separate.
    """

    text: str
    kind: str | None
    names: tuple[tuple[str, str, str], ...]
    """What the text may mean as (device, property, first member) if no name contains `;` or `=`; likeliest first."""
    values: dict[str, str]
    """Values by member if the first of `names` is meant, which is how indi_setprop reads the text."""
    problem: str = ""
    """Why `names` is empty."""

    def target(self, client: Any) -> tuple[str, str] | None:
        """Return the (device, property) that is meant and known to the client, or None.

        One that has the first member is preferred.
        """
        known = None
        for vector, setting in self._candidates(client):
            try:
                first = next(iter(_values(setting, vector)))
            except ToolError:
                continue
            if first in vector:
                return vector.devicename, vector.name
            known = known or (vector.devicename, vector.name)
        return known

    def given(self, vector: Any) -> dict[str, str]:
        """Return the values by member, if this property is meant."""
        values = _values(self.text.removeprefix(_prefix(vector)), vector)
        return _spelled(values) if vector.vectortype == "SwitchVector" else values

    def _candidates(self, client: Any) -> Iterator[tuple[Any, str]]:
        """Yield each property that the text may mean, with the part of the text after its name."""
        for device in sorted(client.values(), key=lambda device: len(device.devicename)):
            if device.enable and self.text.startswith(f"{device.devicename}."):
                for vector in sorted(device.values(), key=lambda vector: len(vector.name)):
                    if vector.enable and self.text.startswith(prefix := _prefix(vector)):
                        yield vector, self.text.removeprefix(prefix)

    def missing(self, client: Any) -> ToolError:
        """Return why there is no target; `names` must not be empty."""
        devices = [name for name, device in client.items() if device.enable]
        for device, name, _ in self.names:
            if error := unusable(client, device, name):
                return error
        device, name, _ = next((names for names in self.names if names[0] in devices), self.names[0])
        return unknown_property(client, device, name)


def parse_assignment(text: str, kind: str | None = None) -> Assignment:
    r"""Parse `device.property.e1=v1;e2=v2` or `device.property.e1;e2=v1;v2`.

    The value of a single member may contain semicolons, unless what follows them looks like further members. `\;` in
    a value is a semicolon in any case; a backslash before a separating semicolon is written `\\`.

    Args:
        text: The setting.
        kind: One of the letters in `TYPES`, or None for a setting whose property will be looked up.

    Raises:
        ToolError: The text has neither form, or contains a character that XML does not allow.
    """
    if _UNSENDABLE.search(text):
        raise ToolError(f"{text!a} cannot be sent: XML does not allow all of these characters")
    problem, names, values = "", [], {}
    if not splits(text.rpartition("=")[0]):
        raise ToolError(f"{text!r} is not a device.property.member=value")
    try:
        (head, value), *others = _values(text).items()
        names = splits(head)
        if not names:
            raise ToolError(f"{text!r} is not a device.property.member=value")
        values = {names[0][2]: value} | dict(others)
        if kind == "s":
            values = _spelled(values)
    except ToolError as error:
        if kind is not None:
            raise
        problem = str(error)  # unless a name turns out to contain separators
    return Assignment(text, TYPES[kind] if kind else None, tuple(names), values, problem)


def _spelled(values: dict[str, str]) -> dict[str, str]:
    """Return the values of switches as INDI spells them: `on` is `On`."""
    return {member: str(switch_state(value)) for member, value in values.items()}


def _escaped(match: re.Match[str]) -> str:
    """Return a semicolon with the backslashes before it: two are one backslash, an odd one protects the semicolon."""
    count = len(match[1])
    return "\\" * (count // 2) + (_PROTECTED if count % 2 else ";")


def _prefix(vector: Any) -> str:
    return f"{vector.devicename}.{vector.name}."


def _values(text: str, known: Iterable[str] = ()) -> dict[str, str]:
    """Parse `e1=v1;e2=v2` or `e1;e2=v1;v2`; names in `known` may contain these separators."""
    odd = sorted((name for name in known if "=" in name or ";" in name), key=len, reverse=True)
    name = f"(?:{'|'.join([*map(re.escape, odd), '[^=;]+'])})(?=[=;])"
    match = re.match(f"({name}(?:;{name})*)=(.*)", text, re.DOTALL)
    if match is None:
        raise ToolError(f"{text!r} has a member without a name")
    elements, right = re.findall(name, f"{match[1]}="), re.sub(r"(\\+);", _escaped, match[2])
    if len(elements) > 1:
        values = right.split(";")
        if len(values) != len(elements):
            raise ToolError(f"{text!r} has {len(elements)} members, but {len(values)} values")
        return _plain(elements, values)
    starts = [0]
    names, ends = elements, []
    for further in re.finditer(f";({name})=", right):
        names.append(further[1])
        ends.append(further.start())
        starts.append(further.end())
    values = [right[start:end] for start, end in zip(starts, [*ends, len(right)], strict=True)]
    if any(";" in value for value in values):
        return _plain(elements[:1], [right])
    return _plain(names, values)


def _plain(names: list[str], values: list[str]) -> dict[str, str]:
    return {name: value.replace(_PROTECTED, ";") for name, value in zip(names, values, strict=True)}
