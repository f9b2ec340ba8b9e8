"""Which members people mean: `device.property.member` with `*` for anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from indifast.cli.toolkit.failures import Status, ToolError, unknown, unusable

ATTRIBUTES = ("_LABEL", "_GROUP", "_STATE", "_PERM", "_TO", "_TS")
"""In place of a member's name: what a property itself says of itself."""


def splits(text: str) -> list[tuple[str, str, str]]:
    """(device, property, member) that a dotted name may mean: of more than two dots, any two may be the separators.

    No name is empty, but each may begin or end with a dot. Empty for a text without two separators.
    """
    parts = text.split(".")
    count = len(parts)
    cuts = [(first, second) for first in range(1, count - 1) for second in range(first + 1, count)]
    found = [
        (".".join(parts[:first]), ".".join(parts[first:second]), ".".join(parts[second:])) for first, second in cuts
    ]
    return [names for names in found if all(names)]


def _shorter(text: str) -> list[tuple[str, str, str]]:
    """What a dotted name may mean besides, or with fewer dots: a property, a device."""
    parts = text.split(".")
    pairs = [(".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(1, len(parts))]
    return [(device, name, "*") for device, name in pairs if device and name] + [(text, "*", "*")]


class Pattern:
    """One query."""

    def __init__(self, text: str) -> None:
        """ToolError for what can match nothing."""
        if not text.strip("."):
            raise ToolError(f"{text!r} is no device.property.member")
        full = splits(text)
        self.text = text
        self.wild = "*" in text or not full
        """It may match more than one member."""
        shorter = _shorter(text)
        full = full or [shorter.pop(0)]
        self.explicit = all("*" not in device + name for device, name, _ in full)
        """Device and property are named in full."""
        self._full = len(full)
        self._splits = full + shorter
        self._globs = [tuple(map(_glob, split)) for split in self._splits]

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def members(self, vector: Any) -> Iterator[str]:
        """Names of the members, or the attribute (`_STATE` …), of a property that are meant."""
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
        """A member of this property is meant, or what it says of itself: there is nothing else to come."""
        return any(
            device.fullmatch(vector.devicename) and name.fullmatch(vector.name)
            and (split[2] in ATTRIBUTES or split[2] in vector)
            for split, (device, name, _) in zip(self._splits[: self._full], self._globs, strict=False)
        )  # fmt: skip

    def names_vector(self, vector: Any) -> bool:
        """A property is meant, or something of it."""
        return any(
            device.fullmatch(vector.devicename) and name.fullmatch(vector.name) for device, name, _ in self._globs
        )

    def names_device(self, device: str) -> bool:
        """A device is meant, or something of it."""
        return any(globs[0].fullmatch(device) for globs in self._globs)

    def unmatched(self, client: Any) -> ToolError:
        """Why nothing was found: which part of the name is unknown, with near matches."""
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
            return unknown("property", name, [vector.name for vector in vectors], f"of {device}")
        if any(_glob(member).fullmatch(each) for vector in named for each in vector):
            return ToolError(f"{self.text} is {_nothing(named)}", Status.NOTHING)
        return unknown("member", member, [each for vector in named for each in vector], f"of {device}.{name}")


def _nothing(vectors: list[Any]) -> str:
    if all(vector.vectortype == "BLOBVector" for vector in vectors):
        return "a BLOB, and none has come: BLOBs are not kept by servers, only sent when they are made"
    return "write-only: -w shows it all the same"


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def vectors_of(client: Any) -> Iterator[Any]:
    """All properties of all devices, in the order in which they were defined."""
    for device in client.values():
        yield from (vector for vector in device.values() if vector.enable)
