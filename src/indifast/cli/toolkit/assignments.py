"""What `indifast set` is told: `device.property.member=value`, in the forms of indi_setprop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from indifast.cli.toolkit.failures import ToolError, unknown_property, unusable
from indifast.cli.toolkit.patterns import splits

TYPES = {"x": "Text", "n": "Number", "s": "Switch"}
"""The letters of indi_setprop for types of properties."""

_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One command: members of one property and their values. With a type it is sent without looking at the property.

    Any name may hold the separators `.`, `;` and `=`. Which of them separate, the server's definitions tell.
    """

    text: str
    kind: str | None
    names: tuple[tuple[str, str, str], ...]
    """(device, property, first member) that the text may mean if no name holds `;` or `=`; likeliest first."""
    values: dict[str, str]
    """Of the members, where the first of `names` is meant: as indi_setprop reads it."""
    problem: str = ""
    """Why there are no `names`."""

    def target(self, client: Any) -> tuple[str, str] | None:
        """The (device, property) that the client knows, with the first member if there is such a one."""
        known = None
        for vector, rest in self._begun(client):
            try:
                first = next(iter(_values(rest, vector)))
            except ToolError:
                continue
            if first in vector:
                return vector.devicename, vector.name
            known = known or (vector.devicename, vector.name)
        return known

    def given(self, vector: Any) -> dict[str, str]:
        """Members and their values, where this property is meant."""
        return _values(self.text.removeprefix(_prefix(vector)), vector)

    def _begun(self, client: Any) -> Iterator[tuple[Any, str]]:
        """(property, what follows its name) for those that the text may mean."""
        for device in sorted(client.values(), key=lambda device: len(device.devicename)):
            if device.enable and self.text.startswith(f"{device.devicename}."):
                for vector in sorted(device.values(), key=lambda vector: len(vector.name)):
                    if vector.enable and self.text.startswith(prefix := _prefix(vector)):
                        yield vector, self.text.removeprefix(prefix)

    def missing(self, client: Any) -> ToolError:
        """Why there is no target, although there are `names`."""
        devices = [name for name, device in client.items() if device.enable]
        for device, name, _ in self.names:
            if error := unusable(client, device, name):
                return error
        device, name, _ = next((names for names in self.names if names[0] in devices), self.names[0])
        return unknown_property(client, device, name)


def parse_assignment(text: str, kind: str | None = None) -> Assignment:
    """Read `device.property.e1=v1;e2=v2` or `device.property.e1;e2=v1;v2`; ToolError for what is neither.

    The value of a single member may contain semicolons, unless what follows them looks like further members.
    """
    if _UNSENDABLE.search(text):
        raise ToolError(f"{text!a} cannot be sent: XML has no such characters")
    problem, names, values = "", [], {}
    if not splits(text.rpartition("=")[0]):
        raise ToolError(f"{text!r} is no device.property.member=value")
    try:
        (head, value), *others = _values(text).items()
        names = splits(head)
        if not names:
            raise ToolError(f"{text!r} is no device.property.member=value")
        values = {names[0][2]: value} | dict(others)
    except ToolError as error:
        if kind is not None:
            raise
        problem = str(error)  # unless there are names with separators in them
    return Assignment(text, TYPES[kind] if kind else None, tuple(names), values, problem)


def _prefix(vector: Any) -> str:
    return f"{vector.devicename}.{vector.name}."


def _values(text: str, known: Iterable[str] = ()) -> dict[str, str]:
    """Read `e1=v1;e2=v2` or `e1;e2=v1;v2`; names that are known may hold these separators."""
    odd = sorted((name for name in known if "=" in name or ";" in name), key=len, reverse=True)
    name = f"(?:{'|'.join([*map(re.escape, odd), '[^=;]+'])})(?=[=;])"
    match = re.match(f"({name}(?:;{name})*)=(.*)", text, re.DOTALL)
    if match is None:
        raise ToolError(f"{text!r} has a member without a name")
    elements, right = re.findall(name, f"{match[1]}="), match[2]
    if len(elements) > 1:
        values = right.split(";")
        if len(values) != len(elements):
            raise ToolError(f"{text!r} has {len(elements)} members, but {len(values)} values")
        return dict(zip(elements, values, strict=True))
    starts = [0]
    names, ends = elements, []
    for further in re.finditer(f";({name})=", right):
        names.append(further[1])
        ends.append(further.start())
        starts.append(further.end())
    values = [right[start:end] for start, end in zip(starts, [*ends, len(right)], strict=True)]
    if any(";" in value for value in values):
        return {elements[0]: right}
    return dict(zip(names, values, strict=True))
