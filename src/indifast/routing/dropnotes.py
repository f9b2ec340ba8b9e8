"""Notes that tell a client about the BLOBs that it misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from indifast.protocol import wire
from indifast.protocol.message import Buffer, Form
from indifast.routing.frames import Property

if TYPE_CHECKING:
    from indifast._parser import Element

_MAX_NOTES = 1000  # properties per client whose losses are reported separately


class DropNote:
    """Tells a client, in the place of what it missed, how many BLOBs of a property it missed.

    A note without a property is about all properties without a separate note.
    """

    tag: str = "message"
    name: str | None = None
    blob: bool = False
    growing: bool = False
    formats: tuple[str, ...] = ()
    carried: frozenset[str] = frozenset()
    size: int = 0  # not counted: a note is in the slot of a frame that was dropped

    def __init__(self, device: str | None, name: str | None) -> None:
        self.device: str | None = device
        self.of = name
        self.count = 1
        self._data: bytes | None = None

    @property
    def closed(self) -> bool:
        """Whether the note is being written, and can count no further."""
        return self._data is not None

    def reopen(self) -> None:
        """Let the note count again, because none of it was written after all."""
        self._data = None

    def parts(self, form: Form) -> Sequence[Buffer]:
        """Return the note. It is written when its turn comes, to stand for everything dropped until then."""
        if self._data is None:
            what = "1 BLOB" if self.count == 1 else f"{self.count} BLOBs"
            of = "" if self.of is None else f" of {self.of}"
            text = f"{what}{of} dropped: this connection reads too slowly"
            self._data = wire.message(text, None, self.device).data
        return (self._data,)

    def fds(self) -> Sequence[int]:
        """Return no descriptors."""
        return ()

    def when_ready(self, form: Form, callback: Callable[[], None]) -> None:
        """Raise RuntimeError: a note is ready from the start."""
        raise RuntimeError("this message is always ready")

    def element(self) -> Element:
        """Return the note as an element, parsed from what is written."""
        from indifast._parser import Tokenizer

        (element,) = Tokenizer(relay=True).feed(bytes(self.parts(False)[0]))
        return element


class DropNotes:
    """The notes that wait for one client: one for each of the first thousand properties, and one for all others."""

    def __init__(self) -> None:
        self._notes: dict[Property, DropNote] = {}

    def count(self, device: str | None, name: str | None) -> DropNote | None:
        """Count one missed BLOB, and return a new note to be queued, or None if a waiting note counts it."""
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
        """Forget a note that was written: another one counts what the client misses from now on."""
        key: Property = (note.device, note.of)
        if self._notes.get(key) is note:
            del self._notes[key]

    def clear(self) -> None:
        """Forget all notes."""
        self._notes.clear()
