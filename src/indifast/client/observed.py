"""Attributes that notify their owner when they are assigned, so that snapshots can skip what has not changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any


def observed(name: str, doc: str) -> Any:
    """Return a property that stores its value as `_name` and calls the owner's `_touch()` when assigned.

    The library's own receive path writes `_name` directly and calls `_touch()` once per message.
    """
    private = "_" + name

    def assign(self: Any, value: Any) -> None:
        setattr(self, private, value)
        self._touch()

    return property(attrgetter(private), assign, doc=doc)


class MessageDeque(deque[tuple[Any, str]]):
    """The eight newest messages, `(timestamp, text)`, newest first; programs may add their own."""

    def __init__(self, touch: Callable[[], None], items: Iterable[tuple[Any, str]] = ()) -> None:
        super().__init__(items, maxlen=8)
        self._touch = touch

    def __reduce__(self) -> Any:
        return (deque, (list(self), self.maxlen))

    def __copy__(self) -> Any:
        return deque(self, self.maxlen)

    copy = __copy__


def _notifying(name: str) -> Callable[..., Any]:
    original = getattr(deque, name)

    def changed(self: MessageDeque, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        self._touch()
        return result

    changed.__name__ = name
    changed.__doc__ = original.__doc__
    return changed


for _name in (
    "append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "remove", "clear", "reverse",
    "rotate", "__setitem__", "__delitem__", "__iadd__", "__imul__",
):  # fmt: skip
    setattr(MessageDeque, _name, _notifying(_name))
