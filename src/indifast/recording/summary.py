"""Summary of a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from indifast.protocol.jsonform import moment
from indifast.protocol.vocabulary import NEW_VECTORS, SNOOPED
from indifast.recording.fileformat import Direction, RecordingError
from indifast.recording.reader import Record, Recording

if TYPE_CHECKING:
    from indifast._parser import Element


@dataclass(slots=True)
class PropertySummary:
    """Summary of the messages about one property or, under an empty name, about the device as a whole."""

    messages: int = 0
    frames: int = 0
    """Updates with BLOB content."""
    blob_bytes: int = 0
    """Bytes of BLOB content, decoded."""
    frames_without_content: int = 0
    """Updates whose content was not recorded."""


@dataclass(slots=True)
class Summary:
    """Summary of a recording."""

    path: str
    source: str
    began: datetime
    blobs: bool
    size: int
    """Size of the file in bytes."""
    seconds: float = 0.0
    messages: int = 0
    played: int = 0
    """Messages that a replay sends."""
    skipped: int = 0
    """Invalid messages."""
    said: Counter[str] = field(default_factory=Counter)
    """Messages by sender, for example `driver indi_simulator_ccd`."""
    commands: Counter[str] = field(default_factory=Counter)
    """Messages sent by clients, by tag, as far as the recorder saw them."""
    devices: dict[str, dict[str, PropertySummary]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cut: str | None = None
    """Sentence saying that the recording was cut short, if it was."""
    damage: str | None = None
    """Sentence saying that the recording is damaged, if it is; the summary then covers what comes before that."""

    def add(self, record: Record) -> None:
        """Count a record."""
        head, element = record.head, record.message
        who = f"{head.party.value} {head.label}".strip()
        if element is None:
            self.notes.append(f"lost {who}" if head.direction is Direction.LOST else head.label)
            return
        self.messages += 1
        if head.direction is Direction.FROM:
            self.said[who] += 1
            if not record.played or element.tag in NEW_VECTORS:
                self.commands[element.tag] += 1
            elif element.tag in SNOOPED:
                self.played += 1
                if element.device:
                    self._add_property(element, record.unread)

    def _add_property(self, element: Element, unread: int) -> None:
        properties = self.devices.setdefault(element.device or "", {})
        found = properties.setdefault(element.name or "", PropertySummary())
        found.messages += 1
        if element.attached:
            found.frames_without_content += 1
        elif unread:
            found.frames += 1
            found.blob_bytes += unread
        elif element.blob:
            found.frames += 1
            found.blob_bytes += sum(len(member.data or b"") for member in element.blobs)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as it is written to JSON."""
        return {
            "file": self.path,
            "source": self.source,
            "began": moment(self.began),
            "blobs_recorded": self.blobs,
            "size": self.size,
            "seconds": round(self.seconds, 6),
            "messages": self.messages,
            "played": self.played,
            "skipped": self.skipped,
            "cut": self.cut,
            "damage": self.damage,
            "said": dict(self.said),
            "commands": dict(self.commands),
            "notes": self.notes,
            "devices": {
                device: {
                    name: {
                        "messages": found.messages,
                        "frames": found.frames,
                        "blob_bytes": found.blob_bytes,
                        "frames_without_content": found.frames_without_content,
                    }
                    for name, found in properties.items()
                }
                for device, properties in self.devices.items()
            },
        }


def summarize(path: str, tell: Callable[[Record], None] = lambda record: None) -> Summary:
    """Summarize a recording, up to its end or to where it is damaged.

    Args:
        path: The file.
        tell: Called with each record as it is read.

    Raises:
        OSError: The file can't be read.
        RecordingError: The file is not a recording.
    """
    with Recording(path, contents=False) as recording:
        title = recording.title
        summary = Summary(path, title.source, title.began, title.blobs, recording.size)
        try:
            for record in recording:
                summary.add(record)
                tell(record)
            summary.cut = recording.cut
        except RecordingError as error:
            summary.damage = str(error)
        summary.seconds = recording.seconds
        summary.skipped = recording.skipped
    return summary
