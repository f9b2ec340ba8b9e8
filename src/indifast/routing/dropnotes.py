"""What a client is told about the BLOBs that it misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Buffer
from indifast.routing.frames import Property

if TYPE_CHECKING:
    from indifast._parser import Element

_MAX_NOTES = 1000  # properties per client whose losses are told one by one


class DropNote:
    """Tells a client, in the place of what it missed, how many BLOBs of a property it missed.

    Without a property: of all those that have no note of their own.
    """

    tag: str = "message"
    name: str | None = None
    blob: bool = False
    growing: bool = False
    formats: tuple[str, ...] = ()
    carried: frozenset[str] = frozenset()
    size: int = 0  # it stands in the slot of a frame that was counted before

    def __init__(self, device: str | None, name: str | None) -> None:
        self.device: str | None = device
        self.of = name
        self.count = 1
        self._data: bytes | None = None

    @property
    def closed(self) -> bool:
        """It is being written: it can count no further."""
        return self._data is not None

    def reopen(self) -> None:
        """Nothing of it was written after all."""
        self._data = None

    def parts(self, attached: bool) -> Sequence[Buffer]:
        """Written when it is its turn, so that one note stands for all that was dropped until then."""
        if self._data is None:
            what = "1 BLOB" if self.count == 1 else f"{self.count} BLOBs"
            of = "" if self.of is None else f" of {self.of}"
            text = f"{what}{of} dropped: this connection reads too slowly"
            self._data = wire.message(text, None, self.device).data
        return (self._data,)

    def fds(self) -> Sequence[int]:
        """None."""
        return ()

    def when_ready(self, attached: bool, callback: Callable[[], None]) -> None:
        """Never needed."""
        raise RuntimeError("this message is ready")

    def element(self) -> Element:
        """Parsed from what is written."""
        from indifast._parser import Tokenizer

        (element,) = Tokenizer(relay=True).feed(bytes(self.parts(False)[0]))
        return element


class DropNotes:
    """The notes that wait for one client: one for each property, and from a thousand on one for all others."""

    def __init__(self) -> None:
        self._notes: dict[Property, DropNote] = {}

    def count(self, device: str | None, name: str | None) -> DropNote | None:
        """One more BLOB is missed: a new note to be queued, or None when one that waits counts it."""
        key: Property = (device, name)
        if key not in self._notes and len(self._notes) >= _MAX_NOTES:
            key = (None, None)
        note = self._notes.get(key)
        if note is not None and not note.closed:
            note.count += 1
            return None
        note = self._notes[key] = DropNote(*key)
        return note

    def written(self, note: DropNote) -> None:
        """The client has it: what it misses from now on is another note's."""
        key: Property = (note.device, note.of)
        if self._notes.get(key) is note:
            del self._notes[key]

    def clear(self) -> None:
        """Nothing waits any more."""
        self._notes.clear()
