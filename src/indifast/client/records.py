"""Immutable mappings from which snapshots are made; a changed copy costs little more than what is new in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

_Record = TypeVar("_Record")

_FEW = 300  # up to this many records are copied each time, which takes a microsecond or two


def changed(records: Mapping[str, _Record], changes: dict[str, _Record]) -> Mapping[str, _Record]:
    """Return a copy of `records` in which `changes` replace records of the same name, or follow the others."""
    if type(records) is dict:
        rest, above = records, changes
    else:
        assert isinstance(records, _Layers)
        rest, above = records.rest, records.above | changes
    if len(rest) <= _FEW or len(above) ** 2 > len(rest):
        return rest | above
    return _Layers(rest, above)


class _Layers(Mapping[str, _Record]):
    """Many records in two layers: those changed recently lie above the rest, which is shared.

    A change copies only the upper layer, until that is so large that merging the layers pays off: of n records, about
    √n are copied for each change.
    """

    __slots__ = ("above", "new", "rest")

    def __init__(self, rest: dict[str, _Record], above: dict[str, _Record]) -> None:
        self.rest = rest
        self.above = above
        self.new = sum(name not in rest for name in above)

    def __getitem__(self, name: str) -> _Record:
        above = self.above
        return above[name] if name in above else self.rest[name]

    def __contains__(self, name: object) -> bool:
        return name in self.above or name in self.rest

    def __iter__(self) -> Iterator[str]:
        yield from self.rest
        if self.new:
            yield from (name for name in self.above if name not in self.rest)

    def __len__(self) -> int:
        return len(self.rest) + self.new
