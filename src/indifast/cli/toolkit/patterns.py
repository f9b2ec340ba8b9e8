"""Queries that select members: `device.property.member`, with `*` for anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from indifast.cli.toolkit.failures import Status, ToolError, unknown, unusable

ATTRIBUTES = ("_LABEL", "_GROUP", "_STATE", "_PERM", "_TO", "_TS")
"""Names that, in place of a member's name, stand for an attribute of the property itself."""


def splits(text: str) -> list[tuple[str, str, str]]:
    """Return every (device, property, member) that a dotted name may mean.

    Of more than two dots, any two may be the separators. A name is never empty, but may begin or end with a dot. The
    result is empty if the text has no two separators.
    """
    parts = text.split(".")
    count = len(parts)
    cuts = [(first, second) for first in range(1, count - 1) for second in range(first + 1, count)]
    found = [
        (".".join(parts[:first]), ".".join(parts[first:second]), ".".join(parts[second:])) for first, second in cuts
    ]
    return [names for names in found if all(names)]


def _shorter(text: str) -> list[tuple[str, str, str]]:
    """Return what a dotted name may mean with fewer separators: a property or a device."""
    parts = text.split(".")
    pairs = [(".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(1, len(parts))]
    return [(device, name, "*") for device, name in pairs if device and name] + [(text, "*", "*")]


class Pattern:
    """A query."""

    def __init__(self, text: str) -> None:
        """Parse a query.

        Raises:
            ToolError: It cannot match anything.
        """
        if not text.strip("."):
            raise ToolError(f"{text!r} is not a device.property.member")
        full = splits(text)
        self.text = text
        self.wild = "*" in text or not full
        """Whether the query may match more than one member."""
        shorter = _shorter(text)
        full = full or [shorter.pop(0)]
        self.explicit = all("*" not in device + name for device, name, _ in full)
        """Whether device and property are named in full."""
        self._full = len(full)
        self._splits = full + shorter
        self._globs = [tuple(map(_glob, split)) for split in self._splits]

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def members(self, vector: Any) -> Iterator[str]:
        """Yield the names of the members of a property, or the attribute (`_STATE` …), that the query matches."""
        for (_, _, member), globs in zip(self._splits, self._globs, strict=True):
            if not (globs[0].fullmatch(vector.devicename) and globs[1].fullmatch(vector.name)):
                continue
            if member in ATTRIBUTES:
                yield member
                return
            found = [name for name in vector if globs[2].fullmatch(name)]
            if found:
                yield from found
                return

    def is_member(self, vector: Any) -> bool:
        """Return whether the query names a member or an attribute of this property, so that no other can match."""
        return any(
            device.fullmatch(vector.devicename) and name.fullmatch(vector.name)
            and (split[2] in ATTRIBUTES or split[2] in vector)
            for split, (device, name, _) in zip(self._splits[: self._full], self._globs, strict=False)
        )  # fmt: skip

    def names_vector(self, vector: Any) -> bool:
        """Return whether the query matches this property or something in it."""
        return self.names(vector.devicename, vector.name)

    def names(self, device: str, vector: str) -> bool:
        """Return whether the query matches the property of this name or something in it."""
        return any(globs[0].fullmatch(device) and globs[1].fullmatch(vector) for globs in self._globs)

    def names_device(self, device: str) -> bool:
        """Return whether the query matches this device or something in it."""
        return any(globs[0].fullmatch(device) for globs in self._globs)

    def unmatched(self, client: Any) -> ToolError:
        """Return why the query matched nothing: which part of the name is unknown, with similar names."""
        from indifast.client.commandchecks import may_have_more

        for device, name, _ in self._splits:
            if error := unusable(client, device, name):
                return error
        devices = [name for name, device in client.items() if device.enable]
        known = [any(map(globs[0].fullmatch, devices)) for globs in self._globs]
        full, shorter = known[: self._full], known[self._full :]
        best = max((index for index, found in enumerate(full) if found), default=None)
        if best is None:
            best = self._full + shorter.index(True) if any(shorter) else 0
        device, name, member = self._splits[best]
        meant = [each for each in devices if _glob(device).fullmatch(each)]
        if not meant:
            return unknown("device", device, devices, "on this server")
        vectors = [vector for each in meant for vector in client[each].values() if vector.enable]
        named = [vector for vector in vectors if _glob(name).fullmatch(vector.name)]
        if not named:
            error = unknown("property", name, [vector.name for vector in vectors], f"of {device}")
            return ToolError(f"{error}{may_have_more(client[each] for each in meant)}", error.status)
        if any(_glob(member).fullmatch(each) for vector in named for each in vector):
            return ToolError(f"{self.text} is {_nothing(named)}", Status.NOTHING)
        return unknown("member", member, [each for vector in named for each in vector], f"of {device}.{name}")


def _nothing(vectors: list[Any]) -> str:
    if all(vector.vectortype == "BLOBVector" for vector in vectors):
        return "a BLOB, and none has arrived: servers do not keep BLOBs, they only pass new ones on"
    return "write-only: -w shows it anyway"


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def devices_of(client: Any) -> list[Any]:
    """Return the devices sorted by name: drivers define theirs in any order."""
    return sorted(
        (each for each in client.values() if each.enable),
        key=lambda each: (each.devicename.casefold(), each.devicename),
    )


def vectors_of(client: Any) -> Iterator[Any]:
    """Yield all properties of all devices, in order of definition."""
    for device in client.values():
        yield from (vector for vector in device.values() if vector.enable)
