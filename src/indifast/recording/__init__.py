"""Recordings of the messages on an INDI connection: written to a file, read, and replayed."""

from __future__ import annotations

from indifast.recording.fileformat import Direction, Head, Party, RecordingError
from indifast.recording.player import Player
from indifast.recording.reader import Record, Recording
from indifast.recording.summary import Summary, summarize
from indifast.recording.writer import Recorder

__all__ = [
    "Direction", "Head", "Party", "Player", "Record", "Recorder", "Recording", "RecordingError", "Summary", "summarize",
]  # fmt: skip
