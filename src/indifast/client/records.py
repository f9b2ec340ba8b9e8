"""What snapshots are made from: mappings that are never changed, and whose successors cost what is new in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

_Record = TypeVar("_Record")

_FEW = 300  # records that are copied each time: that takes a microsecond or two


def changed(records: Mapping[str, _Record], changes: dict[str, _Record]) -> Mapping[str, _Record]:
    """These records, by name and in order, with others in their place or behind them; `records` stay as they are."""
    if type(records) is dict:
        rest, above = records, changes
    else:
        assert isinstance(records, _Layers)
        rest, above = records.rest, records.above | changes
    if len(rest) <= _FEW or len(above) ** 2 > len(rest):
        return rest | above
    return _Layers(rest, above)


class _Layers(Mapping[str, _Record]):
    """Many records, of which some lately changed ones lie above the rest, which is shared.

    The next change copies the upper layer alone, until that is so large that one dictionary is worth it again: of n
    records √n are copied for each change.
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
