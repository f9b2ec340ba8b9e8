"""What was said on an INDI connection, and when: written to a file, read, and played again."""

from __future__ import annotations

from indifast.recording.fileformat import Direction, Head, Party, RecordingError
from indifast.recording.player import Player
from indifast.recording.reader import Record, Recording
from indifast.recording.summary import Summary, summarize
from indifast.recording.writer import Recorder

__all__ = [
    "Direction", "Head", "Party", "Player", "Record", "Recorder", "Recording", "RecordingError", "Summary", "summarize",
]  # fmt: skip
