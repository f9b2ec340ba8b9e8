"""A program that consists of a BLOB pane with a picture in it, to see what different terminals receive.

With the word `patient`, it waits until the terminal has said how large its cells are, and for its answer, however slow
the terminal is.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import numpy as np
from textual.app import App, ComposeResult
from textual.widgets import Static

from indifast.terminal import graphics
from indifast.terminal.blobpane import BlobPane
from indifast.terminal.preview import Preview


class Alone(App[int]):
    """Shows the pane and a line below it."""

    BINDINGS = [("q", "quit", "Quit")]  # noqa: RUF012 - Textual's way

    def compose(self) -> ComposeResult:
        yield BlobPane("CCD", "CCD1", [("CCD1", "Image")])
        yield Static("below")

    def on_mount(self) -> None:
        frame = np.tile(np.arange(160, dtype=np.uint8), (120, 1))
        pane = self.query_one(BlobPane)
        pane.received("CCD1", frame.tobytes(), ".stream", frame.size, datetime(2026, 1, 2, tzinfo=UTC), [(160, 120)])
        self.query_one(Preview).focus()


if "patient" in sys.argv:
    graphics.PROMPT = graphics.ANSWER = 60.0
    while graphics.cell_size() == (10, 20):
        time.sleep(0.01)
graphics.detect()
raise SystemExit(Alone().run() or 0)
